"""The look-up table with which a query's codes are scored, compiled by Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.hashing import LARGEST_ADDITION
from lookalike.lsh.probing import LOOSE
from lookalike.lsh.simd import SCORES

TABLE_MAX = 63
TOP = 3072
"""The score of an item that has as much in common with the query as any can."""


@compiled(fastmath=LOOSE)
def most_in_common(
    query: NDArray[np.float32], numbers: NDArray[np.float32], mean: NDArray[np.float32]
) -> Any:
    """The most that an item of the lengths that the hasher was fitted on can have in common with a
    query: the largest (q - mean) . (x - mean) + (middle - |x - mean|^2) / 2; see ``Scoring``.
    """
    least, largest, middle = numbers[2], numbers[3], numbers[4]
    square = np.float32(0)
    for j in range(query.shape[0]):
        difference = query[j] - mean[j]
        square += difference * difference
    reach = np.sqrt(square)
    length = min(max(reach, least), largest)
    return reach * length + (middle - length * length) / 2


@compiled()
def table_limit(groups: int) -> int:
    """The largest table entry with which a sum over ``groups`` nibbles stays below SCORES."""
    return min(TABLE_MAX, (SCORES - groups) // groups)


@compiled(fastmath=LOOSE)
def make_table(
    margins: NDArray[np.float32],
    whole: int,
    step: float,
    top: float,
    finest: float,
    out: NDArray[np.uint8],
) -> tuple[tuple[int, int, int], Any]:
    """The query's look-up table for ``score_block``; its offset, gain and base; and its scale.

    For bits s_j in {-1, +1} of a code, sum_j margin_j s_j is a sum over nibbles; each nibble's 16
    values, less their smallest, are scaled to whole numbers up to TABLE_MAX or what keeps the sum
    below SCORES. With ``whole`` > 0 that is the scale instead: for margins of -1 and +1 the score
    then grows by 2 * whole for each equal bit, without rounding (Hamming ranking).

    Args:
        margins: (bits,), bits a multiple of 16.
        step: what an addition of 1 stands for, in correction units; 0: there are no additions.
        top: the largest sum that an item can have, in correction units: it scores TOP.
        finest: the largest scale that will do.
        out: (bits * 4,) receives the table.
    """
    groups = margins.shape[0] // 4
    limit = table_limit(groups)
    widest = np.float32(1e-30)
    half = np.float32(0)
    for g in range(groups):
        span = np.float32(0)
        for b in range(4):
            span += 2 * abs(margins[4 * g + b])
        widest = max(widest, span)
        half += span / 2
    scale = np.float32(limit) / widest if whole == 0 else np.float32(whole)
    scale = min(scale, np.float32(finest))
    if step > 0:  # additions grow by less than one score each
        scale = min(scale, np.float32(0.999) / np.float32(step))
    for g in range(groups):
        lowest = np.float32(0.5)  # to round
        for b in range(4):
            lowest -= 2 * scale * min(margins[4 * g + b], np.float32(0))
        first = 2 * scale * margins[4 * g]
        second = 2 * scale * margins[4 * g + 1]
        third = 2 * scale * margins[4 * g + 2]
        fourth = 2 * scale * margins[4 * g + 3]
        for v in range(16):  # vectorised: no branches, no dependence
            total = lowest + first * (v & 1) + second * (v >> 1 & 1)
            total += third * (v >> 2 & 1) + fourth * (v >> 3)
            out[16 * g + v] = np.uint8(np.int32(total))
    offset = int(half * scale + np.float32(0.5))
    if step == 0:
        return (offset, 0, SCORES // 2), scale
    lowest_base = np.float32(-LARGEST_ADDITION + SCORES)  # with which no score leaves 16 bits
    gain = int(scale * np.float32(step) * np.float32(1 << 15) + np.float32(0.5))
    base = int(max(np.float32(TOP) - np.float32(top) * scale, lowest_base))
    return (offset, gain, base), scale
