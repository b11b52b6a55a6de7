"""Charts: points at their places in a file that any browser shows."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lookalike.lsh.settings import SearchSettings
from lookalike.lsh.tuning import Trial
from lookalike.plot import Axis, Line, Panel, draw_recall_curve, frontier, write_svg

SVG = "{http://www.w3.org/2000/svg}"


def circles(path: Path, colour: str) -> list[tuple[float, float]]:
    """Centres of the dots of a colour."""
    found = ElementTree.parse(path).iter(f"{SVG}circle")
    return [
        (float(c.get("cx", "")), float(c.get("cy", ""))) for c in found if c.get("fill") == colour
    ]


def trial(recall: float, microseconds: float) -> Trial:
    return Trial(2, 11, SearchSettings(100, 20), recall, 0.01, microseconds / 1e6)


def test_points_lie_where_linear_and_logarithmic_axes_put_them(tmp_path: Path) -> None:
    panel = Panel(
        "a < b & c",
        Axis("x", 0, 10, [0, 5, 10]),
        Axis("y", 1, 100, [1, 10, 100], logarithmic=True),
        [Line("line", "#123456", [(0, 1), (5, 10), (10, 100)])],
        marker=5,
    )
    write_svg([panel], tmp_path / "c.svg")
    (x0, y0), (x1, y1), (x2, y2) = circles(tmp_path / "c.svg", "#123456")
    assert x0 < x1 < x2 and y0 > y1 > y2
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2), abs=0.11)
    texts = [text.text for text in ElementTree.parse(tmp_path / "c.svg").iter(f"{SVG}text")]
    assert "a < b & c" in texts and "line" in texts and texts.count("10") == 2


def test_a_recall_curve_joins_the_trials_that_no_other_beats(tmp_path: Path) -> None:
    trials = [trial(0.6, 12), trial(0.8, 30), trial(0.7, 40), trial(0.99, 300)]
    assert frontier(trials) == [trials[0], trials[1], trials[3]]
    draw_recall_curve(trials, 0.95, tmp_path / "c.svg", title="recall@10")
    assert len(circles(tmp_path / "c.svg", "#a0b4dc")) == 4
    assert len(circles(tmp_path / "c.svg", "#2c5cc5")) == 3
