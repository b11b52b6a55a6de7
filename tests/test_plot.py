"""Charts: points at their places in a file that any browser shows."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from lookalike.lsh.settings import SearchSettings
from lookalike.lsh.tuning import Trial
from lookalike.plot import draw_recall_curve, frontier

SVG = "{http://www.w3.org/2000/svg}"


def circles(path: Path) -> list[tuple[str | None, ...]]:
    """Centres of the dots."""
    found = ElementTree.parse(path).iter(f"{SVG}circle")
    return [(circle.get("cx"), circle.get("cy")) for circle in found]


def trial(recall: float, microseconds: float) -> Trial:
    return Trial(2, 11, SearchSettings(100, 20), recall, 0.01, microseconds / 1e6)


def test_a_recall_curve_joins_the_trials_that_no_other_beats(tmp_path: Path) -> None:
    trials = [trial(0.6, 12), trial(0.8, 30), trial(0.7, 40), trial(0.99, 300)]
    assert frontier(trials) == [trials[0], trials[1], trials[3]]
    draw_recall_curve(trials, 0.95, tmp_path / "c.svg", title="recall@10")
    dots = circles(tmp_path / "c.svg")
    assert (len(dots), len(set(dots))) == (7, 4)  # those on the curve once more
