"""Figures: all of the report, from the results and from our method on one split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes

from lookalike.evaluation.metrics import average_precision, precision_at
from lookalike.evaluation.protocol import index_of
from lookalike.lsh import LSHSettings
from lookalike.models.augment import GREY, examples
from lookalike.models.settings import AugmentSettings
from lookalike.runtimes import Scaling
from reproduction.collection import Pixels, Positions, Sample, squeeze
from reproduction.distortions import distort
from reproduction.methods import HashedNetwork
from reproduction.plots import PLOTS, canvas, plot_buckets
from reproduction.rank import rank, relevance
from reproduction.study import Parts, Study

SHOWN = 8
"""Results of a query, as in Figure 10."""
ATTENDED = 4
EXAMPLES = 5
"""Altered images in a row."""
WORST = 20
PAIRS = 40_000
FIRES = 0.5
"""A channel fires if its map reaches this share of the strongest channel's."""
RIGHT, WRONG = "#1a7f37", "#cf222e"
CHANGES: dict[str, tuple[str, float]] = {
    "unaltered": ("rotation", 0),
    "rotated 15°": ("rotation", 15),
    "cropped to 70 %": ("crop", 70),
    "brightness x 1.3": ("brightness", 1.3),
    "brightness x 0.7": ("brightness", 0.7),
}
Labelled: TypeAlias = tuple[Pixels, str]
"""An image and its class."""
Searched: TypeAlias = tuple[str, Labelled, Sequence[Labelled]]
"""A caption, a query, and its results."""
CAPTIONS = {
    "failures": f"The {WORST} worst queries and what was returned.",
    "table": "mAP.",
    "robustness": "P@10 of altered queries.",
    "robustness-map": "mAP of altered queries.",
    "feedback": "SVM active learning by round; the judged images are part of the ranking.",
    "growth": "From which size on hashing pays.",
    "augmentation": "Figure 3: what training does to an image.",
    "attention": "Figures 4-6: spatial gates (Eq. 6) and channel gates (Eq. 5) of queries, and "
    "maps of channels that fire, before and after both.",
    "hamming": "Figure 7: distance of codes against angle of embeddings.",
    "buckets": "Figure 8: the hash tables of this gallery, by the paper's random hyperplanes.",
    "own-buckets": "The same gallery in the product's own table, whose buckets follow the data.",
    "robust-results": "Figure 10: the first results of a query under several changes.",
}
"""By the end of the file's name, in the order of the report: SET-KEY.png."""


def draw_figures(study: Study, directory: Path) -> None:
    """DIRECTORY/SET-KEY.png of all that the results have numbers for; those of our method if it was
    measured on the first split.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for key, plot in PLOTS.items():
        plot(directory / f"{study.name}-{key}.png", study.results, study.name)
    seed = study.plan.seeds[0]
    if study.known("paper", "ours", str(seed)) is not None:
        for key, draw in _of_method(study, seed).items():
            draw(directory / f"{study.name}-{key}.png")


def _of_method(study: Study, seed: int) -> dict[str, Callable[[Path], None]]:
    method, parts = study.fitted("paper", "ours", seed)
    assert isinstance(method, HashedNetwork)
    gallery, queries = parts.gallery, parts.queries
    paper = index_of(method.vectors, LSHSettings.paper(method.vectors.shape[1]))
    makers: dict[str, Callable[[Path], None]] = {
        "failures": lambda path: _draw_failures(path, study, parts, seed),
        "augmentation": lambda path: _draw_augmentation(path, next(iter(queries))),
        "attention": lambda path: _draw_attention(path, method, queries),
        "hamming": lambda path: _draw_pairs(path, method, gallery),
        "buckets": lambda path: plot_buckets(path, paper),
        "own-buckets": lambda path: plot_buckets(path, method.tables),
        "robust-results": lambda path: _draw_changes(path, method, parts),
    }
    if np.bincount(gallery.labels).max() < 2:  # no two of a class to compare
        del makers["hamming"]
    return makers


def _draw_augmentation(path: Path, image: Pixels) -> None:
    """Each method of training at full strength, and three draws of all."""
    shown = examples(image, AugmentSettings())
    with canvas(path, height=0.15 * -(-len(shown) // EXAMPLES)) as figure:
        for number, (name, changed) in enumerate(shown, 1):
            _show(figure.add_subplot(-(-len(shown) // EXAMPLES), EXAMPLES, number), changed, name)


def _show(axes: Axes, image: Pixels, text: str = "", colour: str = "") -> None:
    """The whole image with a caption below; with a colour also a frame."""
    axes.imshow(image)
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(text, color=colour or "k", fontsize="small")
    axes.spines[:].set(visible=bool(colour), color=colour or "w", linewidth=2.5)


def _draw_searches(path: Path, title: str, searches: Sequence[Searched]) -> None:
    """Queries as rows. A result of the query's class is framed in green with a tick, others in red
    with a cross.
    """
    columns = 1 + max(len(results) for *_, results in searches)
    height = 0.06 + 1.25 * len(searches) / columns
    with canvas(path, title, height) as figure:
        grid = figure.subplots(len(searches), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, (caption, (image, name), results) in zip(grid, searches, strict=True):
            _show(line[0], image, caption)
            line[0].set_axis_on()
            for axes, (found, other) in zip(line[1:], results, strict=False):
                right = other == name
                mark, colour = ("✓", RIGHT) if right else ("✗", WRONG)
                _show(axes, found, f"{mark} {other[:13]}", colour)
                axes.set_axis_on()


def _shown(sample: Sample, positions: Positions) -> list[Labelled]:
    at = positions[:SHOWN].tolist()
    return [(sample.collection.pixels[sample.rows[i]], sample.class_name(i)) for i in at]


def _draw_changes(path: Path, method: HashedNetwork, parts: Parts) -> None:
    image, name = next(iter(parts.queries)), parts.queries.class_name(0)
    searches, counts = [], []
    for change, (kind, level) in CHANGES.items():
        changed = distort(image, kind, level, seed=0)
        results = _shown(parts.gallery, method.search(changed, min(SHOWN, len(parts.gallery))))
        searches.append((f"{change}\n{name}", (changed, name), results))
        counts.append(f"{sum(other == name for _, other in results)} ({change})")
    _draw_searches(path, f"Right among the first {SHOWN}: {', '.join(counts)}", searches)


def _draw_failures(path: Path, study: Study, parts: Parts, seed: int) -> None:
    order = rank(study, "paper", "ours", seed)
    relevant = relevance(parts, order)
    precision = precision_at(relevant, 10)
    worst = np.lexsort([average_precision(relevant), precision])[:WORST]
    searches = []
    for i in worst.tolist():
        (query,) = _shown(parts.queries, np.array([i]))
        caption = f"{query[1]}\nP@10 {precision[i]:.2f}"
        searches.append((caption, query, _shown(parts.gallery, order[i])))
    low, high = precision[worst].min(), precision[worst].max()
    title = f"The {len(worst)} worst of {len(order):,} queries: P@10 {low:.2f} to {high:.2f}"
    _draw_searches(path, title, searches)


def _draw_pairs(path: Path, method: HashedNetwork, gallery: Sample) -> None:
    """Angle and Hamming distance of random pairs, by class; below them the nearest two of a class,
    and the image farthest from them, with the bits between their codes. Random hyperplanes separate
    a pair in angle / 180 of all bits.
    """
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(gallery), (2, PAIRS))
    first, second = first[first != second], second[first != second]
    distances = np.empty(len(first), np.int64)
    order = np.argsort(first, kind="stable")
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    for some in np.split(order, starts[1:]):
        distances[some] = method.tables.hamming(method.vectors[first[some[0]]], second[some])
    cosines = (method.vectors[first] * method.vectors[second]).sum(axis=1)
    same, bits = gallery.labels[first] == gallery.labels[second], method.tables.settings.code_bits
    degrees = np.degrees(np.arccos(np.clip(cosines.astype(np.float64), -1, 1)))
    off = np.sqrt(np.mean((distances - bits * degrees / 180) ** 2))
    own, other = (f"{np.median(distances[same == kind]):.0f}" for kind in (True, False))
    title = (
        f"Codes of the same class differ in {own} of {bits} bits, of other classes in {other} "
        f"(medians); random hyperplanes predict a pair within {off:.1f} bits (RMS)"
    )
    with canvas(path, title, 0.72) as figure:
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3, 2)).flat
        line = np.linspace(0, degrees.max(), 200)
        mean = bits * line / 180
        twice = 2 * np.sqrt(mean * (1 - line / 180))
        panels = above.subplots(1, 2, sharex=True, sharey=True)
        for axes, kind in zip(panels, (True, False), strict=True):
            x, y = degrees[same == kind], distances[same == kind]
            dots = axes.hexbin(x, y, gridsize=50, bins="log", mincnt=1)
            axes.plot(line, mean, color="C1", marker="", label="random hyperplanes, ± 2 deviations")
            for edge in (mean - twice, mean + twice):
                axes.plot(line, edge, color="C1", linewidth=1, linestyle="--", marker="")
            name = "same class" if kind else "other class"
            axes.set(title=f"{name}: {len(x):,} pairs", xlabel="angle of embeddings, degrees")
            above.colorbar(dots, ax=axes, label="pairs")
        panels[0].set_ylabel("bits that differ")
        panels[0].legend(loc="upper left")
        near = np.flatnonzero(same)[np.argmax(cosines[same])]
        alike = [int(first[near]), int(second[near])]
        unlike = int(np.argmin(method.vectors @ method.vectors[alike[0]]))
        chosen = np.array([unlike, *alike])
        examples = _shown(gallery, chosen)
        between = np.stack([method.tables.hamming(method.vectors[i], chosen) for i in chosen])
        for i, axes in enumerate(below.subplots(1, 3)):
            others = (f"{between[i, j]} bits to {examples[j][1]}" for j in range(3) if j != i)
            _show(axes, examples[i][0], f"{examples[i][1]}: {', '.join(others)}")


def _draw_attention(path: Path, method: HashedNetwork, queries: Sample) -> None:
    """A row for each of a few queries, of classes spread over all: its spatial gate as heat over
    it; its channel gates from the largest down; and of the channels that fire, those of the largest
    two gates and of the smallest, the maps before and after both gates.
    """
    embedder = method.network.embedder
    side = embedder.settings.input_size
    at = np.linspace(0, len(queries) - 1, ATTENDED).astype(np.int64)
    images = [squeeze(queries.collection.pixels[row], side) for row in queries.rows[at]]
    batch = torch.from_numpy(Scaling(embedder.mean, embedder.std).batch(images))
    with torch.no_grad():
        gates = embedder.explained(batch)[1]
        before = embedder.trunk.stages(batch)[-1].numpy()
    channel, spatial = gates["channel"].numpy(), gates["spatial"].numpy()
    after = before * channel[:, :, None, None] * spatial[:, None]
    ranges = (
        f"{n} {g.min():.2f} to {g.max():.2f}"
        for n, g in (("spatial", spatial), ("channel", channel))
    )
    with canvas(path, f"Attention: gates {', '.join(ranges)}", 0.05 + 0.2 * len(images)) as figure:
        grid = figure.add_gridspec(2 * len(images), 6, width_ratios=(2, 2.4, 2, 1, 1, 1))
        for i, image in enumerate(images):
            rows = slice(2 * i, 2 * i + 2)
            _show(figure.add_subplot(grid[rows, 0]), image, queries.class_name(int(at[i])))
            axes = figure.add_subplot(grid[rows, 1])
            _show(axes, np.repeat((image @ GREY).astype(np.uint8)[:, :, None], 3, axis=2))
            edge = (-0.5, side - 0.5, side - 0.5, -0.5)
            heat = axes.imshow(spatial[i], alpha=0.6, extent=edge, interpolation="bilinear")
            figure.colorbar(heat, ax=axes, format="%.2f")
            axes = figure.add_subplot(grid[rows, 2])
            axes.plot(np.sort(channel[i])[::-1], marker="")
            axes.set(xlabel="rank of the channel", title="channel gates" if not i else "")
            peaks = before[i].max(axis=(1, 2))
            firing = np.flatnonzero(peaks >= FIRES * peaks.max())
            ranked = firing[np.argsort(-channel[i, firing], kind="stable")].tolist()
            for column, number in enumerate(ranked[:2] + ranked[2:][-1:]):
                for row, (label, maps) in enumerate((("before", before), ("after", after))):
                    axes = figure.add_subplot(grid[2 * i + row, 3 + column])
                    axes.imshow(maps[i, number])
                    axes.grid(False)
                    axes.set(xticks=[], yticks=[], ylabel="" if column else label)
                    if not row:
                        axes.set_title(f"{number}: {channel[i, number]:.2f}", fontsize="small")
