"""Where images lie on a map: near each other if their embeddings are. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 50
"""To which embeddings are projected before they are compared: noise and time are left out."""
BLOCK = 1024
NEGATIVES = 8
ROUNDS = 250
SPREAD = 8.0
"""Extent of the first layout, in the units of the forces, which act over about 1."""
LARGEST_STEP = 2.0


def _principal(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Coordinates along the principal axes, (n, dim) -> (n, d), d at most ``dimensions``."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    best = axes[:, ::-1][:, :dimensions]
    return np.asarray(centred @ best, np.float32)


def project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors of at most DIMENSIONS, (n, dim) -> (n, d), that are near where those are."""
    made = _principal(vectors, DIMENSIONS)
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return np.asarray(made / np.maximum(lengths, 1e-9), np.float32)


def _nearest(vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places of the ``k`` nearest others of each unit vector, by exact comparison: (n, k), in any
    order; n > k."""
    found = np.empty((len(vectors), k), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        found[start + rows] = np.argpartition(-block, k - 1, axis=1)[:, :k]
    return found


def place(vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """A layout in the plane, float32 (n, 2), from 0 to 1 on the longer side.

    Begins with the two principal axes. Then every image is drawn to its ``k`` nearest and pushed
    away from some drawn at random, by the forces of UMAP (McInnes et al. 2018) with a = b = 1,
    ROUNDS times with ever smaller steps. The same for the same vectors.

    Args:
        vectors: unit vectors (n, dim), n > k.
    """
    count, near = len(vectors), _nearest(vectors, k)
    at = _principal(vectors, 2).astype(np.float64)
    at *= SPREAD / max(1e-9, np.abs(at).max())
    rng = np.random.default_rng(0)
    at += rng.normal(0, 1e-3, at.shape)  # equal images would never part
    ends = np.concatenate([near.ravel(), np.repeat(np.arange(count), k)])
    starts = np.concatenate([np.repeat(np.arange(count), k), near.ravel()])
    degrees = np.bincount(starts, minlength=count)[:, np.newaxis]
    for number in range(ROUNDS):
        apart = at[starts] - at[ends]
        pull = -2 * apart / (1 + (apart**2).sum(axis=1, keepdims=True))
        others = rng.integers(0, count, (count, NEGATIVES))
        away = at[:, np.newaxis] - at[others]
        square = (away**2).sum(axis=2, keepdims=True)
        push = (2 * away / ((0.01 + square) * (1 + square))).mean(axis=1)
        drawn = np.stack([np.bincount(starts, pull[:, i], count) for i in (0, 1)], axis=1)
        step = np.clip(drawn / degrees + 4 * push, -LARGEST_STEP, LARGEST_STEP)
        at += (1 - number / ROUNDS) * step
    low = at.min(axis=0)
    size = float((at.max(axis=0) - low).max()) or 1.0
    return np.asarray((at - low) / size, np.float32)
