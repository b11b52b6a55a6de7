"""Which buckets a query visits, in which order, and how far: compiled by Numba, in front of a scan.

All release the GIL and write only into arrays that they are given or make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.simd import as_float

BINS = 256
EQUAL = np.float32(1e-5)
# With these flags sums and maxima may be taken in any order, and so are vectorised; infinities stay
# what they are.
LOOSE = {"reassoc", "contract", "nnan", "nsz"}


@compiled()
def sign_scores(margins: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """How near each bucket of a sign hash is, from the query's distances to the hyperplanes.

    The score of bucket v is minus the sum of margin_j^2 over the bits j in which v differs from the
    query's own signs: minus the squared distance to that cell as if the hyperplanes were
    orthogonal, the probing order of Lv et al. (2007, section 4.4). Built by doubling, one addition
    per bucket.

    Args:
        margins: (m, bits); out: (m, 2^bits).
    """
    for i in range(margins.shape[0]):
        start = np.float32(0)
        for j in range(margins.shape[1]):
            if margins[i, j] > 0:
                start -= margins[i, j] * margins[i, j]
        out[i, 0] = start
        for j in range(margins.shape[1]):
            gain = margins[i, j] * margins[i, j]
            if margins[i, j] <= 0:
                gain = -gain
            half = 1 << j
            for v in range(half):
                out[i, half + v] = out[i, v] + gain


@compiled(fastmath=LOOSE)
def _product(vector: NDArray[np.float32], matrix: NDArray[Any], out: NDArray[np.float32]) -> None:
    """vector (n,) @ matrix (n, m), float32 or float16 as its bits, into ``out`` (m,), four rows at
    a time: of one vector in half of the time that BLAS takes."""
    fours = vector.shape[0] // 4 * 4
    out[:] = 0
    for j in range(0, fours, 4):
        a, b, c, d = vector[j], vector[j + 1], vector[j + 2], vector[j + 3]
        for i in range(out.shape[0]):
            first = a * as_float(matrix[j, i]) + b * as_float(matrix[j + 1, i])
            second = c * as_float(matrix[j + 2, i]) + d * as_float(matrix[j + 3, i])
            out[i] += first + second
    for j in range(fours, vector.shape[0]):
        for i in range(out.shape[0]):
            out[i] += vector[j] * as_float(matrix[j, i])


@compiled()
def project(
    query: NDArray[np.float32],
    projection: Any,
    margins: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    """What ``Hasher.prepare`` and ``Hasher.bucket_scores`` make of one query, (dim,).

    Args:
        projection: a ``Projection``.
        margins: (code_bits,) and scores: (buckets,) receive the results.
    """
    basis, planes, key_map, mean_on_planes, mapped_mean, anchors = projection
    if basis.shape[0] > 0:
        narrowed = np.empty(basis.shape[1], np.float32)
        _product(query, basis, narrowed)
        query = narrowed
    mapped = np.empty(key_map.shape[1], np.float32)
    _product(query, planes, margins)
    _product(query, key_map, mapped)
    margins -= mean_on_planes
    mapped -= mapped_mean
    _product(mapped, anchors, scores)


@compiled(fastmath=LOOSE)
def _moments(scores: NDArray[np.float32]) -> tuple[Any, Any, Any]:
    """Mean, standard deviation and maximum."""
    total = np.float32(0)
    squares = np.float32(0)
    for b in range(scores.shape[0]):
        total += scores[b]
        squares += scores[b] * scores[b]
    high = scores[0]
    for b in range(scores.shape[0]):  # a loop of its own: together they are not vectorised
        high = scores[b] if scores[b] > high else high
    mean = total / scores.shape[0]
    return mean, np.sqrt(max(squares / scores.shape[0] - mean * mean, np.float32(0))), high


@compiled(fastmath=LOOSE)
def _at_least(
    low: Any,
    scores: NDArray[np.float32],
    sizes: NDArray[np.uint32],
    chosen: NDArray[np.int64],
) -> tuple[Any, Any]:
    """Put the buckets that score ``low`` or more and hold items into ``chosen``; their number, and
    that of their items. Written without branches, which would be mispredicted.
    """
    near = np.int64(0)
    for b in range(scores.shape[0]):
        chosen[near] = b
        near += np.int64(scores[b] >= low)
    kept = np.int64(0)
    items = np.int64(0)
    for i in range(near):
        size = np.int64(sizes[chosen[i]])
        chosen[kept] = chosen[i]
        kept += np.int64(size > 0)
        items += size
    return kept, items


@compiled(fastmath=LOOSE)
def choose_buckets(
    scores: NDArray[np.float32],
    sizes: NDArray[np.uint32],
    budget: int,
    chosen: NDArray[np.int64],
    spare: NDArray[np.int64],
) -> int:
    """The buckets of all tables to visit, in exact order of falling score.

    Buckets without items are left out; the list ends with the one that brings the number of items
    to ``budget``, or with all.

    Args:
        scores, sizes: (buckets of all tables,).
        chosen: as long, receives the buckets; spare: as long, scratch.

    Returns:
        how many were chosen.
    """
    mean, deviation, high = _moments(scores)
    # The best fiftieth is enough for few items, the best sixth mostly; then the better half; all.
    for deviations in (2, 1, 0):
        low = mean + deviations * deviation
        kept, items = _at_least(low, scores, sizes, chosen)
        if items >= budget:
            break
    else:
        kept, items = _at_least(np.float32(-np.inf), scores, sizes, chosen)
        low = high
        for i in range(kept):
            low = min(low, scores[chosen[i]])
    # Counting sort into bins finds where to stop; only what is before is sorted exactly.
    factor = np.float32(BINS - 1) / max(high - low, np.float32(1e-30))
    starts = np.zeros(BINS + 1, np.int64)
    held = np.zeros(BINS, np.int64)
    for i in range(kept):
        where = np.int32((high - scores[chosen[i]]) * factor)
        starts[where + 1] += 1
        held[where] += np.int64(sizes[chosen[i]])
    items = np.int64(0)
    last = np.int64(BINS - 1)
    for b in range(BINS):
        items += held[b]
        starts[b + 1] += starts[b]
        if items >= budget:
            last = np.int64(b)
            break
    number = starts[last + 1]
    for i in range(kept):
        where = np.int32((high - scores[chosen[i]]) * factor)
        if where <= last:
            spare[starts[where]] = chosen[i]
            starts[where] += 1
    for i in range(number):  # insertion sort: only neighbours within a bin are out of order
        score = scores[spare[i]]
        j = i
        while j > 0 and scores[chosen[j - 1]] < score:
            chosen[j] = chosen[j - 1]
            j -= 1
        chosen[j] = spare[i]
    items = np.int64(0)
    for i in range(number):
        items += np.int64(sizes[chosen[i]])
        if items >= budget:
            return i + 1
    return int(number)


@compiled()
def equal_scores(scores: NDArray[np.float32], chosen: NDArray[np.int64], count: int) -> int:
    """How many of the first buckets score the best but for rounding."""
    least = scores[chosen[0]] if count else np.float32(0)
    least -= EQUAL * max(abs(least), np.float32(1e-6))
    equal = 0
    while equal < count and scores[chosen[equal]] >= least:
        equal += 1
    return equal
