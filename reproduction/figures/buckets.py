"""Figure 8: how the hash tables share out the gallery among their buckets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reproduction.figures.style import (
    BODY,
    INK,
    SERIES,
    SMALL,
    chart,
    headline,
    name_axes,
    save,
)

__all__ = ["buckets_figure", "draw_buckets"]

Sizes = Sequence[NDArray[np.integer]]


def buckets_figure(sizes: Sizes, buckets: int) -> Figure:
    """As `draw_buckets`. ValueError for a table without items, or more buckets than there are."""
    tables = [np.asarray(table)[np.asarray(table) > 0] for table in sizes]
    if not tables or min(map(len, tables)) < 1 or max(map(len, tables)) > buckets:
        counts = [len(table) for table in tables]
        raise ValueError(f"buckets in use {counts}; each table needs from 1 to {buckets}")
    every = np.concatenate(tables)
    empty = 1 - len(every) / (buckets * len(tables))
    items = max(int(table.sum()) for table in tables)
    figure = chart(4.3)
    headline(
        figure,
        f"{_some(len(tables), 'table')} of {buckets:,} buckets: {100 * empty:.0f} % are empty, the "
        f"largest holds {every.max():,} of {items:,} images, the median of those in use "
        f"{np.median(every):g}",
    )
    left, middle, right = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
    _histogram(left, every)
    numbers = np.arange(1, len(tables) + 1)
    _per_table(middle, numbers, np.array([100 * len(t) / buckets for t in tables]), "in use, %")
    middle.set_xlim(0, 104)
    middle.set_ylabel("table", size=BODY, color=INK)
    _per_table(right, numbers, np.array([int(t.max()) for t in tables]), "largest bucket, images")
    right.set_xlim(0, float(every.max()) * 1.12)
    right.tick_params(labelleft=False)
    return figure


def draw_buckets(sizes: Sizes, buckets: int, path: Path) -> None:
    """Figure 8 as a PNG: sizes of buckets, share of them in use and largest one by table.

    `sizes` has the items in each bucket for every table, int (b,), with or without empty ones;
    `buckets` is how many a table can have, 2 ** key bits.
    """
    save(buckets_figure(sizes, buckets), path)


def _some(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _histogram(axes: Axes, sizes: NDArray[np.integer]) -> None:
    """Sizes in bins that double: 1, 2-3, 4-7 ..."""
    last = int(np.log2(sizes.max())) + 1
    edges = 2.0 ** np.arange(last + 1)
    counts, _ = np.histogram(sizes, edges)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SERIES[0], edgecolor="white")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(0.7, counts.max() * 12)
    name_axes(axes, "images in a bucket", "buckets, all tables")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for start, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True):
        if count:
            middle, above = start * 2**0.5, count * 1.15
            page = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(
                middle, above, f"{count:,}", ha="center", size=SMALL, color=INK, bbox=page, zorder=3
            )
    met = float((sizes.astype(np.float64) ** 2).sum() / sizes.sum())
    axes.axvline(met, color=SERIES[1], linewidth=2)
    beyond = np.log2(met) > 0.5 * last  # the middle: the text goes to the left then
    axes.annotate(
        f"an image's own bucket\nholds {met:,.{met < 10:d}f} on average",
        (met, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if beyond else 6, 0),
        textcoords="offset points",
        ha="right" if beyond else "left",
        va="top",
        size=SMALL,
        color=SERIES[1],
    )


def _per_table(
    axes: Axes, numbers: NDArray[np.integer], values: NDArray[np.number], name: str
) -> None:
    axes.hlines(numbers, 0, values, color=SERIES[0], linewidth=1.5, alpha=0.5)
    axes.plot(values, numbers, "o", color=SERIES[0], markersize=6)
    name_axes(axes, name, "")
    axes.set_ylim(len(numbers) + 0.6, 0.4)
    step = max(1, -(-len(numbers) // 12))
    axes.set_yticks(numbers[::step])
    axes.grid(axis="y", visible=False)
