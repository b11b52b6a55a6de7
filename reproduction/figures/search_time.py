"""Search time over the size of the gallery: from which size on hashing pays."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from reproduction.figures.style import (
    BODY,
    INK,
    SOFT,
    chart,
    headline,
    label_ends,
    line,
    name_axes,
    save,
)

__all__ = ["crossing", "draw_search_time", "search_time_figure"]


def crossing(sizes: ArrayLike, exhaustive: ArrayLike, lsh: ArrayLike) -> float | None:
    """The size from which LSH stays the faster, between measured ones on straight log-log lines.

    -inf if it is the faster at every size, None if it is not at the largest. All (s,), positive,
    sizes ascending.
    """
    x = np.log(_positive(sizes))
    ahead = np.log(_positive(exhaustive)) - np.log(_positive(lsh))
    if ahead[-1] <= 0:
        return None
    behind = np.flatnonzero(ahead <= 0)
    if not behind.size:
        return -math.inf
    i = behind[-1]
    share = -ahead[i] / (ahead[i + 1] - ahead[i])
    return float(np.exp(x[i] + share * (x[i + 1] - x[i])))


def search_time_figure(
    sizes: ArrayLike, exhaustive: ArrayLike, lsh: ArrayLike, recall: ArrayLike | None = None
) -> Figure:
    """As `draw_search_time`."""
    x, float_ms, lsh_ms = _positive(sizes), 1e3 * _positive(exhaustive), 1e3 * _positive(lsh)
    if not len(x) == len(float_ms) == len(lsh_ms):
        raise ValueError(f"{len(x)} sizes for {len(float_ms)} and {len(lsh_ms)} times")
    at = crossing(x, float_ms, lsh_ms)
    figure = chart(4.8)
    headline(figure, _title(x, float_ms, lsh_ms, at))
    axes = figure.subplots()
    for number, times in enumerate((float_ms, lsh_ms)):
        look = line(number)
        axes.loglog(x, times, color=look.colour, marker=look.marker, linewidth=2.2, markersize=7)
    name_axes(axes, "images in the gallery", "search time per query, ms")
    for axis, text in ((axes.xaxis, "{x:,.0f}"), (axes.yaxis, "{x:g}")):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(text)
        axis.set_minor_formatter(NullFormatter())
    if at is not None and math.isfinite(at):
        time = float(np.exp(np.interp(np.log(at), np.log(x), np.log(lsh_ms))))
        axes.axvline(at, color=SOFT, linewidth=1.2, linestyle=":")
        axes.plot([at], [time], "o", markersize=13, fillstyle="none", color=INK, markeredgewidth=2)
        late = at**2 > x[0] * x[-1]  # beyond the middle: the text goes to the left then
        axes.annotate(
            f"equal at {_rounded(at)} images",
            (at, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if late else 6, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            size=BODY,
            color=INK,
        )
    axes.set_ylim(axes.get_ylim())
    names = ["exhaustive, floats", "LSH"]
    if recall is not None:
        names[1] += f"\nrecall {np.min(recall):.2f} or more"
    label_ends(axes, [float_ms[-1], lsh_ms[-1]], names, [line(0).colour, line(1).colour], gap=0.13)
    return figure


def draw_search_time(
    sizes: ArrayLike,
    exhaustive: ArrayLike,
    lsh: ArrayLike,
    path: Path,
    recall: ArrayLike | None = None,
) -> None:
    """Seconds per query of both searches over gallery sizes, all (s,), as a PNG on log-log axes.

    `recall` (s,), of LSH against exhaustive search: the least of it is written at its line.
    """
    save(search_time_figure(sizes, exhaustive, lsh, recall), path)


def _positive(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not numbers.size or not (numbers > 0).all():
        raise ValueError("sizes and times must be positive numbers, at least one of each")
    return numbers


def _rounded(size: float) -> str:
    """Two significant digits: measured times carry no more."""
    return f"{float(f'{size:.1e}'):,.0f}"


def _title(
    sizes: NDArray[np.float64],
    exhaustive: NDArray[np.float64],
    lsh: NDArray[np.float64],
    at: float | None,
) -> str:
    ratio = exhaustive[-1] / lsh[-1]
    if at is None:
        return (
            f"Exhaustive search is still the faster at {sizes[-1]:,.0f} images, "
            f"{1 / ratio:.2g} times"
        )
    since = "at every size measured" if math.isinf(at) else f"from {_rounded(at)} images on"
    return f"LSH is the faster {since}; at {sizes[-1]:,.0f} it is {ratio:.2g} times as fast"
