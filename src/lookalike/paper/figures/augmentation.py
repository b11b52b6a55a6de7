"""Figure 3: what training does to a picture, each method at full strength and some draws of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lookalike.paper.collection import Picture
from lookalike.paper.figures.pictures import caption, show
from lookalike.paper.figures.style import chart, save

__all__ = ["augmentation_figure", "draw_augmentation"]

COLUMNS = 5


def augmentation_figure(panels: Sequence[tuple[str, Picture]]) -> Figure:
    """Names and pictures, row by row."""
    rows = -(-len(panels) // COLUMNS)
    figure = chart(1.6 * rows)
    for number, (name, picture) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        show(axes, picture)
        caption(axes, [name])
    return figure


def draw_augmentation(panels: Sequence[tuple[str, Picture]], path: Path) -> None:
    save(augmentation_figure(panels), path)
