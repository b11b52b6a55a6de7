"""Vectors and ids as callers give them, checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 1e-6  # of a length of one: float32 cannot do better
TINY, HUGE = 1e-15, 1e15  # lengths whose squares float32 holds
FLOAT32 = np.dtype(np.float32)
Floats = NDArray[np.float32]


def widened(stored: NDArray[Any]) -> Floats:
    """Stored vectors, float16 or float32, as a new float32 array.

    A float16's bits, shifted, are the float32 of 2^-112 times its value: that takes a sixth of the
    time of NumPy's conversion. What only damage makes, infinity and NaN, becomes 65,536 or more.
    """
    if stored.dtype != np.float16:
        return stored.astype(np.float32)
    bits = stored.view(np.int16).astype(np.int32)  # the sign is repeated
    bits <<= 13
    bits &= -0x70002000  # all but the exponent's upper three
    vectors = bits.view(np.float32)
    vectors *= np.float32(2.0**112)
    return vectors


def as_floats(values: ArrayLike) -> Floats:
    """As float32, in which what is too large becomes infinity. ValueError for complex numbers."""
    array = np.asarray(values)
    if array.dtype is FLOAT32:
        return array
    if array.dtype.kind == "c":
        raise ValueError("vectors are complex; give real ones, such as both parts side by side")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def unit_rows(vectors: ArrayLike, dim: int) -> Floats:
    """Check (n, dim) vectors and scale each row to unit length.

    Raises:
        ValueError: wrong shape, complex, NaN or infinity in float32, or a row of length zero; names
            the row.
    """
    rows = as_floats(vectors)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"vectors have shape {rows.shape}; this index takes (n, {dim})")
    if len(rows) == 1:  # a query: a quarter of the time
        norm = math.sqrt(rows[0].dot(rows[0]))
        if TINY < norm < HUGE:
            return rows if abs(norm - 1) < UNIT else rows * np.float32(1 / norm)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if norms.size and not TINY < norms.min() <= norms.max() < HUGE:  # or float32 is not enough
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if norms.size and not 0 < norms.min() <= norms.max() < np.inf:
        bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
        what = "zero" if norms[bad[0]] == 0 else "not finite (NaN, infinity or above 3.4e38)"
        raise ValueError(f"vector {bad[0]} is {what}; the cosine is undefined, leave it out")
    if norms.size and norms.max() - 1 < UNIT and 1 - norms.min() < UNIT:
        return rows
    unit: Floats = rows / norms[:, np.newaxis].astype(np.float32)
    return unit


def as_ids(ids: ArrayLike) -> NDArray[np.int64]:
    """(n,) int64. ValueError for what is not a row of integers from 0 to 2^63 - 1."""
    array = np.atleast_1d(np.asarray(ids))
    if array.size == 0:
        return np.empty(0, np.int64)
    kind = array.dtype.kind
    whole = array.ndim == 1 and kind in "iu"
    if not whole or array.min() < 0 or (kind == "u" and array.max() > np.iinfo(np.int64).max):
        raise ValueError("ids must be a one-dimensional array of integers from 0 to 2^63 - 1")
    return array.astype(np.int64)


def as_batch(ids: ArrayLike, vectors: ArrayLike, dim: int) -> tuple[NDArray[np.int64], Floats]:
    """A batch to add: its ids (n,), distinct, and unit rows (n, dim). Raises ValueError."""
    new_ids, rows = as_ids(ids), unit_rows(vectors, dim)
    if len(new_ids) != len(rows):
        raise ValueError(f"{len(new_ids)} ids for {len(rows)} vectors")
    ascending = bool((np.diff(new_ids) > 0).all())
    if not ascending and len(np.unique(new_ids)) != len(new_ids):
        raise ValueError("ids repeat within the batch")
    return new_ids, rows


def as_query(query: ArrayLike, dim: int) -> Floats:
    """One query, float32, as a single row. ValueError if it is several."""
    row = as_floats(query)
    if row.ndim != 1:
        raise ValueError(f"query has shape {row.shape}; it must be ({dim},)")
    return row
