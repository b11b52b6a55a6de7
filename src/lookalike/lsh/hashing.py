"""Hyperplanes: vectors -> projections -> codes and keys.

The hash of Charikar (2002) for the cosine: h_r(x) = [r . x > 0] for a random direction r, and
Pr[h_r(x) = h_r(y)] = 1 - theta(x, y) / pi. A code is ``code_bits`` such bits, a key is the first
``key_bits`` bits of a table's own hyperplanes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import open_arrays, write_arrays
from lookalike.lsh.settings import LSHSettings

__all__ = ["MAX_KEY_BITS", "Hasher", "hyperplanes", "pack_bits"]

MAX_KEY_BITS = 24
Floats = NDArray[np.float32]


def hyperplanes(rng: np.random.Generator, count: int, dim: int, orthogonal: bool) -> Floats:
    """Draw ``count`` random directions, shape (count, dim) float32.

    Orthogonal ones come in groups of at most ``dim``: within a group the directions are the rows of
    a random rotation (Ji et al. 2012, "Super-Bit LSH"); each alone is still uniform on the sphere,
    so the collision probability of a single bit does not change, only the variance of their sum.
    """
    if not orthogonal:
        return rng.standard_normal((count, dim)).astype(np.float32)
    groups = []
    for start in range(0, count, dim):
        q, r = np.linalg.qr(rng.standard_normal((dim, min(dim, count - start))))
        groups.append((q * np.sign(np.diag(r))).T)
    return np.concatenate(groups).astype(np.float32)


def pack_bits(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack (n, 64 w) booleans into (n, w) words; bit j of word i is column 64 i + j."""
    words = np.packbits(bits, axis=1, bitorder="little")
    return np.ascontiguousarray(words).view("<u8").astype(np.uint64, copy=False)


@dataclass(frozen=True)
class Hasher:
    """The hash functions of one index.

    Attributes:
        settings: what they were drawn from.
        mean: (dim,) float32, subtracted before hashing; zeros if ``settings.center`` is false.
        planes: (tables * MAX_KEY_BITS + code_bits, dim) float32, key planes first.
        fitted_on: number of vectors that ``mean`` was taken from.
    """

    settings: LSHSettings
    mean: Floats
    planes: Floats
    fitted_on: int

    @classmethod
    def fit(cls, settings: LSHSettings, vectors: Floats) -> Hasher:
        """Draw the hyperplanes from the seed, take the mean of ``vectors`` (n, dim), unit rows."""
        rng = np.random.default_rng(settings.seed)
        orthogonal = settings.family == "orthogonal"
        code_planes = hyperplanes(rng, settings.code_bits, settings.dim, orthogonal)
        key_planes = hyperplanes(rng, settings.tables * MAX_KEY_BITS, settings.dim, orthogonal)
        planes = np.concatenate([key_planes, code_planes])
        return cls(settings, np.zeros(settings.dim, np.float32), planes, 0).refit(vectors)

    def refit(self, vectors: Floats) -> Hasher:
        """The same hyperplanes around the mean of ``vectors``, (n, dim) unit rows."""
        if not self.settings.center or len(vectors) < 2:
            return replace(self, fitted_on=len(vectors))
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return replace(self, mean=mean, fitted_on=len(vectors))

    def spread(self, vectors: Floats) -> float:
        """A low estimate (10th percentile) of the squared distance of unit vectors to the mean.

        Two unit vectors with cosine c then have cosine 1 - (1 - c) / spread around the mean.
        """
        squares = np.square(vectors - self.mean).sum(axis=1)
        return float(max(1e-3, np.quantile(squares, 0.1)))

    def project(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Signed distances of (n, dim) unit vectors to the hyperplanes.

        Returns:
            Those of the key planes, (n, tables, MAX_KEY_BITS), and of the code planes,
            (n, code_bits), float32.
        """
        centred = np.subtract(vectors, self.mean, dtype=np.float32)
        projections = np.matmul(centred, self.planes.T, dtype=np.float32)
        split = self.settings.tables * MAX_KEY_BITS
        keys = projections[:, :split].reshape(len(vectors), self.settings.tables, MAX_KEY_BITS)
        return keys, projections[:, split:]

    def save(self, folder: Path) -> Path:
        meta = {"settings": self.settings.as_dict(), "fitted_on": self.fitted_on}
        return write_arrays(folder, "hasher", meta, {"mean": self.mean, "planes": self.planes})

    @classmethod
    def open(cls, path: Path) -> Hasher:
        """Raises IndexFormatError if the file is damaged; it is small and always checked whole."""
        file = open_arrays(path, "hasher")
        if damaged := file.damaged():
            raise IndexFormatError(f"{path.name} is damaged: {', '.join(damaged)}")
        try:
            settings = LSHSettings.from_dict(file.meta["settings"])
            fitted_on = int(file.meta["fitted_on"])
            arrays: dict[str, NDArray[Any]] = file.arrays
            hasher = cls(settings, arrays["mean"], arrays["planes"], fitted_on)
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(f"{path.name} is damaged: {error}") from error
        rows = settings.tables * MAX_KEY_BITS + settings.code_bits
        if hasher.planes.shape != (rows, settings.dim) or hasher.mean.shape != (settings.dim,):
            raise IndexFormatError(f"{path.name} is damaged: hyperplanes {hasher.planes.shape}")
        return hasher
