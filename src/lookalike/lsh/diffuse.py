"""The diffusion of an expanded search, compiled by Numba.

Hits among the neighbours are found by a small hash table, so that its time does not grow with the
graph; the weights between some hundred hits are a whole matrix, which is multiplied faster than a
sparse one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.simd import as_float

HASH = np.uint64(0x9E3779B97F4A7C15)
"""2^64 times the fraction of the golden ratio, whose multiples lie far apart."""
LEAST_SUM = np.float32(1e-9)
ANY_ORDER = {"reassoc", "contract"}
"""Sums may be added up in any order, several terms at once."""


@compiled(fastmath=ANY_ORDER)
def _powers(cosines: NDArray[np.uint16], power: int, limit: float, out: NDArray[np.float32]) -> Any:
    """Cosines as the bits of their float16, not below 0, to their ``power``; returns their sum, or
    -1 if one is not below ``limit``."""
    total, beyond = np.float32(0), 0
    for j in range(len(out)):
        cosine = as_float(cosines[j])
        beyond += not abs(cosine) < limit
        out[j] = max(cosine, np.float32(0))
    for _ in range(power - 1):
        for j in range(len(out)):
            out[j] *= max(as_float(cosines[j]), np.float32(0))
    for j in range(len(out)):
        total += out[j]
    return np.float32(-1) if beyond else total


@compiled(fastmath=ANY_ORDER)
def _step(
    weights: NDArray[np.float32],
    scores: NDArray[np.float32],
    seeds: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """``seeds`` + ``weights`` @ ``scores``."""
    for i in range(len(out)):
        total = np.float32(0)
        for j in range(len(scores)):
            total += weights[i, j] * scores[j]
        out[i] = seeds[i] + total


@compiled()
def diffuse(
    hits: NDArray[np.int64],
    alike: NDArray[np.float32],
    ids: NDArray[np.int64],
    near: NDArray[np.uint32],
    cosines: NDArray[np.uint16],
    limit: float,
    depth: int,
    power: int,
    spread: float,
    steps: int,
    first: int,
) -> NDArray[np.float32]:
    """The score of each hit (m,) that `lookalike.lsh.expand.diffused` defines; nothing (0,) if the
    graph is damaged.

    Args:
        hits, alike: ids, each once, and their cosines to the query.
        ids, near, cosines: of the graph, cosines as the bits of their float16.
        limit: above all cosines.
        first: how many hits the score comes from.
    """
    count, size, depth = len(hits), len(ids), min(depth, near.shape[1])
    seeds = np.zeros(count, np.float32)
    for hit in range(min(first, count)):
        seeds[hit] = max(alike[hit], np.float32(0)) ** power
    seeds /= max(seeds.sum(), LEAST_SUM)
    rows = np.empty(count, np.int64)
    bits = 2
    while 1 << bits < 8 * count:
        bits += 1
    shift, last = np.uint64(64 - bits), (1 << bits) - 1
    keys, places = np.full(1 << bits, -1, np.int64), np.full(1 << bits, count, np.int32)
    for hit in range(count):
        row = hits[hit] - ids[0] if size else 0  # where it is unless some were removed
        if not 0 <= row < size or ids[row] != hits[hit]:
            row = np.searchsorted(ids, hits[hit])
        if row == size or ids[row] != hits[hit]:
            rows[hit] = -1
            continue
        rows[hit] = row
        at = np.int64((np.uint64(row) * HASH) >> shift)
        while keys[at] >= 0:
            at = (at + 1) & last
        keys[at], places[at] = row, hit
    # The last column takes what is not a hit, which is faster than a branch.
    weights, strengths = np.zeros((count, count + 1), np.float32), np.empty(depth, np.float32)
    for hit in range(count):
        row = rows[hit]
        if row < 0:
            continue
        total = _powers(cosines[row], power, limit, strengths)
        if total < 0:
            return np.empty(0, np.float32)
        share = np.float32(spread) / max(total, LEAST_SUM)
        for j in range(depth):
            other = np.int64(near[row, j])
            if other >= size:
                return np.empty(0, np.float32)
            at = np.int64((np.uint64(other) * HASH) >> shift)
            while (keys[at] != -1) & (keys[at] != other):
                at = (at + 1) & last
            weights[hit, places[at]] = strengths[j] * share
    result, following = seeds.copy(), np.empty(count, np.float32)
    for _ in range(steps):
        _step(weights, result, seeds, following)
        result, following = following, result
    result /= max(result.max(), LEAST_SUM)
    return result
