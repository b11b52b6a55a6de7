"""Compiled loops over vectors and codes that are no part of a search: encode, pack, compare.

All release the GIL and write only into arrays that they are given or make.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.simd import BLOCK, as_float, as_half, popcount

__all__ = [
    "argmax_rows",
    "encode",
    "gather_codes",
    "hamming_rows",
    "near_pairs_in_buckets",
    "pack_blocks",
    "round_to_half",
]


@compiled()
def round_to_half(
    vectors: NDArray[np.float32],
    chosen: NDArray[np.int64],
    bits: NDArray[np.uint16],
    rounded: NDArray[np.float32],
) -> None:
    """Round ``vectors[chosen]`` to float16: their ``bits``, and those as float32; both (m, d)."""
    for i in range(chosen.shape[0]):
        vector = vectors[chosen[i]]
        for j in range(vector.shape[0]):
            half = as_half(vector[j])
            bits[i, j] = half
            rounded[i, j] = as_float(half)


@compiled(fastmath={"reassoc", "contract", "nsz"})
def encode(
    projected: NDArray[np.float32],
    vectors: NDArray[np.float32],
    mean: NDArray[np.float32],
    codes: NDArray[np.uint8],
    ratios: NDArray[np.float32],
) -> None:
    """Codes, and the ratio of squared length to the sum of absolute projections, in one pass.

    Args:
        projected: (n, at least bits), distances of the centred vectors to the hyperplanes.
        vectors: (n, dim); mean: (dim,).
        codes: (n, bits / 8) receives the signs, bit 0 of byte 0 first.
        ratios: (n,) receives |x - mean|^2 / sum_j |projected_j|.
    """
    for i in range(vectors.shape[0]):
        total = np.float32(0)
        for j in range(8 * codes.shape[1]):
            total += abs(projected[i, j])
        for byte in range(codes.shape[1]):
            bits = np.uint8(0)
            for j in range(8):
                bits |= np.uint8(projected[i, 8 * byte + j] > 0) << np.uint8(j)
            codes[i, byte] = bits
        square = np.float32(0)
        for j in range(vectors.shape[1]):
            difference = vectors[i, j] - mean[j]
            square += difference * difference
        ratios[i] = square / max(total, np.float32(1e-12))


@compiled()
def argmax_rows(scores: NDArray[np.float32], out: NDArray[np.uint32]) -> None:
    """Column of the largest value of each row of (m, b) ``scores``, the first one on ties."""
    for i in range(scores.shape[0]):
        best = scores[i, 0]
        at = 0
        for start in range(0, scores.shape[1], 64):  # a maximum of 64 is vectorised, a search not
            end = min(start + 64, scores.shape[1])
            top = scores[i, start]
            for j in range(start, end):
                top = max(top, scores[i, j])
            if top > best:
                best = top
                at = start
        for j in range(at, scores.shape[1]):
            if scores[i, j] == best:
                out[i] = j
                break


@compiled()
def pack_blocks(
    codes: NDArray[np.uint8],
    corrections: NDArray[np.int16],
    order: NDArray[np.int64],
    offsets: NDArray[np.uint32],
    blocks: NDArray[np.uint32],
    out_codes: NDArray[np.uint8],
    out_corrections: NDArray[np.int16],
) -> None:
    """Lay the codes of one table out in blocks of BLOCK, each bucket from a block of its own.

    Args:
        codes: (n, bytes) by row; corrections: (n,) by row.
        order: (n,) rows in bucket order; offsets: (buckets + 1,) into it.
        blocks: (buckets + 1,) number of each bucket's first block.
        out_codes: flat, bytes * BLOCK per block; out_corrections: flat, BLOCK per block.
    """
    width = codes.shape[1]
    for bucket in range(offsets.shape[0] - 1):
        for t in range(offsets[bucket + 1] - offsets[bucket]):
            row = order[offsets[bucket] + t]
            block = np.int64(blocks[bucket]) + t // BLOCK
            i = t % BLOCK
            lane = 2 * (i % 16) + i // 16
            out_corrections[block * BLOCK + i] = corrections[row]
            for r in range(width):
                out_codes[(block * width + r) * BLOCK + lane] = codes[row, r]


@compiled()
def gather_codes(
    rows: NDArray[np.int64],
    offsets: NDArray[np.uint32],
    blocks: NDArray[np.uint32],
    codes: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """The codes of ``rows`` (r,) of the first table, out of their blocks: out (r, bytes)."""
    for i in range(rows.shape[0]):
        low, high = 0, offsets.shape[0] - 1
        while high - low > 1:  # the last bucket that begins at or before the row
            middle = (low + high) // 2
            if offsets[middle] <= rows[i]:
                low = middle
            else:
                high = middle
        t = rows[i] - np.int64(offsets[low])
        block = np.int64(blocks[low]) + t // BLOCK
        lane = 2 * (t % BLOCK % 16) + t % BLOCK // 16
        for r in range(out.shape[1]):
            out[i, r] = codes[(block * out.shape[1] + r) * BLOCK + lane]


@compiled()
def hamming_rows(codes: NDArray[np.uint64], code: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Bits in which each of (n, w) ``codes`` differs from ``code`` (w,): (n,) int32."""
    out = np.empty(codes.shape[0], np.int32)
    for i in range(codes.shape[0]):
        distance = np.uint64(0)
        for w in range(codes.shape[1]):
            distance += popcount(codes[i, w] ^ code[w])
        out[i] = np.int32(distance)
    return out


@compiled()
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
                    distance += popcount(codes[rows[i], w] ^ codes[rows[j], w])
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
