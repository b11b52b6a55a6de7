"""Draw recall against speed from what ``ann.py`` measured.

    python benchmarks/plot.py benchmarks/results/ann-deep216k.json

Writes an SVG beside each file; needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

__all__ = ["draw"]

LOWEST_RECALL = 0.6
COLOURS = ("#c1272d", "#e08214", "#7b3294", "#1b1b1b", "#4d4d4d", "#2166ac", "#5ab4ac", "#1b7837")
OWN = {
    "ours, curve": COLOURS[0],
    "ours, codes only": COLOURS[1],
    "ours, the paper's scheme": COLOURS[2],
}
SINGLE = ("ours, default", "ours, tuned")
LINES = ("-", "--", "-.", ":")


def draw(result: dict[str, Any], path: Path) -> None:
    """One line per method through its measured settings, upper right is better."""
    with matplotlib.rc_context({"svg.hashsalt": "lookalike", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
        names = list(dict.fromkeys(point["method"] for point in result["points"]))
        others = [name for name in names if name not in OWN and name not in SINGLE]
        for name in names:
            points = [p for p in result["points"] if p["method"] == name]
            _line(axes, name, points, others)
        axes.axvline(result["target_recall"], color="#999999", linewidth=0.8, linestyle=":")
        axes.set(
            xlim=(LOWEST_RECALL, 1.005),
            yscale="log",
            xlabel=f"recall@{result['k']}",
            ylabel="queries per second, one thread",
            title=f"{result['set']}: {result['items']:,} vectors of {result['dim']}",
        )
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _line(axes: Axes, name: str, points: list[dict[str, Any]], others: list[str]) -> None:
    points = sorted((p for p in points if p["recall"] >= LOWEST_RECALL), key=lambda p: p["recall"])
    if not points:
        return
    x, y = [p["recall"] for p in points], [1e6 / p["us"] for p in points]
    if name in SINGLE:
        axes.plot(x, y, "*" if "tuned" in name else "P", color=COLOURS[0], markersize=9, label=name)
        return
    if name in OWN:
        colour, style, width = OWN[name], "-", 2.0
    else:
        at = others.index(name)
        colour, style, width = COLOURS[3 + at % 5], LINES[at // 5], 1.2
    axes.plot(x, y, style, marker=".", color=colour, linewidth=width, label=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        draw(json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
