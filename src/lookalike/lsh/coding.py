"""Compiled loops over vectors and codes that are not part of a search: encode, pack, compare.

All release the GIL and write only into arrays that they are given or make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.simd import BLOCK, as_float, as_half, popcount

TILE = 64
"""Codes of a bucket that are compared with as many others at a time."""


@compiled(fastmath={"reassoc", "contract", "nsz"})
def scale(rows: NDArray[np.float32]) -> None:
    """Scale each of (m, d) rows to unit length, where it is."""
    for i in range(rows.shape[0]):
        square = np.float32(0)
        for j in range(rows.shape[1]):
            square += rows[i, j] * rows[i, j]
        factor = np.float32(1) / np.sqrt(square)
        for j in range(rows.shape[1]):
            rows[i, j] *= factor


@compiled()
def round_to_half(
    vectors: NDArray[np.float32],
    chosen: NDArray[np.int64],
    bits: NDArray[np.uint16],
    rounded: NDArray[np.float32],
) -> None:
    """Round ``vectors[chosen]`` to float16: their ``bits``, and those as float32, scaled to unit
    length again; both (m, d)."""
    for i in range(chosen.shape[0]):
        vector = vectors[chosen[i]]
        for j in range(vector.shape[0]):
            half = as_half(vector[j])
            bits[i, j] = half
            rounded[i, j] = as_float(half)
        scale(rounded[i : i + 1])


@compiled(fastmath={"reassoc", "contract", "nsz"})
def encode(
    projected: NDArray[np.float32],
    vectors: NDArray[np.float32],
    mean: NDArray[np.float32],
    codes: NDArray[np.uint8],
    ratios: NDArray[np.float32],
    squares: NDArray[np.float32],
) -> None:
    """Codes, squared lengths, and their ratios to the sums of absolute projections, in one pass.

    Args:
        projected: (n, at least bits), distances of the centred vectors to the hyperplanes.
        vectors: (n, dim); mean: (dim,).
        codes: (n, bits / 8) receives the signs, bit 0 of byte 0 first.
        ratios: (n,) receives |x - mean|^2 / sum_j |projected_j|; squares: (n,), |x - mean|^2.
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
        squares[i] = square
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
    additions: NDArray[np.int16],
    order: NDArray[np.int64],
    offsets: NDArray[np.uint32],
    blocks: NDArray[np.uint32],
    out_codes: NDArray[np.uint8],
    out_corrections: NDArray[np.int16],
    out_additions: NDArray[np.int16],
) -> None:
    """Lay the codes of one table out in blocks of BLOCK, each bucket from a block of its own.

    Args:
        codes: (n, bytes) by row; corrections: (n,) by row; additions: likewise, or (0,).
        order: (n,) rows in bucket order; offsets: (buckets + 1,) into it.
        blocks: (buckets + 1,) number of each bucket's first block.
        out_codes: flat, bytes * BLOCK per block; out_corrections, out_additions: flat, BLOCK per
            block.
    """
    width = codes.shape[1]
    for bucket in range(offsets.shape[0] - 1):
        for t in range(offsets[bucket + 1] - offsets[bucket]):
            row = order[offsets[bucket] + t]
            block = np.int64(blocks[bucket]) + t // BLOCK
            i = t % BLOCK
            lane = 2 * (i % 16) + i // 16
            out_corrections[block * BLOCK + i] = corrections[row]
            if additions.shape[0] > 0:
                out_additions[block * BLOCK + i] = additions[row]
            for r in range(width):
                out_codes[(block * width + r) * BLOCK + lane] = codes[row, r]


@compiled()
def _differing(codes: NDArray[np.uint64], a: int, b: int) -> Any:
    """In how many bits two rows of ``codes`` differ."""
    distance = np.uint64(0)
    for w in range(codes.shape[1]):
        distance += popcount(codes[a, w] ^ codes[b, w])
    return distance


@compiled()
def _met_before(codes: NDArray[np.uint64], masks: NDArray[np.uint64], a: int, b: int) -> bool:
    """Whether two rows agree on all the bits of one of ``masks`` (tables, words)."""
    for t in range(masks.shape[0]):
        differ = np.uint64(0)
        for w in range(masks.shape[1]):
            differ |= (codes[a, w] ^ codes[b, w]) & masks[t, w]
        if differ == 0:
            return True
    return False


@compiled()
def near_pairs_in_buckets(
    codes: NDArray[np.uint64],
    masks: NDArray[np.uint64],
    keys: NDArray[np.uint32],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    bound: int,
    first: int,
    second: int,
    out: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Pairs of items with equal keys whose codes differ in at most ``bound`` bits.

    Left out are pairs of equal labels, and those that met in an earlier table. A bucket is walked
    in squares of TILE x TILE pairs, so that pairs found together have few members.

    Args:
        codes: (n, words).
        masks: (tables, words), the bits of the keys of earlier tables.
        keys: (n,) ascending.
        labels: (n,) of what each key belongs to; squares of one label are passed over.
        rows: (n,) the row of ``codes`` that each key belongs to.
        first, second: the places in ``keys`` of the square to begin with; 0, 0 at first.
        out: (m, 2), m at least TILE^2, receives pairs of rows.

    Returns:
        how many pairs were found, and the square to go on with when ``out`` has no room for one
        more; its first place is n when all is done.
    """
    found = 0
    while first < keys.shape[0]:
        end = first + 1
        while end < keys.shape[0] and keys[end] == keys[first]:
            end += 1
        first_end = min(first + TILE, end)
        label = labels[first]
        uniform = True
        for i in range(first, first_end):
            uniform &= labels[i] == label
        second = max(second, first)
        while second < end:
            if out.shape[0] - found < TILE * TILE:
                return found, first, second
            second_end = min(second + TILE, end)
            connected = uniform
            for j in range(second, second_end):
                connected &= labels[j] == label
            if not connected:
                for i in range(first, first_end):
                    a = rows[i]
                    for j in range(max(second, i + 1), second_end):
                        b = rows[j]
                        if (
                            labels[i] != labels[j]
                            and _differing(codes, a, b) <= np.uint64(bound)
                            and not _met_before(codes, masks, a, b)
                        ):
                            out[found, 0], out[found, 1] = a, b
                            found += 1
            second = second_end
        first = first_end
        second = 0
    return found, first, second


@compiled(fastmath=True)
def pair_cosines(
    vectors: NDArray[np.float32], pairs: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Inner products of rows of ``vectors``, unit ones: out (m,)."""
    for i in range(pairs.shape[0]):
        first, second = vectors[pairs[i, 0]], vectors[pairs[i, 1]]
        total = np.float32(0)
        for j in range(first.shape[0]):
            total += first[j] * second[j]
        out[i] = total


@compiled()
def _root(parents: NDArray[np.int64], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


@compiled()
def unite(parents: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
    """Connect the rows of (m, 2) ``pairs``; a row's parent is never behind it."""
    for i in range(pairs.shape[0]):
        a, b = _root(parents, pairs[i, 0]), _root(parents, pairs[i, 1])
        parents[max(a, b)] = min(a, b)


@compiled()
def flatten(parents: NDArray[np.int64]) -> None:
    """Make each row's parent the first row that it is connected with."""
    for row in range(parents.shape[0]):
        parents[row] = parents[parents[row]]
