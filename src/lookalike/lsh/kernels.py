"""The inner loops, compiled by Numba: probing order, Hamming scan, exact cosine.

All release the GIL, write only into arrays they are given or make, and are cached on disk.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["hamming", "near_pairs_in_buckets", "probe_order", "rerank", "scan"]


def _declare_popcount(_context: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


def _declare_as_float(_context: Any, value: Any) -> Any:
    def from_half(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    def unchanged(_context: Any, _builder: Any, _signature: Any, args: Any) -> Any:
        return args[0]

    if isinstance(value, types.Integer):
        return types.float32(types.uint16), from_half
    return types.float32(types.float32), unchanged


_popcount: Any = intrinsic(_declare_popcount)
# A float32, or a float16 given as its 16 bits: LLVM turns a loop of these into vcvtph2ps.
_as_float: Any = intrinsic(_declare_as_float)


@numba.njit(cache=True, nogil=True)
def hamming(codes: NDArray[np.uint64], code: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Bits in which each of (n, w) ``codes`` differs from ``code`` (w,): (n,) uint16."""
    out = np.empty(codes.shape[0], np.uint16)
    for i in range(codes.shape[0]):
        distance = np.uint64(0)
        for w in range(codes.shape[1]):
            distance += _popcount(codes[i, w] ^ code[w])
        out[i] = np.uint16(distance)
    return out


@numba.njit(cache=True, nogil=True)
def probe_order(
    margins: NDArray[np.float32], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:
    """The buckets to visit for one query over all tables, nearest first.

    ``margins`` (tables, bits) are the signed distances of the query to each table's hyperplanes.
    The key itself has score 0; flipping the bits in a set S scores the sum of margin^2 over S, the
    squared distance to the far side of those hyperplanes, which orders buckets by their chance of
    holding a near neighbour (Lv et al. 2007, "Multi-probe LSH", section 4.4). Sets come from a heap
    by the shift and expand moves, each exactly once.

    Returns:
        table (p,), key (p,) and score (p,) of the first p = min(limit, tables * 2^bits) buckets.
    """
    tables, bits = margins.shape
    count = min(limit, tables << bits)
    out_table = np.empty(count, np.int64)
    out_key = np.empty(count, np.uint32)
    out_score = np.empty(count, np.float32)
    order = np.empty((tables, bits), np.int64)
    cost = np.empty((tables, bits), np.float32)
    base = np.zeros(tables, np.uint32)
    size = tables
    capacity = tables + 2 * count
    heap_score = np.empty(capacity, np.float32)
    heap_set = np.empty(capacity, np.uint32)  # positions in the table's sorted margins
    heap_last = np.empty(capacity, np.int64)
    heap_table = np.empty(capacity, np.int64)
    for t in range(tables):
        order[t] = np.argsort(np.abs(margins[t]))
        for j in range(bits):
            cost[t, j] = margins[t, order[t, j]] ** 2
            if margins[t, j] > 0:
                base[t] |= np.uint32(1) << np.uint32(j)
        heap_score[t] = 0
        heap_set[t] = 0
        heap_last[t] = -1
        heap_table[t] = t
    for out in range(count):
        score, chosen, last, t = heap_score[0], heap_set[0], heap_last[0], heap_table[0]
        key = base[t]
        for j in range(last + 1):
            if chosen >> np.uint32(j) & np.uint32(1):
                key ^= np.uint32(1) << np.uint32(order[t, j])
        out_table[out], out_key[out], out_score[out] = t, key, score
        size -= 1
        tail_score, tail_set = heap_score[size], heap_set[size]
        tail_last, tail_table = heap_last[size], heap_table[size]
        hole = 0
        while True:
            child = 2 * hole + 1
            if child >= size:
                break
            if child + 1 < size and heap_score[child + 1] < heap_score[child]:
                child += 1
            if heap_score[child] >= tail_score:
                break
            heap_score[hole], heap_set[hole] = heap_score[child], heap_set[child]
            heap_last[hole], heap_table[hole] = heap_last[child], heap_table[child]
            hole = child
        if size > 0:
            heap_score[hole], heap_set[hole] = tail_score, tail_set
            heap_last[hole], heap_table[hole] = tail_last, tail_table
        if last + 1 >= bits:
            continue
        grown = np.uint32(1) << np.uint32(last + 1)
        for move in range(1 if last < 0 else 2):
            new_score = score + cost[t, last + 1]
            new_set = chosen | grown
            if move == 1:
                new_score -= cost[t, last]
                new_set ^= np.uint32(1) << np.uint32(last)
            slot = size
            size += 1
            while slot > 0 and heap_score[(slot - 1) // 2] > new_score:
                parent = (slot - 1) // 2
                heap_score[slot], heap_set[slot] = heap_score[parent], heap_set[parent]
                heap_last[slot], heap_table[slot] = heap_last[parent], heap_table[parent]
                slot = parent
            heap_score[slot], heap_set[slot] = new_score, new_set
            heap_last[slot], heap_table[slot] = last + 1, t
    return out_table, out_key, out_score


@numba.njit(cache=True, nogil=True)
def scan(
    code: NDArray[np.uint64],
    codes: NDArray[np.uint64],
    offsets: NDArray[np.uint32],
    rows: NDArray[np.uint32],
    blocked: NDArray[np.bool_],
    tables: NDArray[np.int64],
    keys: NDArray[np.uint32],
    budget: int,
    wanted: int,
    depth: int,
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], int]:
    """Visit buckets in the given order and return the ``depth`` candidates nearest by Hamming.

    Probing stops once ``budget`` candidates were met and ``wanted`` of them are not blocked.
    An item met in several tables has the same distance each time; its repeats are dropped.

    Args:
        code: (w,) of the query.
        codes: (L, n, w) of the segment, per table in bucket order.
        offsets: (L, 2^bits + 1) where each bucket begins.
        rows: (L, n) position -> row; with one table, (1, 0): positions are rows.
        blocked: (n,) rows to pass over, or (0,) for none.
        tables, keys: (p,) buckets in probing order.

    Returns:
        rows and distances, nearest first, ties by row; number of candidates met.
    """
    words = code.shape[0]
    single = codes.shape[0] == 1
    met = 0
    capacity = 1024
    found_rows = np.empty(capacity, np.uint32)
    found_bits = np.empty(capacity, np.uint16)
    found = 0
    histogram = np.zeros(words * 64 + 2, np.int64)
    for p in range(keys.shape[0]):
        if met >= budget and found >= wanted * codes.shape[0]:
            break
        t = tables[p]
        start, end = offsets[t, keys[p]], offsets[t, keys[p] + 1]
        met += end - start
        if found + (end - start) > capacity:
            capacity = 2 * (found + (end - start))
            grown_rows = np.empty(capacity, np.uint32)
            grown_rows[:found] = found_rows[:found]
            grown_bits = np.empty(capacity, np.uint16)
            grown_bits[:found] = found_bits[:found]
            found_rows, found_bits = grown_rows, grown_bits
        for i in range(start, end):
            row = np.uint32(i) if single else rows[t, i]
            if blocked.shape[0] > 0 and blocked[row]:
                continue
            distance = np.uint64(0)
            for w in range(words):
                distance += _popcount(codes[t, i, w] ^ code[w])
            found_rows[found] = row
            found_bits[found] = np.uint16(distance)
            histogram[distance + 1] += 1
            found += 1
    for b in range(1, histogram.shape[0]):
        histogram[b] += histogram[b - 1]
    ordered = np.empty(found, np.uint32)
    ordered_bits = np.empty(found, np.uint16)
    for i in range(found):
        slot = histogram[found_bits[i]]
        histogram[found_bits[i]] += 1
        ordered[slot] = found_rows[i]
        ordered_bits[slot] = found_bits[i]
    out_rows = np.empty(min(depth, found), np.uint32)
    out_bits = np.empty(min(depth, found), np.uint16)
    kept = 0
    start = 0
    while start < found and kept < out_rows.shape[0]:
        end = start
        while end < found and ordered_bits[end] == ordered_bits[start]:
            end += 1
        tied = np.sort(ordered[start:end])
        for i in range(tied.shape[0]):
            if (i == 0 or tied[i] != tied[i - 1]) and kept < out_rows.shape[0]:
                out_rows[kept] = tied[i]
                out_bits[kept] = ordered_bits[start]
                kept += 1
        start = end
    return out_rows[:kept], out_bits[:kept], met


@numba.njit(cache=True, nogil=True, fastmath=True)
def rerank(
    query: NDArray[np.float32], vectors: NDArray[Any], rows: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Inner products of ``query`` (d,) with ``vectors[rows]``: (r,) float32.

    ``vectors`` (n, d) are float32, or float16 given as their uint16 bits.
    """
    out = np.empty(rows.shape[0], np.float32)
    for i in range(rows.shape[0]):
        total = np.float32(0)
        vector = vectors[rows[i]]
        for j in range(query.shape[0]):
            total += _as_float(vector[j]) * query[j]
        out[i] = total
    return out


@numba.njit(cache=True, nogil=True)
def near_pairs_in_buckets(
    codes: NDArray[np.uint64],
    keys: NDArray[np.uint32],
    rows: NDArray[np.int64],
    bound: int,
) -> NDArray[np.int64]:
    """Pairs of items with equal keys whose codes differ in at most ``bound`` bits: (m, 2) int64.

    Args:
        codes: (n, words).
        keys: (n,) ascending.
        rows: (n,) the row of ``codes`` that each key belongs to.
    """
    capacity = 1024
    pairs = np.empty((capacity, 2), np.int64)
    found = 0
    start = 0
    while start < keys.shape[0]:
        end = start + 1
        while end < keys.shape[0] and keys[end] == keys[start]:
            end += 1
        for i in range(start, end):
            for j in range(i + 1, end):
                distance = np.uint64(0)
                for w in range(codes.shape[1]):
                    distance += _popcount(codes[rows[i], w] ^ codes[rows[j], w])
                if distance <= np.uint64(bound):
                    if found == capacity:
                        capacity *= 2
                        grown = np.empty((capacity, 2), np.int64)
                        grown[:found] = pairs
                        pairs = grown
                    pairs[found, 0], pairs[found, 1] = rows[i], rows[j]
                    found += 1
        start = end
    return pairs[:found]
