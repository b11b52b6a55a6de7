"""Plots: numbers as curves and dots, one PNG each. Their titles state the finding."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lookalike.atomic import atomic_writer
from lookalike.evaluation.metrics import Spread
from reproduction.distortions import KINDS

STYLE = Path(__file__).with_name("paper.mplstyle")
SOFT, OWN, OTHER, SHADE = "#5c6574", "C1", "C0", "#eef1f6"
Curves: TypeAlias = Mapping[str, Mapping[str, NDArray[Any]]]
TITLE_LETTERS = 82


@contextmanager
def canvas(path: Path, title: str = "", height: float = 0.45) -> Iterator[Figure]:
    """A figure in the style sheet, its height as a share of its width; written when left, as a
    PNG. The folder must exist.
    """
    with matplotlib.style.context(STYLE):
        width = matplotlib.rcParams["figure.figsize"][0]
        figure = Figure(figsize=(width, height * width))
        if title:
            text = "\n".join(textwrap.wrap(title, TITLE_LETTERS))
            figure.suptitle(text, x=0.01, ha="left")
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    with atomic_writer(path) as file:
        file.write(buffer.getvalue())


def plot_table(
    path: Path, dataset: str, scores: Mapping[str, Spread], paper: Mapping[str, float], own: str
) -> None:
    """mAP of methods by title, best first, with deviations and the paper's own numbers; `own` is
    drawn to stand out.
    """
    ranked = sorted(scores, key=lambda name: -scores[name].mean)
    best, deviations = ranked[0], any(score.count > 1 for score in scores.values())
    title = f"{dataset}: {best} is best, mAP {scores[best].mean:.3f}"
    if not deviations:
        title += " on one split"
    elif len(ranked) > 1:
        second = ranked[1]
        ahead = scores[best].mean - scores[second].mean
        if ahead <= np.nanmax([scores[best].deviation, scores[second].deviation]):
            title += f"; {second} is within a standard deviation of it"
        else:
            title += f", {ahead:.3f} ahead of {second}"
    with canvas(path, title, 0.16 + 0.036 * len(ranked)) as figure:
        axes = figure.subplots()
        for place, name in enumerate(ranked):
            score, colour = scores[name], OWN if name == own else OTHER
            bar = score.deviation if score.count > 1 else None
            axes.errorbar(score.mean, place, xerr=bar, fmt="o", color=colour, capsize=4)
            if name in paper:
                axes.plot(paper[name], place, "D", color="k", fillstyle="none", markersize=10)
            shown = score.rounded(3)
            axes.text(1.02, place, shown, transform=axes.get_yaxis_transform(), color=colour)
        axes.set_yticks(range(len(ranked)), ranked)
        axes.invert_yaxis()
        axes.set_xlabel("mAP")
        dots = "mean over splits, bar: standard deviation" if deviations else "one split"
        axes.set_title(f"dot: {dots}; hollow diamond: the paper", color=SOFT)


def plot_robustness(path: Path, curves: Curves, levels: Mapping[str, ArrayLike], name: str) -> None:
    """A metric over the level of each distortion: kind -> method -> scores (l,), and the levels
    (l,), ascending; the levels at which results are meant to hold are shaded. The title is about
    the first method.
    """
    first = next(iter(next(iter(curves.values()))))
    columns = 4
    rows = -(-len(curves) // columns)
    with canvas(path, _worst(curves, levels, first, name), 0.1 + 0.25 * rows) as figure:
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        for axes, (kind, scores) in zip(grid.flat, curves.items(), strict=False):
            conf = KINDS[kind]
            if conf.aim is not None:
                axes.axvspan(*conf.aim, color=SHADE)
            axes.axvline(conf.neutral, color=SOFT, linewidth=1, linestyle=":")
            for title, values in scores.items():
                axes.plot(np.asarray(levels[kind]), values, label=title, markersize=4)
            axes.set(title=kind, xlabel=conf.unit)
        for axes in grid[:, 0]:
            axes.set_ylabel(name)
        lines, titles = grid[0, 0].get_legend_handles_labels()
        figure.legend(lines, titles, loc="outside lower center", ncols=3)


def _worst(curves: Curves, levels: Mapping[str, ArrayLike], method: str, name: str) -> str:
    losses = []
    for kind, scores in curves.items():
        at, aim = np.asarray(levels[kind], float), KINDS[kind].aim
        if aim is not None and method in scores:
            within = (at >= aim[0]) & (at <= aim[1])
            lost = scores[method][at == KINDS[kind].neutral][0] - scores[method][within]
            losses.append((float(lost.max()), kind, float(at[within][np.argmax(lost)])))
    lost, kind, level = max(losses)
    if lost <= 0:
        return f"{method} loses no {name} within the levels aimed at (shaded)"
    return (
        f"Within the levels aimed at (shaded), {method} loses at most {lost:.3f} {name}: {kind}, "
        f"level {level:g}"
    )


def plot_feedback(path: Path, precision: ArrayLike, average: ArrayLike, asked: int) -> None:
    """P@20 and mAP, (splits, rounds + 1), over the rounds of feedback; `asked` images are judged in
    each.
    """
    both = {"P@20": np.asarray(precision, float), "mAP": np.asarray(average, float)}
    rounds = np.arange(both["mAP"].shape[1])
    ends = (f"{n} from {v[:, 0].mean():.3f} to {v[:, -1].mean():.3f}" for n, v in both.items())
    title = f"{len(rounds) - 1} rounds of feedback, {asked} answers each: {' and '.join(ends)}"
    with canvas(path, title) as figure:
        axes = figure.subplots()
        for number, (name, values) in enumerate(both.items()):
            mean, deviation = values.mean(0), values.std(0)
            axes.plot(rounds, mean, label=name)
            if len(values) > 1:
                band = mean - deviation, mean + deviation
                axes.fill_between(rounds, *band, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.set(xlabel="rounds of feedback", ylabel="score", xticks=rounds)
        axes.legend(title="one split" if len(both["mAP"]) < 2 else "mean, band: deviation")


def crossing(sizes: ArrayLike, exhaustive: ArrayLike, lsh: ArrayLike) -> float | None:
    """The size from which LSH stays faster, interpolated on straight log-log lines.

    -inf if it is faster at every size, None if it is not at the largest. All (s,), positive, sizes
    ascending.
    """
    x = np.log(np.asarray(sizes, float))
    ahead = np.log(np.asarray(exhaustive, float)) - np.log(np.asarray(lsh, float))
    if ahead[-1] <= 0:
        return None
    behind = np.flatnonzero(ahead <= 0)
    if not behind.size:
        return -math.inf
    i = behind[-1]
    share = -ahead[i] / (ahead[i + 1] - ahead[i])
    return float(np.exp(x[i] + share * (x[i + 1] - x[i])))


def plot_growth(
    path: Path,
    sizes: Sequence[int],
    exhaustive: Sequence[float],
    lsh: Sequence[float],
    recall: Sequence[float],
) -> None:
    """Microseconds per query of both searches over gallery sizes, and LSH's recall, all (s,)."""
    at, ratio = crossing(sizes, exhaustive, lsh), exhaustive[-1] / lsh[-1]
    if at is None:
        title = f"Exhaustive search is still {1 / ratio:.2g} times as fast at {sizes[-1]:,} images"
    else:
        since = f"from {float(f'{at:.1e}'):,.0f} images on" if at > 0 else "at every size measured"
        title = f"LSH is faster {since}; at {sizes[-1]:,} it is {ratio:.2g} times as fast"
    with canvas(path, title) as figure:
        axes = figure.subplots()
        axes.loglog(sizes, np.asarray(exhaustive) / 1e3, label="exhaustive, floats")
        axes.loglog(sizes, np.asarray(lsh) / 1e3, label=f"LSH, recall {min(recall):.2f} or more")
        if at is not None and at > 0:
            axes.axvline(at, color=SOFT, linestyle=":")
        axes.set(xlabel="images in the gallery", ylabel="search time per query, ms")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend()


def plot_buckets(path: Path, sizes: Sequence[NDArray[np.integer]], buckets: int) -> None:
    """Figure 8: how hash tables distribute the gallery among their buckets.

    `sizes` has the items in each bucket for every table, int (b,), with or without empty ones;
    `buckets` is how many a table can have.
    """
    tables = [np.asarray(table)[np.asarray(table) > 0] for table in sizes]
    used = np.array([len(table) for table in tables])
    every = np.concatenate(tables)
    empty, items = 1 - used.mean() / buckets, max(int(table.sum()) for table in tables)
    title = (
        f"{len(tables)} table{'s' * (len(tables) > 1)} of {buckets:,} buckets: {100 * empty:.0f} % "
        f"are empty, the largest holds {every.max():,} of {items:,} images, the median of those in "
        f"use {np.median(every):g}"
    )
    with canvas(path, title) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(2, 1, 1))
        left.hist(every, 2.0 ** np.arange(int(np.log2(every.max())) + 2), log=True, edgecolor="w")
        left.set_xscale("log", base=2)
        left.xaxis.set_major_formatter("{x:,.0f}")
        met = float((every.astype(float) ** 2).sum() / every.sum())
        label = f"an image's own bucket\nholds {met:,.{met < 10:d}f} on average"
        left.axvline(met, color="C1", label=label, marker="")
        left.set(xlabel="images in a bucket", ylabel="buckets, all tables")
        left.legend()
        numbers = np.arange(1, len(tables) + 1)
        middle.barh(numbers, 100 * used / buckets)
        middle.set(xlabel="buckets in use, %", ylabel="table", xlim=(0, 100), yticks=numbers)
        right.barh(numbers, [int(table.max()) for table in tables])
        right.set(xlabel="largest bucket, images", yticks=numbers)
