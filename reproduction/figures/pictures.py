"""Pictures in a figure: shown whole, with a frame, a tick or cross, and a caption below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from lookalike.sheet import shorten
from reproduction.collection import Picture
from reproduction.figures.style import INK, RIGHT, SMALL, SOFT, WRONG

__all__ = ["CROSS", "LETTERS", "TICK", "Captioned", "caption", "mark", "show"]

TICK, CROSS = "\u2713", "\u2717"
LETTERS = 13  # of a caption below a picture an inch wide


@dataclass(frozen=True, eq=False)
class Captioned:
    """A picture, uint8 RGB (h, w, 3) of any size, with the name of its class."""

    picture: Picture
    name: str


def show(axes: Axes, picture: Picture) -> None:
    """The whole picture, at the foot of the axes, without ticks or a frame."""
    axes.imshow(picture)
    axes.set_anchor("S")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def caption(axes: Axes, lines: Sequence[str], *, bold: bool = False) -> None:
    """Below the picture; each line is shortened to the width of an inch."""
    shown = [shorten(text, lambda part: len(part) <= LETTERS) for text in lines]
    weight = "bold" if bold else "normal"
    axes.set_xlabel("\n".join(shown), size=SMALL, color=INK if bold else SOFT, weight=weight)


def mark(axes: Axes, right: bool) -> None:
    """A green frame and a tick, or a red one and a cross."""
    colour = RIGHT if right else WRONG
    axes.spines[:].set(visible=True, color=colour, linewidth=2.5)
    axes.annotate(
        TICK if right else CROSS,
        (1, 1),
        xycoords="axes fraction",
        xytext=(-8, -8),
        textcoords="offset points",
        ha="center",
        va="center",
        size=SMALL,
        color="white",
        weight="bold",
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": colour, "edgecolor": "white"},
    )
