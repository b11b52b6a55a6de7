"""How retrieval suffers when queries are distorted: small multiples, one for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reproduction.figures.style import (
    BODY,
    INK,
    SHADE,
    SMALL,
    SOFT,
    chart,
    headline,
    label_ends,
    line,
    name_axes,
    save,
)

__all__ = ["DistortionCurves", "draw_robustness", "robustness_figure"]

COLUMNS = 3
PANEL = 2.6


@dataclass(frozen=True, eq=False)
class DistortionCurves:
    """Scores of methods under one kind of distortion.

    ValueError if a curve has another length than the levels, or the levels lack the neutral one or
    any of the aim.

    Attributes:
        kind: such as "rotation".
        unit: of the levels, such as "degrees".
        levels: ascending, (l,).
        scores: by method, (l,) each.
        neutral: the level of no change.
        aim: first and last level at which the system is meant to hold.
    """

    kind: str
    unit: str
    levels: NDArray[np.floating]
    scores: Mapping[str, NDArray[np.floating]]
    neutral: float
    aim: tuple[float, float]

    def __post_init__(self) -> None:
        for method, scores in self.scores.items():
            if scores.shape != self.levels.shape:
                raise ValueError(
                    f"{self.kind}: {len(scores)} scores of {method} for {len(self.levels)} levels"
                )
        if self.neutral not in self.levels or not self.aimed.any():
            raise ValueError(
                f"{self.kind}: levels {self.levels.tolist()} need the neutral one, {self.neutral}, "
                f"and one within {self.aim}"
            )

    @property
    def aimed(self) -> NDArray[np.bool_]:
        """Which levels are within the aim, (l,)."""
        return (self.levels >= self.aim[0]) & (self.levels <= self.aim[1])

    def worst(self, method: str) -> tuple[float, float]:
        """What a method loses at most within the aim, and at which level."""
        lost = self.scores[method][self.levels == self.neutral][0] - self.scores[method]
        at = np.flatnonzero(self.aimed)[np.argmax(lost[self.aimed])]
        return float(lost[at]), float(self.levels[at])


def robustness_figure(curves: Sequence[DistortionCurves], measure: str = "mAP") -> Figure:
    """As `draw_robustness`."""
    methods = list(dict.fromkeys(method for panel in curves for method in panel.scores))
    rows = -(-len(curves) // COLUMNS)
    columns = min(len(curves), COLUMNS)
    figure = chart(rows * PANEL + 0.9)
    headline(figure, _title(curves, methods[0], measure))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    low = min(float(scores.min()) for panel in curves for scores in panel.scores.values())
    high = max(float(scores.max()) for panel in curves for scores in panel.scores.values())
    low, high = max(-0.02, low - 0.05), min(1.03, high + 0.05)
    for number, axes in enumerate(grid.flat):
        if number < len(curves):
            _panel(axes, curves[number], methods, measure if number % columns == 0 else "")
            axes.set_ylim(low, high)
        else:
            axes.set_axis_off()
    last = curves[columns - 1].scores
    label_ends(
        grid[0, -1],
        [float(scores[-1]) for scores in last.values()],
        list(last),
        [line(methods.index(method)).colour for method in last],
        gap=0.11,
    )
    figure.supxlabel("shaded: levels aimed at; dotted: no change", size=SMALL, color=SOFT)
    return figure


def draw_robustness(curves: Sequence[DistortionCurves], path: Path, measure: str = "mAP") -> None:
    """Scores over the level of each distortion, the levels aimed at shaded, as a PNG.

    The title is about the first method of the first curves. Up to 7 methods differ in colour.
    """
    save(robustness_figure(curves, measure), path)


def _title(curves: Sequence[DistortionCurves], method: str, measure: str) -> str:
    found = [(*panel.worst(method), panel) for panel in curves if method in panel.scores]
    lost, level, panel = max(found, key=lambda item: item[0])
    if lost <= 0:
        return f"{method} loses no {measure} within the levels aimed at"
    return (
        f"Within the levels aimed at, {method} loses at most {lost:.3f} {measure}: "
        f"{panel.kind}, level {level:g}"
    )


def _panel(axes: Axes, curves: DistortionCurves, methods: list[str], measure: str) -> None:
    axes.axvspan(*curves.aim, color=SHADE, linewidth=0)
    axes.axvline(curves.neutral, color=SOFT, linewidth=1, linestyle=":")
    for method, scores in curves.scores.items():
        look = line(methods.index(method))
        axes.plot(
            curves.levels,
            scores,
            look.dashes,
            color=look.colour,
            marker=look.marker,
            markersize=4.5,
            linewidth=1.8,
        )
    name_axes(axes, curves.unit, measure)
    axes.set_title(curves.kind, size=BODY, color=INK, weight="bold", loc="left")
