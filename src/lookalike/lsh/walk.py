"""Exact cosines of a search, compiled by Numba: re-rank candidates, and walk a segment's links from
the best of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import LARGEST_COSINE
from lookalike.lsh.links import LINKS
from lookalike.lsh.simd import as_float, merge, prefetch, score_block, trailing_zeros, unmarked

VECTORS_AHEAD = 6
STEPS_AHEAD = 2
"""Rows of a pool that are fetched before their links are followed: memory is what a walk waits for,
so nothing is fetched that may not be needed (benchmarks/ann.py)."""
ROUNDING = np.float32(0.001)
"""How far rounding to float16 may move a unit vector's length, twice over."""
LEFT = 1
"""Marks an entry of a pool that was compared and left."""
ROW_BITS = 32
NOTHING = -(1 << 63) + (1 << ROW_BITS + 1) - 1
"""Fills the places of a pool that have no entry: the least there can be, of a row beyond all,
left."""
COMPARED = (1 << 30) - 1 << ROW_BITS + 1
"""What a row that was compared has in a set: the highest estimate."""
FOLLOWED = 0.6
"""Of a pool: so many lead to the rest, whose own links lead to little more (benchmarks/ann.py)."""
WIDE = 64
"""A beam from which on it saves time to look up where in the pool what is new begins."""
MIDDLE, HIGHEST = 8192, 32767
"""The score of a link that is as near to the query as its item, and the highest."""


@compiled()
def _row(entry: Any) -> Any:
    return (entry >> np.int64(1)) & np.int64((1 << ROW_BITS) - 1)


@compiled()
def _place(slots: NDArray[np.int64], row: int) -> int:
    """Where the entry of ``row`` is in an open-addressing hash set, or belongs: in a slot that
    holds NOTHING."""
    slot = (row * 0x9E3779B1 >> 7) & (slots.shape[0] - 1)
    while slots[slot] != NOTHING and _row(slots[slot]) != row:
        slot = (slot + 1) & (slots.shape[0] - 1)
    return int(slot)


@compiled()
def seen_before(slots: NDArray[np.int64], row: int) -> bool:
    """Put ``row`` into a set; True if it was there."""
    slot = _place(slots, row)
    if slots[slot] != NOTHING:
        return True
    slots[slot] = np.int64(row) << np.int64(1)
    return False


@compiled()
def empty_set(rows: int) -> NDArray[np.int64]:
    """A set for `seen_before` that is a quarter full with so many rows; its slots are unset."""
    places = 512
    while places < 4 * rows:
        places *= 2
    return np.empty(places, np.int64)


# As if NaN and infinity could be, unlike full fast-math: a damaged file may hold them.
@compiled(fastmath={"reassoc", "contract", "nsz", "arcp"})
def dot_and_square(query: NDArray[Any], vector: NDArray[Any]) -> tuple[Any, Any]:
    """The inner product of two vectors, each float32, or float16 as its bits; and of the second
    with itself."""
    total = square = np.float32(0)
    for j in range(query.shape[0]):
        value = as_float(vector[j])
        total += value * as_float(query[j])
        square += value * value
    return total, square


@compiled()
def dot(query: NDArray[Any], vector: NDArray[Any]) -> Any:
    """The inner product of two vectors, as that of `dot_and_square`."""
    return dot_and_square(query, vector)[0]


@compiled()
def prefetch_row(array: NDArray[Any], row: int) -> None:
    width = array.shape[1]
    for element in range(0, width, 64 // array.itemsize):
        prefetch(array, row * width + element)


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
    if value == best[j] and rows[j] >= 0 and ids[row] > ids[rows[j]]:
        return
    while j > 0 and (
        best[j - 1] < value
        or (best[j - 1] == value and (rows[j - 1] < 0 or ids[rows[j - 1]] > ids[row]))
    ):
        best[j] = best[j - 1]
        rows[j] = rows[j - 1]
        j -= 1
    best[j] = value
    rows[j] = row


@compiled()
def _compare(
    query: NDArray[np.float32],
    vectors: NDArray[Any],
    ids: NDArray[np.int64],
    row: int,
    best: NDArray[np.float32],
    best_rows: NDArray[np.int64],
) -> Any:
    """Put a row into the list of the best if it is one; its inner product with the query."""
    product, square = dot_and_square(query, vectors[row])
    if not product + ROUNDING < best[-1]:
        cosine = np.float32(np.inf)  # which no unit vectors have
        if abs(product) < LARGEST_COSINE:
            # Rounding a vector to float16 has changed its length, so products are divided by that.
            cosine = min(max(product / np.sqrt(square), np.float32(-1)), np.float32(1))
        if cosine >= best[-1]:
            insert(cosine, row, ids, best, best_rows)
    return product


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
    for i in range(min(count, VECTORS_AHEAD)):
        prefetch_row(vectors, rows[i])
    for i in range(count):
        if i + VECTORS_AHEAD < count:
            prefetch_row(vectors, rows[i + VECTORS_AHEAD])
        _compare(query, vectors, ids, rows[i], best, best_rows)


@compiled()
def entry_of(estimate: Any, row: int) -> Any:
    """An estimate of a cosine, in 2^-27, and a row as one number that sorts by the estimate."""
    level = np.int64(max(min(estimate, np.float32(3)), np.float32(-3)) * np.float32(1 << 27))
    return (level << np.int64(ROW_BITS + 1)) | (np.int64(row) << np.int64(1))


@compiled()
def estimate_of(entry: Any) -> Any:
    return np.float32(entry >> np.int64(ROW_BITS + 1)) * np.float32(2.0**-27)


@compiled()
def _leave(entry: Any, pool: NDArray[np.int64]) -> None:
    """Take an entry out of a falling pool, if it is there."""
    last = pool.shape[0] - 1
    for i in range(last):
        pool[i] = pool[i] if pool[i] > entry else pool[i + 1]
    pool[last] = pool[last] if pool[last] > entry else NOTHING


@compiled()
def score_links(
    records: NDArray[np.uint8],
    shorts: NDArray[np.int16],
    at: int,
    table: NDArray[np.uint8],
    query: tuple[int, int, int],
    least: Any,
    scores: NDArray[np.int16],
) -> Any:
    """`simd.score_block` of a record of links, flat and in twos from the byte ``at`` on, from the
    score ``least`` on."""
    code_bytes = np.int64(table.shape[0] // 32)
    return score_block(
        records,
        at,
        table,
        code_bytes,
        shorts,
        shorts[LINKS:],
        (at + LINKS * code_bytes) // 2,
        (np.int16(query[0]), np.int16(query[1]), np.int16(query[2])),
        np.int16(max(least, np.float32(0))),
        scores,
    )


@compiled()
def walk(
    query: NDArray[np.float32],
    table: NDArray[np.uint8],
    scoring: tuple[int, int, float],
    vectors: NDArray[Any],
    ids: NDArray[np.int64],
    links: NDArray[np.uint8],
    blocked: NDArray[np.bool_],
    seen: NDArray[np.int64],
    pool: NDArray[np.int64],
    beam: int,
    best: NDArray[np.float32],
    best_rows: NDArray[np.int64],
) -> None:
    """Follow the links of the nearest row of a pool, again and again, until those of its first rows
    were followed (the search of a graph as in Malkov and Yashunin 2018, from better entry points,
    by estimates as in Gou et al. 2025); then compare the rest of the pool.

    Args:
        table: of the query, see ``make_table``; scoring: its offset, the gain of the links'
            additions, and the cosine that a score of 1 stands for.
        links: (n, record_bytes), see ``Links``; rows beyond n, which only damage makes, are passed
            over.
        blocked: (n,) rows that do not count, but lead to others, or (0,).
        seen: see `empty_set`.
        pool: more than beam, eights, of entries, falling: where to begin, then NOTHING.
        best, best_rows: (k,) receive what counts, as those of `rerank`.
    """
    offset, gain, unit = scoring
    flat, width = links.reshape(-1), links.shape[1]
    shorts, longs = flat.view(np.int16), flat.view(np.uint32)
    scores = np.empty(LINKS, np.int16)
    fresh, gone = np.empty(LINKS + 8, np.int64), np.empty(LINKS, np.int64)
    seen[:] = NOTHING
    met = 0
    while met < pool.shape[0] and pool[met] != NOTHING:
        row = _row(pool[met])
        if met < STEPS_AHEAD:
            prefetch_row(vectors, row)
            prefetch_row(links, row)
        seen[_place(seen, row)] = pool[met]
        met += 1
    followed = max(1, int(FOLLOWED * beam))
    at = 0
    while at < followed and 2 * met < seen.shape[0] and not pool[at] & LEFT:
        row = _row(pool[at])
        if blocked.shape[0] > 0 and blocked[row]:
            cosine = dot(query, vectors[row])
        else:
            cosine = _compare(query, vectors, ids, row, best, best_rows)
        pool[at] |= LEFT
        seen[_place(seen, row)] = COMPARED | row << np.int64(1)
        worst, last = pool[beam - 1], max(pool[-1] - 1, NOTHING)
        least = (estimate_of(worst) - cosine) / unit + MIDDLE
        if least < HIGHEST:
            mask = score_links(
                flat, shorts, row * width, table, (offset, gain, MIDDLE), least, scores
            )
            entered = left = 0
            while mask:
                link = trailing_zeros(mask)
                mask &= mask - np.uint32(1)
                other = np.int64(longs[(row + 1) * width // 4 - LINKS + link])
                if other >= ids.shape[0]:
                    continue
                entry = entry_of(cosine + (scores[link] - MIDDLE) * unit, other)
                place = _place(seen, other)
                before = seen[place]
                # An item is estimated from each that links to it, and best from the nearest.
                # Without branches, as no processor foretells them.
                is_better = entry > max(before, worst)
                fresh[entered] = entry
                gone[left] = before
                seen[place] = entry if is_better else before
                entered += is_better
                left += is_better & (before > last)
                met += is_better & (before == NOTHING)
            fresh[entered : entered + 8] = NOTHING
            first = 0
            if beam >= WIDE and entered > 0:
                top = fresh[:entered].max()
                for i in range(pool.shape[0]):
                    first += pool[i] > top
            merge(fresh, entered, pool, first // 8 * 8, pool.shape[0])
            for i in range(left):
                _leave(gone[i], pool)
        at, ahead = followed, 0
        for first in range(0, followed, 8):
            mask = unmarked(pool, first)
            while mask and ahead < STEPS_AHEAD:
                place = first + trailing_zeros(mask)
                mask &= mask - np.uint32(1)
                if place < followed:
                    prefetch_row(vectors, _row(pool[place]))  # which is needed first
                    prefetch_row(links, _row(pool[place]))
                    at = min(at, place)
                    ahead += 1
    for i in range(beam):
        if not pool[i] & LEFT:
            prefetch_row(vectors, _row(pool[i]))
    for i in range(beam):
        if pool[i] & LEFT:
            continue
        row = _row(pool[i])
        if blocked.shape[0] == 0 or not blocked[row]:
            _compare(query, vectors, ids, row, best, best_rows)
