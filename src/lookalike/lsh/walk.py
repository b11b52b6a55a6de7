"""Exact cosines of a search, compiled by Numba: re-rank candidates, and walk a segment's links from
the best of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import LARGEST_COSINE
from lookalike.lsh.simd import as_float, prefetch

VECTORS_AHEAD = 6
ROUNDING = np.float32(0.001)
"""How far rounding to float16 may move a unit vector's length, twice over."""
LEFT = 1 << 40
"""Marks a row of a pool whose links were followed."""


@compiled()
def seen_before(slots: NDArray[np.int64], row: int) -> bool:
    """Put ``row`` into an open-addressing hash set; True if it was there."""
    slot = (row * 0x9E3779B1 >> 7) & (slots.shape[0] - 1)
    while slots[slot] >= 0:
        if slots[slot] == row:
            return True
        slot = (slot + 1) & (slots.shape[0] - 1)
    slots[slot] = row
    return False


@compiled()
def empty_set(rows: int) -> NDArray[np.int64]:
    """A set for `seen_before` that is a quarter full with so many rows; its slots are unset."""
    places = 1024
    while places < 4 * rows:
        places *= 2
    return np.empty(places, np.int64)


# As if NaN and infinity could be, unlike full fast-math: a damaged file may hold them.
@compiled(fastmath={"reassoc", "contract", "nsz", "arcp"})
def dot(query: NDArray[Any], vector: NDArray[Any]) -> Any:
    """The inner product of two vectors, each float32, or float16 as its bits."""
    total = np.float32(0)
    for j in range(query.shape[0]):
        total += as_float(vector[j]) * as_float(query[j])
    return total


@compiled(fastmath={"reassoc", "contract", "nsz", "arcp"})
def _rounded_length(vector: NDArray[Any]) -> Any:
    total = np.float32(0)
    for j in range(vector.shape[0]):
        value = as_float(vector[j])
        total += value * value
    return np.sqrt(total)


@compiled()
def _cosine(query: NDArray[np.float32], vector: NDArray[Any], least: Any) -> Any:
    """Exact, or any lower number where it is below ``least``.

    Rounding a vector to float16 has changed its length, so cosines are divided by that. A cosine
    that no unit vectors have, or NaN, is infinite.
    """
    cosine = dot(query, vector)
    if cosine + ROUNDING < least:
        return np.float32(-np.inf)
    if not abs(cosine) < LARGEST_COSINE:
        return np.float32(np.inf)
    return min(max(cosine / _rounded_length(vector), np.float32(-1)), np.float32(1))


@compiled()
def _prefetch_vector(vectors: NDArray[Any], row: int) -> None:
    width = vectors.shape[1]
    for element in range(0, width, 64 // vectors.itemsize):
        prefetch(vectors, row * width + element)


@compiled()
def insert(
    value: Any,
    row: int,
    ids: NDArray[np.int64],
    best: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    """Put a row into the list of the best, falling by value, then rising by id."""
    j = best.shape[0] - 1
    if value < best[j]:
        return
    id_ = ids[row]
    if value == best[j] and rows[j] >= 0 and id_ > ids[rows[j] & (LEFT - 1)]:
        return
    while j > 0 and (
        best[j - 1] < value
        or (best[j - 1] == value and (rows[j - 1] < 0 or ids[rows[j - 1] & (LEFT - 1)] > id_))
    ):
        best[j] = best[j - 1]
        rows[j] = rows[j - 1]
        j -= 1
    best[j] = value
    rows[j] = row


@compiled()
def rerank(
    query: NDArray[np.float32],
    vectors: NDArray[Any],
    ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    count: int,
    best: NDArray[np.float32],
    best_rows: NDArray[np.int64],
) -> None:
    """Exact cosines of ``rows[:count]``; the best go into ``best`` and ``best_rows``.

    Args:
        query: (dim,); vectors: (n, dim) float32, or float16 as their bits; ids: (n,).
        best, best_rows: (k,), falling by cosine, then rising by id; -inf and -1 where nothing is.
            What only a damaged file holds comes first, as infinity.
    """
    for i in range(count):
        if i + VECTORS_AHEAD < count:
            _prefetch_vector(vectors, rows[i + VECTORS_AHEAD])
        cosine = _cosine(query, vectors[rows[i]], best[-1])
        if cosine >= best[-1] and cosine > -np.inf:
            insert(cosine, rows[i], ids, best, best_rows)


@compiled()
def walk(
    query: NDArray[np.float32],
    vectors: NDArray[Any],
    ids: NDArray[np.int64],
    links: NDArray[np.uint32],
    blocked: NDArray[np.bool_],
    seen: NDArray[np.int64],
    pool: NDArray[np.float32],
    pool_rows: NDArray[np.int64],
    best: NDArray[np.float32],
    best_rows: NDArray[np.int64],
) -> None:
    """Follow the links of the nearest row of the pool, again and again, until those of all of it
    were followed (the search of a graph as in Malkov and Yashunin 2018, from better entry points).

    Args:
        links: (n, w) rows; those beyond n, which only damage makes, are passed over.
        blocked: (n,) rows that do not count, but lead to others, or (0,).
        seen: see `empty_set`.
        pool, pool_rows: (beam,) where to begin, as `rerank` left them.
        best, best_rows: (k,) receive what counts, as those of `rerank`.
    """
    fresh = np.empty(links.shape[1], np.int64)
    seen[:] = -1
    met = 0
    for i in range(pool.shape[0]):
        if pool_rows[i] >= 0:
            seen_before(seen, pool_rows[i])
            met += 1
    at = 0
    while at < pool.shape[0] and 2 * met < seen.shape[0]:
        row = pool_rows[at]
        if row < 0 or row & LEFT:
            at += 1
            continue
        pool_rows[at] = row | LEFT
        count = 0
        for i in range(links.shape[1]):
            other = np.int64(links[row, i])
            if other < ids.shape[0] and not seen_before(seen, other):
                fresh[count] = other
                count += 1
                _prefetch_vector(vectors, other)
        met += count
        for i in range(count):
            other = fresh[i]
            cosine = _cosine(query, vectors[other], pool[-1])
            if cosine > pool[-1]:
                insert(cosine, other, ids, pool, pool_rows)
                if cosine >= best[-1] and not (blocked.shape[0] > 0 and blocked[other]):
                    insert(cosine, other, ids, best, best_rows)
        at = 0
