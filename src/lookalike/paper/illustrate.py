"""The pictures of the report, of one set: what the figures show is worked out here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lookalike.evaluation.hashed import index_of
from lookalike.evaluation.metrics import average_precision, precision_at
from lookalike.evaluation.spread import spread
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.models.augment import AugmentSettings, examples
from lookalike.models.inputs import Normalise
from lookalike.paper.collection import Picture, Positions, Sample, squeeze
from lookalike.paper.distortions import AIMS, DISTORTIONS, NEUTRAL, UNITS, distort
from lookalike.paper.figures import (
    AttendedPictures,
    Captioned,
    CodeExamples,
    DistortionCurves,
    MethodScore,
    PairDistances,
    Search,
    draw_attention,
    draw_augmentation,
    draw_buckets,
    draw_failures,
    draw_feedback,
    draw_hamming,
    draw_robustness,
    draw_search_time,
    draw_table,
    draw_top_results,
)
from lookalike.paper.method import Method
from lookalike.paper.methods.ours import Ours
from lookalike.paper.results import Results
from lookalike.paper.study import Parts, Study, oracle_of, rankings
from lookalike.paper.tables import altered, growth
from lookalike.paper.titles import PAPER, ROBUST, TABLES

__all__ = ["Figure", "draw_collection", "draw_numbers"]

SHOWN = 8
"""Results of a query, as in Figure 10."""
ATTENDED = 4
WORST = 20
PAIRS = 40_000
LABELS_ASKED = 20
CHANGES = (
    ("as it is", None, 0.0),
    ("rotated 15°", "rotation", 15),
    ("cropped to 70 %", "crop", 70),
    ("brightness x 1.3", "brightness", 1.3),
    ("brightness x 0.7", "brightness", 0.7),
)


class Figure(NamedTuple):
    """A drawn picture and what it shows."""

    file: str
    caption: str


def draw_collection(study: Study, seed: int, directory: Path) -> list[Figure]:
    """Figures 3 to 8 and 10 and the failures, of our method on one split; without 7 if no class has
    two pictures in the gallery, for it compares them.
    """
    method, parts = study.fitted("paper", "ours", seed)
    assert isinstance(method, Ours)
    name = study.collection.name
    order = rankings(method, parts.queries, parts.queries.labels, parts.gallery)
    makers: dict[str, tuple[str, Callable[[Path], None]]] = {
        "augmentation": (
            "Figure 3: what training does to a picture.",
            lambda path: draw_augmentation(
                examples(next(iter(parts.queries)), AugmentSettings()), path
            ),
        ),
        "attention": (
            "Figures 4-6: what the gates do on queries of this split.",
            lambda path: draw_attention(_attended(method, parts.queries), path),
        ),
        "hamming": (
            "Figure 7: distance of codes against angle of embeddings.",
            lambda path: _draw_hamming(method, parts, path),
        ),
        "buckets": (
            "Figure 8: the hash tables of this gallery, by the paper's random hyperplanes.",
            lambda path: _draw_buckets(
                index_of(method.vectors, LSHSettings.paper(method.vectors.shape[1])), path
            ),
        ),
        "own-buckets": (
            "The same gallery in the product's own table, whose buckets follow the data.",
            lambda path: _draw_buckets(method.tables, path),
        ),
        "robust-results": (
            "Figure 10: the first results of a query under several changes.",
            lambda path: _draw_changes(method, parts, path),
        ),
        "failures": (
            f"The {WORST} worst queries and what was returned.",
            lambda path: _draw_failures(parts, order, path),
        ),
    }
    if np.bincount(parts.gallery.labels).max() < 2:
        del makers["hamming"]
    figures = []
    for key, (caption, draw) in makers.items():
        file = f"{name}-{key}.png"
        draw(directory / file)
        figures.append(Figure(file, caption))
    return figures


def draw_numbers(results: Results, name: str, directory: Path) -> list[Figure]:
    """The figures that need the results alone, as far as they are known."""
    figures = []
    scores = _scores(results, name)
    if scores:
        draw_table(scores, name, directory / f"{name}-table.png")
        figures.append(Figure(f"{name}-table.png", f"mAP on {name}."))
    for metric, file in (("P@10", f"{name}-robustness.png"), ("mAP", f"{name}-robustness-map.png")):
        curves = _curves(results, name, metric)
        if curves:
            draw_robustness(curves, directory / file, metric)
            figures.append(Figure(file, f"{metric} of altered queries."))
    feedback = [value for _, value in results.seeds(name, "feedback")]
    if feedback:
        precision, average = (
            [each[key] for each in feedback] for key in ("P@20 ranking", "mAP ranking")
        )
        draw_feedback(precision, average, LABELS_ASKED, directory / f"{name}-feedback.png")
        told = "SVM active learning by round; what was judged is part of the ranking."
        figures.append(Figure(f"{name}-feedback.png", told))
    grown = growth(results, name)
    if grown:
        exhaustive, lsh = (
            np.array([each[key][1] for each in grown.values()]) for key in ("exhaustive", "lsh")
        )
        recall = [each["recall@30"] for each in grown.values()]
        path = directory / f"{name}-growth.png"
        draw_search_time(list(grown), exhaustive / 1e6, lsh / 1e6, path, recall)
        figures.append(Figure(f"{name}-growth.png", "From which size on hashing pays."))
    return figures


# ---- from results --------------------------------------------------------------------------------


def _scores(results: Results, name: str) -> list[MethodScore]:
    found = []
    for row in TABLES:
        values = [value["mAP"] for _, value in results.seeds(name, "paper", row)]
        if values:
            each = spread(values)
            title = results.get(name, "titles", row)
            printed = PAPER.get(name, {}).get(row, {}).get("mAP")
            found.append(MethodScore(title, each.mean, each.deviation, printed, row == "ours"))
    return found


def _curves(results: Results, name: str, metric: str) -> list[DistortionCurves]:
    rows = {row: altered(results, name, row) for row in ROBUST}
    rows = {row: seeds for row, seeds in rows.items() if seeds}
    measured = [seed[metric] for seeds in rows.values() for seed in seeds.values()]
    curves = []
    for kind, planned in DISTORTIONS.items():
        levels = [level for level in planned if all(str(level) in each[kind] for each in measured)]
        scores = {}
        for row, seeds in rows.items():
            title = results.get(name, "titles", row) or row
            values = [
                [seed[metric][kind][str(level)] for level in levels] for seed in seeds.values()
            ]
            scores[title] = np.mean(values, axis=0)
        if scores:
            order = np.argsort(levels)
            curves.append(
                DistortionCurves(
                    kind,
                    UNITS[kind],
                    np.array(levels, float)[order],
                    {title: values[order] for title, values in scores.items()},
                    NEUTRAL[kind],
                    AIMS.get(kind, (NEUTRAL[kind], NEUTRAL[kind])),
                )
            )
    return curves


# ---- from the method -----------------------------------------------------------------------------


def _attended(method: Ours, queries: Sample) -> AttendedPictures:
    """Of one query each of classes spread over all."""
    embedder = method.network.embedder
    side = embedder.settings.input_size
    rows = np.linspace(0, len(queries) - 1, ATTENDED).astype(np.int64)
    pictures = [squeeze(queries.collection.pictures[row], side) for row in queries.rows[rows]]
    images = Normalise(embedder.mean, embedder.std).stack(pictures)
    with torch.no_grad():
        gates = embedder.attention(images)
        before = embedder.trunk.stages(images)[-1]
    names = [queries.collection.images.classes[label] for label in queries.labels[rows]]
    return AttendedPictures(
        pictures, names, gates.channel.numpy(), gates.spatial.numpy(), before.numpy()
    )


def _draw_hamming(method: Ours, parts: Parts, path: Path) -> None:
    rng = np.random.default_rng(0)
    gallery = parts.gallery
    first, second = rng.integers(0, len(gallery), (2, PAIRS))
    first, second = first[first != second], second[first != second]
    bits = method.tables.settings.code_bits
    distances = np.empty(len(first), np.int64)
    order = np.argsort(first, kind="stable")
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    for some in np.split(order, starts[1:]):
        distances[some] = method.tables.hamming(method.vectors[first[some[0]]], second[some])
    cosines = (method.vectors[first] * method.vectors[second]).sum(axis=1)
    same = gallery.labels[first] == gallery.labels[second]
    near = np.flatnonzero(same)[np.argmax(cosines[same])]
    alike = int(first[near]), int(second[near])
    unlike = int(np.argmin(method.vectors @ method.vectors[alike[0]]))
    chosen = (unlike, *alike)
    between = [method.tables.hamming(method.vectors[i], chosen) for i in chosen]
    a, b, c = (_captioned(gallery, position) for position in chosen)
    draw_hamming(
        PairDistances(cosines, distances, same, bits),
        path,
        CodeExamples((a, b, c), np.array(between)),
    )


def _draw_buckets(index: LSHIndex, path: Path) -> None:
    (segment,) = index.segments()
    sizes = [np.diff(offsets.astype(np.int64)) for offsets in segment.offsets]
    draw_buckets(sizes, 2**segment.key_bits, path)


def _draw_changes(method: Method, parts: Parts, path: Path) -> None:
    picture = next(iter(parts.queries))
    name = _class(parts.queries, 0)
    searches = []
    for told, kind, level in CHANGES:
        changed = picture if kind is None else distort(picture, kind, level, seed=0)
        searches.append((told, _search(method, changed, name, parts.gallery)))
    draw_top_results(searches, path)


def _draw_failures(parts: Parts, order: Positions, path: Path) -> None:
    relevance = parts.gallery.labels[order] == parts.queries.labels[:, None]
    precision = precision_at(relevance, 10)
    worst = np.lexsort([average_precision(relevance), precision])[:WORST]
    searches = [
        Search(
            _captioned(parts.queries, int(i)),
            tuple(_captioned(parts.gallery, int(j)) for j in order[i, :SHOWN]),
        )
        for i in worst
    ]
    draw_failures(searches, precision[worst], len(order), path)


def _search(method: Method, picture: Picture, name: str, gallery: Sample) -> Search:
    label = gallery.collection.images.classes.index(name)
    found = method.search(picture, SHOWN, oracle_of(gallery, label))
    hits = tuple(_captioned(gallery, int(position)) for position in found)
    return Search(Captioned(picture, name), hits)


def _captioned(sample: Sample, position: int) -> Captioned:
    row = int(sample.rows[position])
    return Captioned(sample.collection.pictures[row], _class(sample, position))


def _class(sample: Sample, position: int) -> str:
    return sample.collection.images.classes[int(sample.labels[position])]
