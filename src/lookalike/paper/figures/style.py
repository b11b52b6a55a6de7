"""What all figures share: colours, sizes, titles, labels at the ends of lines, the file.

Sizes are set on each figure, never in matplotlib's global settings. Lengths are inches; a figure is
WIDTH wide, so that its text is 11 pixels high or more where it is shown 1,000 pixels wide.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from lookalike.atomic import atomic_writer

__all__ = [
    "Line",
    "add_axes",
    "chart",
    "headline",
    "label_ends",
    "line",
    "name_axes",
    "note",
    "range_text",
    "save",
    "sheet",
    "spread",
    "title_height",
]

WIDTH = 10.0
DPI = 150
MARGIN = 0.15
INK, SOFT, GRID, SHADE = "#181d26", "#5c6574", "#dde1e8", "#eef1f6"
RIGHT, WRONG = "#1a7f37", "#cf222e"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1b1b")
"""Of Okabe and Ito: told apart with every kind of colour blindness."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
HEAT = "viridis"
TITLE, BODY, SMALL, TINY = 14.0, 11.0, 9.5, 8.5  # points
TITLE_LINE = 0.26
TITLE_LETTERS = 82  # of a line


class Line(NamedTuple):
    """How the i-th line looks; colour and marker change together."""

    colour: str
    marker: str
    dashes: str


def line(number: int) -> Line:
    at = number % len(SERIES)
    return Line(SERIES[at], MARKERS[at], DASHES[number // len(SERIES) % len(DASHES)])


def chart(height: float) -> Figure:
    """For axes that matplotlib places."""
    layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=0.1, wspace=0.0, hspace=0.0)
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout=layout)


def sheet(height: float) -> Figure:
    """For axes that `add_axes` places."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose upper left corner is `left` and `top` from that of a sheet."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def note(
    figure: Figure,
    left: float,
    top: float,
    text: str,
    *,
    size: float = SMALL,
    colour: str = SOFT,
    bold: bool = False,
    across: Literal["left", "center"] = "left",
    down: Literal["top", "center", "bottom"] = "top",
) -> None:
    """Text on a sheet; (left, top) is that point of its box which `across` and `down` name."""
    wide, high = figure.get_size_inches()
    figure.text(
        left / wide,
        1 - top / high,
        text,
        size=size,
        color=colour,
        weight="bold" if bold else "normal",
        ha=across,
        va=down,
    )


def _wrapped(text: str) -> str:
    """In as few lines as hold it, of like length."""
    lines = textwrap.wrap(text, TITLE_LETTERS)
    for letters in range(TITLE_LETTERS, 0, -1):
        shorter = textwrap.wrap(text, letters)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)


def title_height(text: str) -> float:
    """What a title takes from the top of a sheet, with the space below it."""
    return MARGIN + TITLE_LINE * (_wrapped(text).count("\n") + 1) + 0.06


def headline(figure: Figure, text: str) -> None:
    """The finding, as title at the upper left; wrapped."""
    wide, high = figure.get_size_inches()
    placed = {} if figure.get_layout_engine() else {"y": 1 - MARGIN / high}
    figure.suptitle(
        _wrapped(text),
        x=MARGIN / wide,
        ha="left",
        va="top",
        size=TITLE,
        weight="bold",
        color=INK,
        **placed,
    )


def name_axes(axes: Axes, x: str, y: str, *, title: str = "", size: float = BODY) -> None:
    """Names with units, a light grid, no box."""
    axes.set_xlabel(x, size=size, color=INK)
    axes.set_ylabel(y, size=size, color=INK)
    if title:
        axes.set_title(title, size=size, color=SOFT, loc="left")
    axes.tick_params(labelsize=min(size, SMALL), colors=SOFT, which="both", length=3, color=GRID)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def spread(wanted: ArrayLike, gap: float) -> NDArray[np.float64]:
    """Places (n,) within 0..1 nearest to the wanted ones (least squares) and `gap` apart.

    Their order is that of the wanted ones. Too many to fit begin at 0 and pass 1.
    """
    given = np.asarray(wanted, np.float64)
    order = np.argsort(given, kind="stable")
    steps = gap * np.arange(len(given))
    blocks: list[tuple[float, int]] = []  # mean and length: isotonic regression
    for value in (given[order] - steps).tolist():
        mean, length = value, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean = (mean * length + before * count) / (length + count)
            length += count
        blocks.append((mean, length))
    free = np.concatenate([np.full(length, mean) for mean, length in blocks] or [given])
    places = np.empty(len(given))
    places[order] = np.clip(free, 0, max(0, 1 - gap * (len(given) - 1))) + steps
    return places


def label_ends(
    axes: Axes, values: Sequence[float], labels: Sequence[str], colours: Sequence[str], gap: float
) -> None:
    """A label right of the axes for each line that ends at a value of the y axis.

    Call it when the limits are final. `gap` between labels is a share of the axes' height.
    """
    ends = np.column_stack([np.zeros(len(values)), values])
    wanted = axes.transAxes.inverted().transform(axes.transData.transform(ends))[:, 1]
    for place, label, colour in zip(spread(wanted, gap), labels, colours, strict=True):
        axes.text(
            1.02,
            place,
            label,
            transform=axes.transAxes,
            va="center",
            size=BODY,
            color=colour,
            weight="bold",
        )


def range_text(low: float, high: float) -> str:
    """ "0.31 to 0.78", with as many decimals (2 to 4) as show a difference."""
    for decimals in (2, 3, 4):
        texts = f"{low:.{decimals}f}", f"{high:.{decimals}f}"
        if texts[0] != texts[1]:
            return f"{texts[0]} to {texts[1]}"
    return f"{low:.4f} throughout"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG in one go; equal figures give equal bytes. The folder must exist."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with atomic_writer(path) as file:
        file.write(buffer.getvalue())
