"""Exact search of one segment, in NumPy alone: nothing is compiled, or loaded, for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.segment import Segment
from lookalike.lsh.vectors import widened

NUMBERS_AT_ONCE = (1 << 18, 1 << 20)
"""Of vectors made float32, for one query and for several: 1 and 4 MiB."""
SPARE = 8
"""Rows beyond k whose cosine is computed once more."""
ROUNDING = np.float32(1e-5)
"""By less than which a product of matrices moves a cosine."""
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
    wanted, numbers = k + SPARE, NUMBERS_AT_ONCE[len(queries) > 1]
    at_once = max(1, numbers // queries.shape[1])
    rows = np.full((len(queries), wanted), -1, np.int64)
    cosines = np.full((len(queries), wanted), -np.inf, np.float32)
    for here, vectors in _open_rows(segment, blocked, at_once):
        with np.errstate(all="ignore"):  # a damaged file may hold anything
            lengths = _lengths(vectors)
            if not (lengths < LARGEST_COSINE).all():
                raise segment.damaged(NOT_UNIT)
            found = queries @ vectors.T
            found /= lengths
        if found.shape[1] > wanted:
            at = np.argpartition(found, found.shape[1] - wanted, axis=1)[:, -wanted:]
            found, here = np.take_along_axis(found, at, axis=1), here[at]
        else:
            here = np.broadcast_to(here, found.shape)
        all_rows = np.concatenate([rows, here], axis=1)
        all_cosines = np.concatenate([cosines, found], axis=1)
        order = np.argsort(-all_cosines, axis=1, kind="stable")[:, :wanted]
        rows = np.take_along_axis(all_rows, order, axis=1)
        cosines = np.take_along_axis(all_cosines, order, axis=1)
    # A matrix product rounds an item's cosine by where the item lies; this does not, so that the
    # same items in other segments, or on other machines, give the same bits.
    last = cosines[:, -1].copy()
    for query, its_rows, its_cosines in zip(queries, rows, cosines, strict=True):
        there = np.flatnonzero(its_rows >= 0)
        for start in range(0, len(there), at_once):
            some = there[start : start + at_once]
            its_cosines[some] = _cosines(query, widened(segment.vectors[its_rows[some]]))
    ids = np.where(rows >= 0, segment.ids[np.maximum(rows, 0)], -1)
    nearest = best_of(ids, cosines, k)
    # More are as near as the k-th than were kept: which of them come first is their ids' to say.
    tied = np.flatnonzero(last > nearest.cosines[:, -1] - ROUNDING)
    least = nearest.cosines[:, -1] - 2 * ROUNDING
    nearest.ids[tied], nearest.cosines[tied] = -1, -np.inf
    for here, vectors in _open_rows(segment, blocked, at_once) if tied.size else ():
        products = queries[tied] @ vectors.T / _lengths(vectors)
        for q, product in zip(tied, products, strict=True):
            near = np.flatnonzero(product > least[q])
            ids = np.append(nearest.ids[q], segment.ids[here[near]])
            cosines = np.append(nearest.cosines[q], _cosines(queries[q], vectors[near]))
            best = best_of(ids[np.newaxis], cosines[np.newaxis], k)
            nearest.ids[q], nearest.cosines[q] = best.ids[0], best.cosines[0]
    if (nearest.ids[nearest.cosines > -np.inf] < 0).any():
        raise segment.damaged("ids")
    return nearest


def _open_rows(
    segment: Segment, blocked: NDArray[np.bool_], at_once: int
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """The rows that are not blocked, some ``at_once``, and their vectors."""
    chosen = np.flatnonzero(~blocked) if blocked.size else None
    total = len(segment) if chosen is None else len(chosen)
    for start in range(0, total, at_once):
        stop = min(total, start + at_once)
        here = np.arange(start, stop) if chosen is None else chosen[start:stop]
        yield here, widened(segment.vectors[slice(start, stop) if chosen is None else here])


def _lengths(vectors: Floats) -> Floats:
    """Of stored vectors: 1, but for rounding to float16."""
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def _cosines(query: Floats, vectors: Floats) -> Floats:
    """Of a query, (dim,), and stored vectors (n, dim), within what they may be: (n,)."""
    cosines: Floats = np.einsum("ij,j->i", vectors, query) / _lengths(vectors)
    return np.clip(cosines, -1, 1, out=cosines)


def best_of_all(parts: Sequence[Neighbors], queries: int, k: int) -> Neighbors:
    """The ``k`` best of what parts of an index found, (queries, any) each."""
    if len(parts) == 1 and parts[0].ids.shape[1] == k:
        return parts[0]
    best = Neighbors(np.full((queries, k), -1), np.full((queries, k), -np.inf, np.float32))
    if parts:
        all_ids, all_cosines = zip(*parts, strict=True)
        found = best_of(np.concatenate(all_ids, axis=1), np.concatenate(all_cosines, axis=1), k)
        best.ids[:, : found.ids.shape[1]], best.cosines[:, : found.ids.shape[1]] = found
    return best


def best_of(ids: NDArray[np.int64], cosines: Floats, k: int) -> Neighbors:
    """The ``k`` largest of each row, falling by cosine, then rising by id."""
    order = np.lexsort((ids, -cosines), axis=1)[:, :k]
    best = np.take_along_axis(cosines, order, axis=1)
    return Neighbors(np.take_along_axis(ids, order, axis=1), best)
