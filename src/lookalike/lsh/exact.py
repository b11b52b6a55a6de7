"""Exact search of one segment, in NumPy alone: nothing is compiled, or loaded, for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.segment import Segment
from lookalike.lsh.vectors import widened

NUMBERS_AT_ONCE = (1 << 18, 1 << 20)
"""Of vectors made float32, for one query and for several: 1 and 4 MiB."""
SPARE = 8
"""Rows beyond k whose cosine is computed once more."""
LARGEST_COSINE = np.float32(1.02)
"""Of unit vectors that were rounded to float16."""
NOT_UNIT = "a vector is not of unit length"
Floats = NDArray[np.float32]


class Neighbors(NamedTuple):
    """What a search found, best first.

    ``ids`` int64, -1 where fewer than k items exist; ``cosines`` float32, -inf there. Shapes
    (q, k), or (k,) for a single query.
    """

    ids: NDArray[np.int64]
    cosines: Floats


def search_exactly(
    segment: Segment, queries: Floats, k: int, blocked: NDArray[np.bool_]
) -> Neighbors:
    """The ``k`` nearest of all rows that are not blocked; results as a ``Search`` gives them.

    Args:
        queries: (q, dim) unit rows; blocked: (n,) rows that do not count, or (0,).

    Raises:
        ValueError: the segment keeps no vectors.
        IndexFormatError: it holds an id or a vector that only a damaged file has.
    """
    if len(segment) and not len(segment.vectors):
        raise ValueError("this index keeps no vectors, so an exact search is impossible")
    chosen = np.flatnonzero(~blocked) if blocked.size else None
    total = len(segment) if chosen is None else len(chosen)
    wanted, numbers = k + SPARE, NUMBERS_AT_ONCE[len(queries) > 1]
    at_once = max(1, numbers // queries.shape[1])
    rows = np.full((len(queries), wanted), -1, np.int64)
    cosines = np.full((len(queries), wanted), -np.inf, np.float32)
    for start in range(0, total, at_once):
        stop = min(total, start + at_once)
        here = np.arange(start, stop) if chosen is None else chosen[start:stop]
        part = segment.vectors[slice(start, stop) if chosen is None else here]
        vectors = widened(part)
        with np.errstate(all="ignore"):  # a damaged file may hold anything
            lengths = _lengths(vectors)
            if not (lengths < LARGEST_COSINE).all():
                raise segment.damaged(NOT_UNIT)
            found = queries @ vectors.T
            found /= lengths
        best = found
        if found.shape[1] > wanted:
            at = np.argpartition(found, found.shape[1] - wanted, axis=1)[:, -wanted:]
            best, here = np.take_along_axis(found, at, axis=1), here[at]
        else:
            here = np.broadcast_to(here, found.shape)
        all_rows = np.concatenate([rows, here], axis=1)
        all_cosines = np.concatenate([cosines, best], axis=1)
        order = np.argsort(-all_cosines, axis=1, kind="stable")[:, :wanted]
        rows = np.take_along_axis(all_rows, order, axis=1)
        cosines = np.take_along_axis(all_cosines, order, axis=1)
    # A matrix product rounds an item's cosine by where the item lies; this does not, so that the
    # same items in other segments, or on other machines, give the same bits.
    for query, its_rows, its_cosines in zip(queries, rows, cosines, strict=True):
        there = np.flatnonzero(its_rows >= 0)
        for start in range(0, len(there), at_once):
            some = there[start : start + at_once]
            vectors = widened(segment.vectors[its_rows[some]])
            its_cosines[some] = np.einsum("ij,j->i", vectors, query) / _lengths(vectors)
    np.clip(cosines, -1, 1, out=cosines, where=rows >= 0)  # rounding may exceed them
    ids = np.where(rows >= 0, segment.ids[np.maximum(rows, 0)], -1)
    if (ids[rows >= 0] < 0).any():
        raise segment.damaged("ids")
    return best_of(ids, cosines, k)


def _lengths(vectors: Floats) -> Floats:
    """Of stored vectors: 1, but for rounding to float16."""
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def best_of_all(parts: Sequence[Neighbors], queries: int, k: int) -> Neighbors:
    """The ``k`` best of what parts of an index found, (queries, k) each."""
    if not parts:
        none = np.full((queries, k), -np.inf, np.float32)
        return Neighbors(np.full((queries, k), -1, np.int64), none)
    if len(parts) == 1:
        return parts[0]
    ids, cosines = (np.concatenate(some, axis=1) for some in zip(*parts, strict=True))
    return best_of(ids, cosines, k)


def best_of(ids: NDArray[np.int64], cosines: Floats, k: int) -> Neighbors:
    """The ``k`` largest of each row, falling by cosine, then rising by id."""
    order = np.lexsort((ids, -cosines), axis=1)[:, :k]
    best = np.take_along_axis(cosines, order, axis=1)
    return Neighbors(np.take_along_axis(ids, order, axis=1), best)
