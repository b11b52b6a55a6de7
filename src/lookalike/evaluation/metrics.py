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


def precision_at(relevance: Bools, n: int) -> Floats:
    """P@n, Eq. 10 before the mean: the share of the first n, at least 1, that is relevant.

    A ranking shorter than n counts its missing items as wrong.
    """
    precision: Floats = np.count_nonzero(relevance[:, :n], axis=1) / n
    return precision


def recall_at_m(relevance: Bools) -> Floats:
    """The share of the m relevant items that is among the first m of a complete ranking (Eq. 9 at
    n = m), the table's single column "Recall"; m may differ between queries. P@m is the same
    number."""
    total = np.count_nonzero(relevance, axis=1)
    within = np.arange(relevance.shape[1]) < total[:, None]
    return _ratio(np.count_nonzero(relevance & within, axis=1), total)


def average_precision(relevance: Bools, relevant: NDArray[np.int64] | None = None) -> Floats:
    """(1/m) sum over the relevant items, each at its rank n, of P@n; not interpolated.

    Relevant items that the ranking lacks (`relevant` says m) add 0. The ranking is taken as it is:
    ties are its maker's to break, see `rank`.
    """
    total = np.count_nonzero(relevance, axis=1) if relevant is None else relevant
    hits = np.cumsum(relevance, axis=1)
    precision = np.where(relevance, hits / np.arange(1, relevance.shape[1] + 1), 0.0)
    return _ratio(precision.sum(axis=1), total)


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
    """Of at least one value."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))
