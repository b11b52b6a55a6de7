"""PCA and iterative quantisation (Gong and Lazebnik 2011)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.families import Principal, itq

__all__ = ["ITQ"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ITQ:
    """Bit j of x is [planes_j . (x - mean) > 0]: mean (d,), planes (bits, d), float32.

    The planes are the leading principal axes, turned so that projections are near their signs.
    """

    mean: Floats
    planes: Floats

    @classmethod
    def fit(cls, vectors: Floats, bits: int, seed: int) -> ITQ:
        """Of vectors (n, d). ValueError for more bits than they have principal axes."""
        n, dim = vectors.shape
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = np.subtract(vectors, mean, dtype=np.float32)
        limit = dim
        if 1 <= bits <= dim:
            axes = Principal.of(centred)
            limit = len(axes.axes)
            if bits <= limit:
                return cls(mean, itq(np.random.default_rng(seed), bits, axes, centred))
        raise ValueError(
            f"bits is {bits}; it must be from 1 to {limit}, the principal axes of {n} vectors of "
            f"{dim} numbers"
        )

    def project(self, vectors: Floats) -> Floats:
        """(n, d) -> (n, bits), above 0 for a bit of 1."""
        projected: Floats = np.subtract(vectors, self.mean, dtype=np.float32) @ self.planes.T
        return projected
