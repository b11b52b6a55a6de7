"""A column of the paper's tables as dots: every method, its spread, and the paper's own number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from reproduction.figures.style import (
    BODY,
    INK,
    SERIES,
    SMALL,
    SOFT,
    chart,
    headline,
    name_axes,
    save,
)

__all__ = ["MethodScore", "draw_table", "table_figure"]


@dataclass(frozen=True)
class MethodScore:
    """A row.

    Attributes:
        name: of the method.
        mean, deviation: over the splits; the deviation of a single one is NaN.
        paper: the number in the paper; None: it has none.
        own: whether the project's method, drawn to stand out.
    """

    name: str
    mean: float
    deviation: float
    paper: float | None = None
    own: bool = False

    @property
    def whisker(self) -> float | None:
        """The deviation, if there is one."""
        return None if math.isnan(self.deviation) else self.deviation

    def __str__(self) -> str:
        told = f"{self.mean:.3f}"
        return told if self.whisker is None else f"{told} \u00b1 {self.whisker:.3f}"


def table_figure(scores: Sequence[MethodScore], dataset: str, measure: str = "mAP") -> Figure:
    """As `draw_table`."""
    if not scores:
        raise ValueError("a table needs a method at least")
    ranked = sorted(scores, key=lambda score: -score.mean)
    figure = chart(0.36 * len(ranked) + 1.7)
    headline(figure, f"{dataset}: {_finding(ranked, measure)}")
    axes = figure.subplots()
    for row, score in enumerate(ranked):
        colour = SERIES[1] if score.own else SERIES[0]
        axes.errorbar(
            score.mean,
            row,
            xerr=score.whisker,
            fmt="o",
            color=colour,
            markersize=7,
            capsize=4,
            linewidth=2,
        )
        if score.paper is not None:
            axes.plot(
                *(score.paper, row),
                "D",
                markersize=11,
                markerfacecolor="none",
                markeredgecolor=INK,
                markeredgewidth=1.5,
            )
        axes.text(
            *(1.02, row),
            str(score),
            transform=axes.get_yaxis_transform(),
            va="center",
            size=SMALL,
            color=colour,
        )
    name_axes(axes, measure, "")
    axes.set_yticks(range(len(ranked)), [score.name for score in ranked])
    axes.tick_params(axis="y", labelsize=BODY, labelcolor=INK, length=0)
    for label, score in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_fontweight("bold" if score.own else "normal")
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    paper = "; hollow diamond: the paper" if any(s.paper is not None for s in ranked) else ""
    spread = any(score.whisker is not None for score in ranked)
    dots = "dot: mean over splits, whiskers: standard deviation" if spread else "dot: one split"
    axes.set_title(
        f"{dots}{paper}",
        loc="left",
        size=SMALL,
        color=SOFT,
    )
    return figure


def _finding(ranked: list[MethodScore], measure: str) -> str:
    best = ranked[0]
    text = f"{best.name} is best, {measure} {best.mean:.3f}"
    if len(ranked) == 1:
        return text
    second = ranked[1]
    ahead = best.mean - second.mean
    deviations = [each.whisker for each in (best, second) if each.whisker is not None]
    if not deviations:
        return f"{text} on one split, {second.name} {second.mean:.3f}"
    if ahead <= max(deviations):
        return f"{text}; {second.name} is within a standard deviation of it"
    return f"{text}, {ahead:.3f} ahead of {second.name}"


def draw_table(
    scores: Sequence[MethodScore], dataset: str, path: Path, measure: str = "mAP"
) -> None:
    """Methods from the best down, with standard deviations and the paper's numbers, as a PNG."""
    save(table_figure(scores, dataset, measure), path)
