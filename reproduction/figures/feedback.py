"""What relevance feedback gains in each round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reproduction.figures.style import (
    SMALL,
    SOFT,
    chart,
    headline,
    label_ends,
    line,
    name_axes,
    save,
)

__all__ = ["draw_feedback", "feedback_figure"]


def feedback_figure(
    precision: ArrayLike, mean_average_precision: ArrayLike, asked: int, n: int = 20
) -> Figure:
    """As `draw_feedback`."""
    values = [np.atleast_2d(np.asarray(v, float)) for v in (precision, mean_average_precision)]
    if values[0].shape != values[1].shape or values[0].shape[1] < 2:
        raise ValueError(
            f"P@{n} of shape {values[0].shape} and mAP of {values[1].shape}; both must be "
            "(splits, rounds + 1), with a round at least"
        )
    names = (f"P@{n}", "mAP")
    rounds = np.arange(values[0].shape[1])
    figure = chart(4.4)
    changes = " and ".join(
        f"{name} from {v[:, 0].mean():.3f} to {v[:, -1].mean():.3f}"
        for name, v in zip(names, values, strict=True)
    )
    gained = all(v[:, -1].mean() > v[:, 0].mean() for v in values)
    times = "A round" if len(rounds) == 2 else f"{len(rounds) - 1} rounds"
    headline(
        figure,
        f"{times} of feedback, {asked} answers each, {'raise' if gained else 'take'} {changes}"
        if len(rounds) > 2
        else f"{times} of feedback, {asked} answers, {'raises' if gained else 'takes'} {changes}",
    )
    axes = figure.subplots()
    for number, scores in enumerate(values):
        look, mean, deviation = line(number), scores.mean(0), scores.std(0)
        if len(scores) > 1:
            band = mean - deviation, mean + deviation
            axes.fill_between(rounds, *band, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(rounds, mean, color=look.colour, marker=look.marker, linewidth=2.2, markersize=7)
    name_axes(axes, "rounds of feedback", "score")
    axes.set_xticks(rounds)
    low = min(float(v.min()) for v in values)
    axes.set_ylim(max(0.0, low - 0.05), 1.01)
    if len(values[0]) > 1:
        axes.text(
            *(0.98, 0.04),
            f"mean of {len(values[0])} splits; band: standard deviation",
            transform=axes.transAxes,
            ha="right",
            size=SMALL,
            color=SOFT,
        )
    ends = [float(v[:, -1].mean()) for v in values]
    label_ends(axes, ends, names, [line(i).colour for i in range(2)], gap=0.08)
    return figure


def draw_feedback(
    precision: ArrayLike,
    mean_average_precision: ArrayLike,
    asked: int,
    path: Path,
    n: int = 20,
) -> None:
    """P@n and mAP after each round, round 0 being the search itself, as a PNG.

    Both are (splits, rounds + 1), or (rounds + 1,) of one split; `asked` is how many results of a
    round a person judges.
    """
    save(feedback_figure(precision, mean_average_precision, asked, n), path)
