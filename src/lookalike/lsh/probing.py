"""Which buckets a query visits, in which order, and how far: compiled by Numba, in front of a scan.

All release the GIL and write only into arrays that they are given or make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.simd import as_float, rotate

BINS = 256
EQUAL = np.float32(1e-5)
# With these flags sums and maxima may be taken in any order, and so are vectorised; infinities stay
# what they are.
LOOSE = {"reassoc", "contract", "nnan", "nsz"}
IN_ORDER = {"contract"}


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


@compiled()
def _lower(word: Any) -> Any:
    return as_float(word << np.uint32(16))


@compiled()
def _upper(word: Any) -> Any:
    return as_float(word & np.uint32(0xFFFF0000))


@compiled(fastmath=IN_ORDER)
def product(vector: NDArray[np.float32], pairs: NDArray[np.uint32], out: Any) -> None:
    """vector (n or more,) @ a matrix (n, 2 w) of bfloat16 in ``pairs`` (n, w), see ``Projection``,
    into ``out`` (2 w,), eight rows at a time: of one vector in a third of the time of BLAS."""
    rows, width = pairs.shape
    lower, upper = out[:width], out[width:]
    out[:] = 0
    eights = rows // 8 * 8
    for j in range(0, eights, 8):
        a, b, c, d = vector[j], vector[j + 1], vector[j + 2], vector[j + 3]
        e, f, g, h = vector[j + 4], vector[j + 5], vector[j + 6], vector[j + 7]
        for i in range(width):
            m, n, o, p = pairs[j, i], pairs[j + 1, i], pairs[j + 2, i], pairs[j + 3, i]
            q, r, s, t = pairs[j + 4, i], pairs[j + 5, i], pairs[j + 6, i], pairs[j + 7, i]
            low = lower[i] + a * _lower(m) + b * _lower(n) + c * _lower(o) + d * _lower(p)
            high = upper[i] + a * _upper(m) + b * _upper(n) + c * _upper(o) + d * _upper(p)
            lower[i] = low + e * _lower(q) + f * _lower(r) + g * _lower(s) + h * _lower(t)
            upper[i] = high + e * _upper(q) + f * _upper(r) + g * _upper(s) + h * _upper(t)
    for j in range(eights, rows):
        for i in range(width):
            lower[i] += vector[j] * _lower(pairs[j, i])
            upper[i] += vector[j] * _upper(pairs[j, i])


@compiled()
def project(query: NDArray[np.float32], projection: Any, projected: NDArray[np.float32]) -> None:
    """What ``Hasher.prepare`` makes of one query, (dim,).

    Args:
        projection: a ``Projection``, as a plain tuple.
        projected: (code_bits + p,) or one more, receives the margins and what is mapped.
    """
    basis, signs, planes, of_mean, _ = projection
    if basis.shape[0] > 0:
        narrowed = np.empty(2 * basis.shape[1], np.float32)
        product(query, basis, narrowed)
        query = narrowed
    rotate(query, signs, projected)
    product(query, planes, projected[signs.shape[0] * signs.shape[2] :])
    for i in range(of_mean.shape[0]):
        projected[i] -= of_mean[i]


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
