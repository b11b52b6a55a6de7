"""How good a ranking is: P@n, recall@m and mean average precision; their spread over splits.

A ranking is a matrix `relevance`, bool (q, g): row i says, best first, whether each gallery item
is relevant to query i, that is, of its class. All functions return float64 (q,), one number for
each query; the paper's figures are their means. A query to which nothing in the gallery is
relevant has no recall and no average precision: it is NaN there, never silently 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
CUTS = (5, 10, 20, 30)
"""The paper's columns Top-5 to Top-30."""
BLOCK = 512


@dataclass(frozen=True)
class Scores:
    """Means over all queries.

    Attributes:
        mean_average_precision: over the full ranking, not interpolated.
        recall: at n = m, the number of relevant items; P@m is the same number.
        precision: P@n by n.
        queries: how many.
    """

    mean_average_precision: float
    recall: float
    precision: dict[int, float]
    queries: int


def rank(similarities: ArrayLike) -> NDArray[np.int64]:
    """Gallery positions, most similar first: (q, g) -> (q, g).

    Ties: of equally similar items, the one that comes first in the gallery ranks first. A gallery
    sorted by class would make that rule favour the first class, so metrics of many ties (a binary
    code) want a gallery in random order. ValueError for a NaN, which has no place in an order.
    """
    given = np.atleast_2d(np.asarray(similarities))
    if np.isnan(given).any():
        raise ValueError("a similarity is NaN; it cannot be ranked")
    order: NDArray[np.int64] = np.argsort(-given.astype(np.float64), axis=1, kind="stable")
    return order


def precision_at(relevance: ArrayLike, n: int) -> Floats:
    """P@n, Eq. 10 before the mean: the share of the first n that is relevant.

    A ranking shorter than n counts its missing items as wrong.
    """
    found = _ranking(relevance)[:, : _positive(n)]
    precision: Floats = np.count_nonzero(found, axis=1) / n
    return precision


def recall_at_m(relevance: ArrayLike, relevant: ArrayLike | None = None) -> Floats:
    """The share of the m relevant items that is among the first m (Eq. 9 at n = m), the table's
    single column "Recall"; m may differ between queries. `relevant` (q,) is m; None: all of them
    are in the ranking, which is complete."""
    found = _ranking(relevance)
    total = _relevant(found, relevant)
    within = np.arange(found.shape[1]) < total[:, None]
    return _ratio(np.count_nonzero(found & within, axis=1), total)


def average_precision(relevance: ArrayLike, relevant: ArrayLike | None = None) -> Floats:
    """(1/m) sum over the relevant items, each at its rank n, of P@n; not interpolated.

    Relevant items that the ranking lacks (`relevant` says m) add 0. The ranking is taken as it is:
    ties are its maker's to break, see `rank`.
    """
    found = _ranking(relevance)
    total = _relevant(found, relevant)
    hits = np.cumsum(found, axis=1)
    precision = np.where(found, hits / np.arange(1, found.shape[1] + 1), 0.0)
    return _ratio(precision.sum(axis=1), total)


def cosine_relevance(
    queries: NDArray[Any], labels: ArrayLike, gallery: NDArray[Any], gallery_labels: ArrayLike
) -> Bools:
    """The exact ranking of unit rows (q, d) and (g, d) by cosine, as relevance (q, g)."""
    own, theirs = np.asarray(labels), np.asarray(gallery_labels)
    if own.shape != (len(queries),) or theirs.shape != (len(gallery),):
        raise ValueError(
            f"{len(queries)} queries with labels of shape {own.shape}, {len(gallery)} gallery "
            f"items with {theirs.shape}: one label each is needed"
        )
    relevance = np.empty((len(queries), len(gallery)), np.bool_)
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        relevance[rows] = theirs[rank(queries[rows] @ gallery.T)] == own[rows, None]
    return relevance


def score(relevance: ArrayLike, cuts: tuple[int, ...] = CUTS) -> Scores:
    """All metrics of complete rankings; queries without anything relevant are an error."""
    found = _ranking(relevance)
    lost = np.flatnonzero(~found.any(axis=1))
    if lost.size or not len(found):
        what = f"query {lost[0]} has no relevant item" if lost.size else "there are no queries"
        raise ValueError(f"{what}: there is nothing to measure")
    return Scores(
        mean_average_precision=float(average_precision(found).mean()),
        recall=float(recall_at_m(found).mean()),
        precision={n: float(precision_at(found, n).mean()) for n in cuts},
        queries=len(found),
    )


def _ranking(relevance: ArrayLike) -> Bools:
    found = np.asarray(relevance)
    if found.ndim != 2 or found.dtype != np.bool_:
        raise ValueError(f"relevance must be bool (q, g), not {found.dtype} {found.shape}")
    return found


def _positive(n: int) -> int:
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    return n


def _relevant(found: Bools, relevant: ArrayLike | None) -> NDArray[np.int64]:
    counted: NDArray[np.int64] = np.count_nonzero(found, axis=1).astype(np.int64)
    if relevant is None:
        return counted
    total = np.asarray(relevant, np.int64)
    if total.shape != (len(found),) or (total < counted).any():
        raise ValueError(
            f"relevant must give m of each of {len(found)} queries, at least what the ranking shows"
        )
    return total


def _ratio(part: NDArray[Any], total: NDArray[np.int64]) -> Floats:
    result = np.full(len(total), np.nan)
    np.divide(part, total, out=result, where=total > 0)
    return result


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of n numbers; NaN for a single one."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        return self.rounded(4)

    def rounded(self, decimals: int, sign: str = "") -> str:
        """With so many decimals; sign "+": the mean always has one."""
        middle = f"{self.mean:{sign}.{decimals}f}"
        return middle if self.count < 2 else f"{middle} ± {self.deviation:.{decimals}f}"


def spread(values: Sequence[float]) -> Spread:
    """ValueError for no value."""
    if not values:
        raise ValueError("no value has no mean")
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))
