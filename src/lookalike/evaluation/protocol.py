"""The paper's protocol on embeddings: random queries of each class, all else is searched.

A split is ranked twice, exactly by cosine and through an LSHIndex of default settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError, named
from lookalike.evaluation.metrics import (
    CUTS,
    average_precision,
    precision_at,
    rank,
    recall_at_m,
)
from lookalike.lsh import LSHIndex, LSHSettings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

METRICS: dict[str, Callable[[Bools], Floats]] = {
    "mAP": average_precision,
    "recall@m": recall_at_m,
    **{f"P@{n}": partial(precision_at, n=n) for n in CUTS},
}
"""Name -> function of relevance (q, g) that gives each query's value, (q,)."""
FIRST = 10
CELLS = 1 << 22
"""Of rankings in memory at once, queries times gallery."""


@dataclass(frozen=True, eq=False)
class SplitScores:
    """One split, measured.

    Attributes:
        queries: rows that were searched with, int64 (q,).
        gallery: rows that were searched, int64 (g,).
        exact, hashed: metric -> value of each query, float64 (q,).
        first: rows that the hashed search returned first, best first, int64 (q, min(FIRST, g)).
    """

    seed: int
    queries: Positions
    gallery: Positions
    exact: dict[str, Floats]
    hashed: dict[str, Floats]
    first: Positions


def measure_split(
    vectors: NDArray[np.float32], labels: Positions, seed: int, per_class: int
) -> SplitScores:
    """Split unit rows (n, d) with labels (n,), search for each query, and score the rankings."""
    queries, gallery = query_split(labels, seed, per_class)
    exact, hashed, first = measure(
        vectors[queries], labels[queries], vectors[gallery], labels[gallery]
    )
    return SplitScores(seed, queries, gallery, exact, hashed, gallery[first])


def measure(
    queries: NDArray[np.float32],
    labels: Positions,
    gallery: NDArray[np.float32],
    gallery_labels: Positions,
) -> tuple[dict[str, Floats], dict[str, Floats], Positions]:
    """Search for unit rows (q, d) with labels (q,) among those of a gallery (g, d), exactly and
    through an index: METRICS of both, and gallery positions as `SplitScores.first`."""
    index = index_of(gallery)
    exact: list[list[Floats]] = []
    hashed: list[list[Floats]] = []
    first = []
    step = max(1, CELLS // len(gallery))
    for start in range(0, len(queries), step):
        some, own = queries[start : start + step], labels[start : start + step, None]
        by_cosine = rank(some @ gallery.T)
        by_hash = hashed_ranking(index, some, by_cosine)
        for order, values in ((by_cosine, exact), (by_hash, hashed)):
            relevance = gallery_labels[order] == own
            values.append([metric(relevance) for metric in METRICS.values()])
        first.append(by_hash[:, :FIRST])
    return _joined(exact), _joined(hashed), np.concatenate(first)


def _joined(blocks: list[list[Floats]]) -> dict[str, Floats]:
    columns = zip(*blocks, strict=True)
    return {name: np.concatenate(parts) for name, parts in zip(METRICS, columns, strict=True)}


# ---- rankings by an index ------------------------------------------------------------------------


LSH_HITS = 100


def index_of(gallery: NDArray[np.float32], settings: LSHSettings | None = None) -> LSHIndex:
    """The unit rows (g, d) in an index; ids are positions. No settings: the defaults."""
    index = LSHIndex(settings=settings or LSHSettings(gallery.shape[1]))
    index.add(np.arange(len(gallery)), gallery)
    return index


def hashed_ranking(index: LSHIndex, queries: NDArray[np.float32], exact: Positions) -> Positions:
    """Gallery positions, best first, int64 (q, g): the LSH_HITS that a search for the unit rows
    (q, d) returns, then all that it left out, in the order of `exact` (q, g).

    A search for everything would compare everything, which says nothing of the hashing.
    """
    hits = index.search(queries, k=min(LSH_HITS, exact.shape[1])).ids
    found = np.zeros(exact.shape, np.bool_)
    np.put_along_axis(found, hits, True, axis=1)
    rest = exact[~np.take_along_axis(found, exact, axis=1)].reshape(len(exact), -1)
    return np.append(hits, rest, axis=1)


# ---- which images are queries and which the gallery ----------------------------------------------


class Split(NamedTuple):
    """Positions of the images, ascending: `queries`, and `gallery` for all others."""

    queries: Positions
    gallery: Positions


def query_split(labels: Positions, seed: int, per_class: int = 10) -> Split:
    """The paper's split: `per_class` random queries of each class, which have more images than that
    (`check_class_sizes`); all else is the gallery, which is also the training set."""
    return draw_split(labels, seed, lambda _: per_class)


def draw_split(labels: Positions, seed: int, queries_of: Callable[[int], int]) -> Split:
    """As many random queries of each class as `queries_of` says for its number of images.

    A class's draw depends on the seed, its label and its number of images alone, so that it stays
    as it is when other classes come or go.
    """
    drawn = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        generator = np.random.default_rng([seed, label])
        drawn.append(generator.choice(members, queries_of(len(members)), replace=False))
    queries = np.sort(np.concatenate(drawn)).astype(np.int64)
    return Split(queries, np.setdiff1d(np.arange(len(labels)), queries).astype(np.int64))


def check_class_sizes(
    classes: Sequence[str],
    labels: Positions,
    per_class: int,
    skipped: Sequence[tuple[Path, str]] = (),
) -> None:
    """LookalikeError if a class has no image left for the gallery.

    Args:
        labels: int64 (n,), position in `classes` of each readable image.
        skipped: files that could not be read, each with the reason.
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    small = [(n, name) for n, name in zip(counts, classes, strict=True) if n <= per_class]
    if not small:
        return
    lost = f" ({len(skipped)} skipped, such as {skipped[0][0]}: {skipped[0][1]})" if skipped else ""
    names = named([f"{name!r} ({n})" for n, name in small])
    fewest = min(small)[0]
    fewer = f"use --queries-per-class {fewest - 1}, " if fewest > 1 else ""
    raise LookalikeError(
        f"{per_class} queries of each class need at least {per_class + 1} readable images in each, "
        f"one to find; too small: {names}{lost}: {fewer}add images, or remove the folder"
    )
