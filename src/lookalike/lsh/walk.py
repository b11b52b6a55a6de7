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
from lookalike.lsh.simd import as_float, prefetch, score_block, trailing_zeros

VECTORS_AHEAD = 6
STEPS_AHEAD = 2
"""Rows of a pool that are fetched before their links are followed: memory is what a walk waits for,
so nothing is fetched that may not be needed (benchmarks/ann.py)."""
ROUNDING = np.float32(0.001)
"""How far rounding to float16 may move a unit vector's length, twice over."""
LEFT = 1
"""Marks an entry of a pool that was compared and left."""
ROW_BITS = 32
NOTHING = -(1 << 63) + (1 << ROW_BITS + 1) - 2
"""Fills the places of a pool that have no entry: the least there can be, of a row beyond all."""
FOLLOWED = 0.6
"""Of a pool: so many lead to the rest, whose own links lead to little more (benchmarks/ann.py)."""
MIDDLE, HIGHEST = 8192, 32767
"""The score of a link that is as near to the query as its item, and the highest."""


@compiled()
def _place(slots: NDArray[np.int64], row: int) -> int:
    """Where ``row`` is in an open-addressing hash set, or belongs; a slot holds twice a row, and
    one more if it was compared, or -1."""
    slot = (row * 0x9E3779B1 >> 7) & (slots.shape[0] - 1)
    while slots[slot] >= 0 and slots[slot] >> 1 != row:
        slot = (slot + 1) & (slots.shape[0] - 1)
    return int(slot)


@compiled()
def seen_before(slots: NDArray[np.int64], row: int) -> bool:
    """Put ``row`` into a set; True if it was there."""
    slot = _place(slots, row)
    if slots[slot] >= 0:
        return True
    slots[slot] = row << 1
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
def _exact(product: Any, vector: NDArray[Any]) -> Any:
    """The cosine of a query and a vector whose inner ``product`` is known.

    Rounding a vector to float16 has changed its length, so products are divided by that. A cosine
    that no unit vectors have, or NaN, is infinite.
    """
    if not abs(product) < LARGEST_COSINE:
        return np.float32(np.inf)
    return min(max(product / _rounded_length(vector), np.float32(-1)), np.float32(1))


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
    product = dot(query, vectors[row])
    if not product + ROUNDING < best[-1]:
        cosine = _exact(product, vectors[row])
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
def _row(entry: Any) -> Any:
    return (entry >> np.int64(1)) & np.int64((1 << ROW_BITS) - 1)


@compiled()
def estimate_of(entry: Any) -> Any:
    return np.float32(entry >> np.int64(ROW_BITS + 1)) * np.float32(2.0**-27)


@compiled()
def enter(entry: Any, pool: NDArray[np.int64]) -> None:
    """Put an entry into a falling pool, whose last falls out. Vectorised: no branches."""
    for i in range(pool.shape[0] - 1, 0, -1):
        pool[i] = max(pool[i], min(pool[i - 1], entry))
    pool[0] = max(pool[0], entry)


@compiled()
def _enter_again(entry: Any, pool: NDArray[np.int64]) -> None:
    """As `enter`, for a row that was met: of two entries of it the better stays. An item is
    estimated from each that links to it, and best from the nearest."""
    place = np.int64(0)
    for i in range(pool.shape[0]):
        place = max(place, (i + 1) * (_row(pool[i]) == _row(entry)))
    at = place - 1
    if at < 0:
        enter(entry, pool)
    elif entry > pool[at]:
        while at > 0 and pool[at - 1] < entry:
            pool[at] = pool[at - 1]
            at -= 1
        pool[at] = entry


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
        pool: (beam,), entries, falling: where to begin, then NOTHING.
        best, best_rows: (k,) receive what counts, as those of `rerank`.
    """
    offset, gain, unit = scoring
    flat, width = links.reshape(-1), links.shape[1]
    shorts, longs = flat.view(np.int16), flat.view(np.uint32)
    scores = np.empty(LINKS, np.int16)
    seen[:] = -1
    met = 0
    while met < pool.shape[0] and pool[met] != NOTHING:
        row = _row(pool[met])
        if met < STEPS_AHEAD:
            prefetch_row(vectors, row)
            prefetch_row(links, row)
        seen_before(seen, row)
        met += 1
    followed = max(1, int(FOLLOWED * pool.shape[0]))
    while 2 * met < seen.shape[0]:
        at = 0
        while at < followed and pool[at] & LEFT:
            at += 1
        if at == followed or pool[at] == NOTHING:
            break
        row = _row(pool[at])
        if blocked.shape[0] > 0 and blocked[row]:
            cosine = dot(query, vectors[row])
        else:
            cosine = _compare(query, vectors, ids, row, best, best_rows)
        pool[at] |= LEFT
        seen[_place(seen, row)] |= 1
        least = (estimate_of(pool[-1]) - cosine) / unit + MIDDLE
        if not least < HIGHEST:
            continue
        mask = score_links(flat, shorts, row * width, table, (offset, gain, MIDDLE), least, scores)
        while mask:
            link = trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            other = np.int64(longs[(row + 1) * width // 4 - LINKS + link])
            entry = entry_of(cosine + (scores[link] - MIDDLE) * unit, other)
            if entry <= pool[-1] or other >= ids.shape[0]:
                continue
            place = _place(seen, other)
            if seen[place] < 0:
                seen[place] = other << 1
                met += 1
                enter(entry, pool)
            elif not seen[place] & 1:
                _enter_again(entry, pool)
        ahead = at = 0
        while at < followed and ahead < STEPS_AHEAD and pool[at] != NOTHING:
            if not pool[at] & LEFT:
                prefetch_row(vectors, _row(pool[at]))  # which is needed first
                prefetch_row(links, _row(pool[at]))
                ahead += 1
            at += 1
    for i in range(pool.shape[0]):
        if pool[i] != NOTHING and not pool[i] & LEFT:
            prefetch_row(vectors, _row(pool[i]))
    for i in range(pool.shape[0]):
        if pool[i] == NOTHING or pool[i] & LEFT:
            continue
        row = _row(pool[i])
        if blocked.shape[0] == 0 or not blocked[row]:
            _compare(query, vectors, ids, row, best, best_rows)
