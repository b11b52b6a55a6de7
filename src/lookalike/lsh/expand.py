"""Query expansion by diffusion: what the neighbours of a search's hits say of the other hits.

The first hits hand a score to all hits through the neighbour graph, in a few steps of
f <- y + a W f: y is 1 spread over the first hits by cosine^p, and row c of W weights the hits among
the neighbours of c by cosine^p, its weights over all neighbours adding up to 1. So an image scores
high whose neighbours score high, which augments both the query and the database, over and over
(Zhou et al., "Ranking on data manifolds", 2004; Donoser and Bischof, "Diffusion processes for
retrieval revisited", 2013), and no vector is read.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.exact import Neighbors
from lookalike.lsh.graph import LIMIT, NeighbourGraph

if TYPE_CHECKING:
    from lookalike.lsh.index import LSHIndex

DENSE_UP_TO = 800
"""Hits whose weights are multiplied as a whole matrix, which is mostly zeros but small."""


@dataclass(frozen=True)
class Expansion:
    """How hits are reordered; chosen by measuring, see docs/measurements.md.

    Attributes:
        hits: how many are, at least; of longer lists those up to twice as many among themselves,
            and so on, so that a longer list begins as a shorter one does.
        depth: neighbours of each hit that count.
        seeds: first hits that the score comes from.
        power: of a cosine, as a weight.
        steps: of the diffusion.
        spread: share of the score that neighbours hand on, a.
        weight: of the score, at most 1, beside the cosine.
        sure: cosine from which on a hit is a copy of the query or nearly so, and keeps its place.
    """

    hits: int = 200
    depth: int = 50
    seeds: int = 3
    power: int = 6
    steps: int = 10
    spread: float = 0.95
    weight: float = 2.0
    sure: float = 0.9

    def hits_for(self, k: int) -> int:
        """How many hits are reordered to return ``k``: mostly the same for all pages of a list."""
        hits = self.hits
        while hits < k:
            hits *= 2
        return hits


def search_expanded(
    index: LSHIndex,
    graph: NeighbourGraph,
    expansion: Expansion,
    query: NDArray[np.float32],
    k: int,
    *,
    allowed: NDArray[np.int64] | None = None,
    exact: bool | None = False,
    least: float = -2.0,
) -> Neighbors:
    """The ``k`` first of the reordered hits of one query (dim,), with their exact cosines; as they
    are if the graph is damaged.

    Args:
        allowed, exact: see `LSHIndex.search`; only False loads the compiled diffusion.
        least: smallest cosine of a hit.
    """
    wanted = expansion.hits_for(k)
    # The same for all pages of a list: with an effort for k, later ones would find other hits.
    ids, cosines = index.search(query, wanted, allowed=allowed, exact=exact)
    there = int(np.count_nonzero((ids >= 0) & (cosines >= least)))  # best first
    found = Neighbors(ids[:there], cosines[:there])
    with suppress(IndexFormatError):
        found = reorder(graph, expansion, found, compiled=exact is False)
    ids, cosines = found
    if len(ids) >= k:
        return Neighbors(ids[:k], cosines[:k])
    best = Neighbors(np.full(k, -1, np.int64), np.full(k, -np.inf, np.float32))
    best.ids[: len(ids)], best.cosines[: len(ids)] = ids, cosines
    return best


def reorder(
    graph: NeighbourGraph, expansion: Expansion, found: Neighbors, *, compiled: bool = False
) -> Neighbors:
    """Hits of one query, ids (m,) by falling cosine, in the order of cosine + weight x score: the
    first ``expansion.hits``, then the others up to twice as many, and so on.

    Hits of at least ``sure``, and the first of the others, keep their places before all.

    Args:
        compiled: by the compiled diffusion, which takes a quarter of the time once it is loaded.

    Raises:
        IndexFormatError: the graph is damaged.
    """
    ids, cosines = found
    start = int(np.count_nonzero(cosines >= expansion.sure)) + 1
    order, size = np.arange(len(ids)), expansion.hits
    while start < len(ids):
        if size > start:
            some = ids[:size], cosines[:size]
            diffusion = diffused_compiled if compiled and size <= DENSE_UP_TO else diffused
            scores = some[1] + np.float32(expansion.weight) * diffusion(graph, expansion, *some)
            order[start:size] = start + np.argsort(-scores[start:], kind="stable")
            start = size
        size *= 2
    return Neighbors(ids[order], cosines[order])


def diffused(
    graph: NeighbourGraph,
    expansion: Expansion,
    ids: NDArray[np.int64],
    cosines: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The score of each hit (m,), from 0 to 1; hits that the graph lacks get it as seeds alone."""
    rows = graph.rows(ids)
    known = np.flatnonzero(rows >= 0)
    near, alike = graph.lists(rows[known], expansion.depth)
    strength = _power(np.maximum(alike, 0).astype(np.float32), expansion.power)
    strength *= np.float32(expansion.spread) / np.maximum(strength.sum(axis=1), 1e-9)[:, np.newaxis]
    count = len(ids)
    place = np.full(len(graph), count, np.int32)  # of graph rows among the hits; the rest: no hit
    place[rows[known]] = known
    result = seeds = _seeds(expansion, cosines)
    if count <= DENSE_UP_TO:
        matrix = np.zeros((count, count + 1), np.float32)
        matrix.ravel()[(known * (count + 1))[:, np.newaxis] + place[near]] = strength
        for _ in range(expansion.steps):
            result = seeds + matrix[:, :count] @ result
    else:
        at = place[near]
        for _ in range(expansion.steps):
            passed = np.einsum("ij,ij->i", strength, np.append(result, np.float32(0))[at])
            result = seeds.copy()
            result[known] += passed
    return result / max(float(result.max(initial=0)), 1e-9)


def diffused_compiled(
    graph: NeighbourGraph,
    expansion: Expansion,
    ids: NDArray[np.int64],
    cosines: NDArray[np.float32],
) -> NDArray[np.float32]:
    """As `diffused`, but for rounding."""
    from lookalike.lsh.diffuse import diffuse

    result: NDArray[np.float32] = diffuse(
        ids,
        cosines,
        graph.ids,
        graph.near,
        graph.cosines.view(np.uint16),
        LIMIT,
        expansion.depth,
        expansion.power,
        expansion.spread,
        expansion.steps,
        expansion.seeds,
    )
    if len(result) < len(ids):
        raise graph.damaged()
    return result


def _seeds(expansion: Expansion, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where the score comes from: of each hit (m,), adding up to 1."""
    seeds = np.zeros(len(cosines), np.float32)
    seeds[: expansion.seeds] = _power(np.maximum(cosines[: expansion.seeds], 0), expansion.power)
    return seeds / np.float32(max(float(seeds.sum()), 1e-9))


def _power(values: NDArray[np.float32], power: int) -> NDArray[np.float32]:
    """By products, which take a tenth of the time of `numpy.power`."""
    result = values
    for _ in range(power - 1):
        result = result * values
    return result
