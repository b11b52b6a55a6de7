"""All pairs above a cosine without comparing all pairs: the codes are hashed once more, in bands.

Items that agree on ``bits`` randomly chosen bits of their codes meet in a bucket; enough such
tables make a pair at the threshold meet in at least one of them with the chance asked for. A pair
of angle theta agrees on one bit with p = 1 - theta / pi, on a table with p^bits, and on at least
one of m tables with 1 - (1 - p^bits)^m (Charikar 2002; Leskovec et al., "Mining of Massive
Datasets", section 3.4).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["bands", "candidate_pairs", "collision_probability", "hamming_bound"]

MAX_TABLES = 2000
BUCKET = 16


def collision_probability(cosine: float) -> float:
    """1 - theta / pi: the chance that one random hyperplane has both vectors on the same side."""
    return 1.0 - math.acos(min(1.0, max(-1.0, cosine))) / math.pi


def bands(n: int, agreement: float, recall: float, code_bits: int) -> tuple[int, int]:
    """Key bits and number of tables, so that a pair meets with chance ``recall``.

    Buckets of about BUCKET items at random, fewer key bits if that would take over MAX_TABLES; none
    (one bucket of all) where tables would compare more pairs than there are.
    """
    bits = min(24, code_bits, int(math.log2(n / BUCKET))) if n > BUCKET else 0
    while bits > 0:
        meets = agreement**bits
        if meets >= 1.0:
            return bits, 1
        tables = math.log(1 - recall) / math.log1p(-meets) if meets > 0 else math.inf
        if tables <= min(MAX_TABLES, 1 << bits):
            return bits, math.ceil(tables)
        bits -= 1
    return 0, 1


def hamming_bound(agreement: float, code_bits: int) -> int:
    """Bits in which a pair at the threshold differs at most, but for one in 30,000 (4 sigma)."""
    mean = code_bits * (1 - agreement)
    return min(code_bits, math.ceil(mean + 4 * math.sqrt(mean * agreement)))


def candidate_pairs(
    codes: NDArray[np.uint64], agreement: float, recall: float, seed: int
) -> NDArray[np.int64]:
    """Pairs of rows of (n, words) ``codes`` that meet and differ in few enough bits.

    Rows of equal codes are linked in a chain instead of each with each, so that many copies of one
    picture stay cheap.

    Returns:
        (m, 2) int64, first < second, no repeats, ascending.
    """
    from lookalike.lsh.coding import near_pairs_in_buckets

    order = np.lexsort(codes.T)
    equal = (codes[order][1:] == codes[order][:-1]).all(axis=1)
    chained = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    first = np.sort(order[np.concatenate([[True], ~equal])] if len(order) else order)
    distinct = np.ascontiguousarray(codes[first])
    code_bits = codes.shape[1] * 64
    bits, tables = bands(len(distinct), agreement, recall, code_bits)
    bound = hamming_bound(agreement, code_bits)
    rng = np.random.default_rng(seed)
    found = [np.sort(chained, axis=1)]
    for _ in range(tables if len(distinct) > 1 else 0):
        keys = np.zeros(len(distinct), np.uint32)
        for j, bit in enumerate(rng.choice(code_bits, bits, replace=False)):
            word = distinct[:, bit // 64] >> np.uint64(bit % 64)
            keys |= (word & np.uint64(1)).astype(np.uint32) << np.uint32(j)
        by_key = np.argsort(keys, kind="stable")
        pairs = near_pairs_in_buckets(distinct, keys[by_key], by_key, bound)
        found.append(np.sort(first[pairs], axis=1))
        if len(found) > 32:
            found = [np.unique(np.concatenate(found), axis=0)]
    return np.unique(np.concatenate(found), axis=0).astype(np.int64)
