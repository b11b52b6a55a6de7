"""Neural codes compressed by PCA (Babenko et al. 2014): unit rows -> fewer numbers -> unit rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.models.layers import unit, whitening

__all__ = ["PCA"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PCA:
    """y = u(matrix (u(x) - mean)), u making a row a unit one: mean (d,), matrix (dim, d)."""

    mean: Floats
    matrix: Floats

    @classmethod
    def fit(cls, vectors: NDArray[Any], dim: int, *, whiten: bool = False) -> PCA:
        """Of vectors (n, d) of any length; `whiten` gives each component unit variance.

        ValueError for more components than the vectors have directions, at most n - 1 or d.
        """
        mean, matrix = whitening(_unit(vectors), dim, power=0.5 if whiten else 0.0)
        return cls(mean.numpy(), matrix.numpy())

    def reduce(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """(n, d) -> unit rows (n, dim), float32, to be compared by cosine."""
        rows = (_unit(vectors).numpy() - self.mean) @ self.matrix.T
        return _unit(rows).numpy().astype(np.float32)


def _unit(rows: NDArray[Any]) -> torch.Tensor:
    return unit(torch.from_numpy(np.asarray(rows, np.float64)))
