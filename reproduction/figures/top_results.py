"""Searches as rows of pictures: Figure 10, and the queries that went worst."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reproduction.figures.pictures import LETTERS, Captioned, caption, mark, show
from reproduction.figures.style import (
    MARGIN,
    WIDTH,
    add_axes,
    headline,
    note,
    save,
    sheet,
    title_height,
)

__all__ = ["Search", "draw_failures", "draw_top_results", "failures_figure", "top_results_figure"]

GAP = 0.1
ASIDE = 0.3  # between a query and its results
HEADING = 0.28
CAPTION_LINE = 0.165


@dataclass(frozen=True, eq=False)
class Search:
    """A query and the first results, best first. A result of the query's class is right."""

    query: Captioned
    results: tuple[Captioned, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        return tuple(result.name == self.query.name for result in self.results)


def top_results_figure(searches: Sequence[tuple[str, Search]]) -> Figure:
    """One row for each (name of the change, search of the changed query); all of equal length."""
    count = _results([search for _, search in searches])
    counts = [f"{sum(search.right)} ({change})" for change, search in searches]
    found = ", ".join(part.replace(" ", "\u00a0") for part in counts)
    title = f"Right among the first {count}: {found}"
    notes = [[*textwrap.wrap(change, LETTERS), search.query.name] for change, search in searches]
    return _rows(title, [search for _, search in searches], notes)


def draw_top_results(searches: Sequence[tuple[str, Search]], path: Path) -> None:
    """Figure 10: the first results of one query under several changes, as a PNG.

    `searches` are (name of the change, such as "rotated 30°", search of the changed query).
    """
    save(top_results_figure(searches), path)


def failures_figure(
    searches: Sequence[Search], precision: ArrayLike, queries: int, n: int = 10
) -> Figure:
    """As `draw_failures`."""
    values = np.asarray(precision, np.float64)
    _results(searches)
    if len(values) != len(searches):
        raise ValueError(f"{len(values)} precisions for {len(searches)} searches")
    span = f"{values.min():.2f}"
    if values.max() > values.min():
        span += f" to {values.max():.2f}"
    title = f"The {len(searches)} worst of {queries:,} queries: P@{n} {span}"
    if commonest := _commonest_mistake(searches):
        title += f"; {commonest}"
    notes = [
        [search.query.name, f"P@{n} {value:.2f}"]
        for search, value in zip(searches, values.tolist(), strict=True)
    ]
    return _rows(title, searches, notes)


def draw_failures(
    searches: Sequence[Search], precision: ArrayLike, queries: int, path: Path, n: int = 10
) -> None:
    """The worst of `queries` queries with their first results, as a PNG.

    `precision` (s,) is P@n of each search; n may be more than the results that are shown.
    """
    save(failures_figure(searches, precision, queries, n), path)


def _results(searches: Sequence[Search]) -> int:
    """How many results each search shows. ValueError if they differ, or for none."""
    counts = sorted({len(search.results) for search in searches})
    if len(counts) != 1 or not counts[0]:
        raise ValueError(f"searches of {counts} results; all need the same number, at least 1")
    return counts[0]


def _commonest_mistake(searches: Sequence[Search]) -> str:
    """The wrong class most often shown, and for which; "" if no class stands out."""
    mistakes = Counter(
        (result.name, search.query.name)
        for search in searches
        for result, right in zip(search.results, search.right, strict=True)
        if not right
    )
    if not mistakes:
        return ""
    (found, wanted), times = mistakes.most_common(1)[0]
    if times == 1 or 10 * times < mistakes.total():
        return ""
    found, wanted = (f"class {name}" if name.isdigit() else name for name in (found, wanted))
    return f"{found} in answer to {wanted} are {times} of {mistakes.total()} mistakes shown"


def _rows(title: str, searches: Sequence[Search], notes: Sequence[Sequence[str]]) -> Figure:
    count = len(searches[0].results)
    side = (WIDTH - 2 * MARGIN - ASIDE - (count - 1) * GAP) / (count + 1)
    start = title_height(title) + HEADING
    heights = [side * _tallest(search) for search in searches]
    captions = 0.15 + CAPTION_LINE * max(map(len, notes))
    figure = sheet(start + sum(heights) + len(searches) * captions)
    headline(figure, title)
    left = MARGIN + side + ASIDE
    note(figure, MARGIN, start - HEADING, "query")
    note(figure, left, start - HEADING, "results, most alike first")
    top = start
    for search, lines, height in zip(searches, notes, heights, strict=True):
        axes = add_axes(figure, MARGIN, top, side, height)
        show(axes, search.query.picture)
        caption(axes, lines, bold=True)
        for number, (result, right) in enumerate(zip(search.results, search.right, strict=True)):
            axes = add_axes(figure, left + number * (side + GAP), top, side, height)
            show(axes, result.picture)
            caption(axes, [result.name])
            mark(axes, right)
        top += height + captions
    return figure


def _tallest(search: Search) -> float:
    """Height of a row for pictures of width 1; tall ones are shown narrower beyond a square."""
    shapes = [shown.picture.shape for shown in (search.query, *search.results)]
    return min(1.0, max(float(height / width) for height, width, _ in shapes))
