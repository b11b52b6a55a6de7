"""Plots: numbers as curves and dots, one PNG each; none without numbers. Their titles state the
finding.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lookalike.atomic import atomic_writer
from lookalike.evaluation.metrics import spread
from lookalike.lsh import LSHIndex
from reproduction.confs import DISTORTIONS, PAPER, ROBUST, TABLES
from reproduction.distortions import KINDS
from reproduction.results import Results
from reproduction.tables import altered, growth

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


def plot_table(path: Path, results: Results, name: str) -> None:
    """mAP of the rows of the tables, best first, with deviations and the paper's own numbers; ours
    is drawn to stand out.
    """
    titles = results.get(name, "titles") or {}
    splits = {row: [each["mAP"] for _, each in results.seeds(name, "paper", row)] for row in TABLES}
    scores = {titles[row]: spread(values) for row, values in splits.items() if values}
    if not scores:
        return
    printed = {titles.get(row): values.get("mAP") for row, values in PAPER.get(name, {}).items()}
    ranked = sorted(scores, key=lambda name: -scores[name].mean)
    best, deviations = ranked[0], any(score.count > 1 for score in scores.values())
    title = f"{name}: {best} is best, mAP {scores[best].mean:.3f}"
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
        for place, method in enumerate(ranked):
            score, colour = scores[method], OWN if method == titles.get("ours") else OTHER
            bar = score.deviation if score.count > 1 else None
            axes.errorbar(score.mean, place, xerr=bar, fmt="o", color=colour, capsize=4)
            if (paper := printed.get(method)) is not None:
                axes.plot(paper, place, "D", color="k", fillstyle="none", markersize=10)
            shown = score.rounded(3)
            axes.text(1.02, place, shown, transform=axes.get_yaxis_transform(), color=colour)
        axes.set_yticks(range(len(ranked)), ranked)
        axes.invert_yaxis()
        axes.set_xlabel("mAP")
        dots = "mean over splits, bar: standard deviation" if deviations else "one split"
        axes.set_title(f"dot: {dots}; hollow diamond: the paper", color=SOFT)


def plot_robustness(path: Path, results: Results, name: str, metric: str = "P@10") -> None:
    """A metric over each distortion's levels that all splits have, the mean of the splits; the
    levels at which results are meant to hold are shaded. The title is about the first method.
    """
    splits = {row: [*altered(results, name, row).values()] for row in ROBUST}
    every = [each[metric] for splits_of in splits.values() for each in splits_of]
    if not every:
        return
    levels = {
        kind: [at for at in sorted(planned) if all(str(at) in each[kind] for each in every)]
        for kind, planned in DISTORTIONS.items()
    }
    curves = {
        kind: {
            results.get(name, "titles", row): np.mean(
                [[each[metric][kind][str(at)] for at in known] for each in splits_of], axis=0
            )
            for row, splits_of in splits.items()
            if splits_of
        }
        for kind, known in levels.items()
    }
    first = next(iter(curves["rotation"]))
    columns = 4
    rows = -(-len(curves) // columns)
    with canvas(path, _worst(curves, levels, first, metric), 0.1 + 0.25 * rows) as figure:
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
            axes.set_ylabel(metric)
        lines, titles = grid[0, 0].get_legend_handles_labels()
        figure.legend(lines, titles, loc="outside lower center", ncols=3)


def _worst(curves: Curves, levels: Mapping[str, ArrayLike], method: str, metric: str) -> str:
    losses = []
    for kind, scores in curves.items():
        at, aim = np.asarray(levels[kind], float), KINDS[kind].aim
        if aim is not None:
            within = (at >= aim[0]) & (at <= aim[1])
            lost = scores[method][at == KINDS[kind].neutral][0] - scores[method][within]
            losses.append((float(lost.max()), kind, float(at[within][np.argmax(lost)])))
    lost, kind, level = max(losses)
    if lost <= 0:
        return f"{method} loses no {metric} within the levels aimed at (shaded)"
    return (
        f"Within the levels aimed at (shaded), {method} loses at most {lost:.3f} {metric}: {kind}, "
        f"level {level:g}"
    )


def plot_feedback(path: Path, results: Results, name: str) -> None:
    """P@20 and mAP over the rounds of feedback, with a band of their deviation over the splits."""
    splits = [value for _, value in results.seeds(name, "feedback")]
    if not splits:
        return
    both = {
        metric: np.array([each[f"{metric} ranking"] for each in splits])
        for metric in ("P@20", "mAP")
    }
    rounds = np.arange(both["mAP"].shape[1])
    ends = (f"{n} from {v[:, 0].mean():.3f} to {v[:, -1].mean():.3f}" for n, v in both.items())
    title = f"{len(rounds) - 1} rounds of feedback, 20 answers each: {' and '.join(ends)}"
    with canvas(path, title) as figure:
        axes = figure.subplots()
        for number, (metric, values) in enumerate(both.items()):
            mean, deviation = values.mean(0), values.std(0)
            axes.plot(rounds, mean, label=metric)
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


def plot_growth(path: Path, results: Results, name: str) -> None:
    """Time per query of both searches over gallery sizes, and LSH's recall."""
    grown = growth(results, name)
    if not grown:
        return
    sizes, recall = [*grown], min(each["recall@30"] for each in grown.values())
    exhaustive, lsh = ([each[k][1] for each in grown.values()] for k in ("exhaustive", "lsh"))
    at, ratio = crossing(sizes, exhaustive, lsh), exhaustive[-1] / lsh[-1]
    if at is None:
        title = f"Exhaustive search is still {1 / ratio:.2g} times as fast at {sizes[-1]:,} images"
    else:
        since = f"from {float(f'{at:.1e}'):,.0f} images on" if at > 0 else "at every size measured"
        title = f"LSH is faster {since}; at {sizes[-1]:,} it is {ratio:.2g} times as fast"
    with canvas(path, title) as figure:
        axes = figure.subplots()
        axes.loglog(sizes, np.asarray(exhaustive) / 1e3, label="exhaustive, floats")
        axes.loglog(sizes, np.asarray(lsh) / 1e3, label=f"LSH, recall {recall:.2f} or more")
        if at is not None and at > 0:
            axes.axvline(at, color=SOFT, linestyle=":")
        axes.set(xlabel="images in the gallery", ylabel="search time per query, ms")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend()


def plot_buckets(path: Path, index: LSHIndex) -> None:
    """Figure 8: how hash tables distribute the gallery among their buckets."""
    (segment,) = index.segments()
    sizes = [np.diff(offsets.astype(np.int64)) for offsets in segment.offsets]
    tables, buckets = [table[table > 0] for table in sizes], 2**segment.key_bits
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


PLOTS: dict[str, Callable[[Path, Results, str], None]] = {
    "table": plot_table,
    "robustness": plot_robustness,
    "robustness-map": partial(plot_robustness, metric="mAP"),
    "feedback": plot_feedback,
    "growth": plot_growth,
}
"""Of results alone, by the end of the file's name."""
