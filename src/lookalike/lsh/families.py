"""Hash families: where their hyperplanes and anchors come from. Pure arrays.

Two shapes cover them all. A *sign* family has hyperplanes (bits, dim), and a vector's bits are the
signs of its distances to them. An *anchor* family has points (buckets, dim), and a vector's bucket
is the one with the largest inner product. Prefixes are families too: the first b hyperplanes, or
the first 2^b anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Principal",
    "cross_polytope",
    "hyperplanes",
    "itq",
    "orthogonal",
    "principal",
    "voronoi",
]

Floats = NDArray[np.float32]
ITQ_ROUNDS = 30
WHITENING = 0.25
WHITENED_AXES = 48


@dataclass(frozen=True)
class Principal:
    """Principal axes of a sample, by falling variance: ``axes`` (p, dim), ``variance`` (p,)."""

    axes: Floats
    variance: Floats

    @classmethod
    def of(cls, centred: Floats) -> Principal:
        """Of (n, dim) vectors with mean zero; from 1 to min(n, dim) axes."""
        n, dim = centred.shape
        if n < dim:  # the smaller of two matrices that share their eigenvalues
            variance, coefficients = np.linalg.eigh(centred @ centred.T / np.float32(n))
            strong = variance > 1e-6 * max(float(variance[-1]), 1e-12)
            strong[-1] = True
            axes = coefficients.T[strong] @ centred
            axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), np.float32(1e-12))
            variance = variance[strong]
        else:
            variance, vectors = np.linalg.eigh(centred.T @ centred / np.float32(n))
            axes = vectors.T
        positive = np.maximum(variance[::-1], 1e-12)
        return cls(np.ascontiguousarray(axes[::-1]), positive.astype(np.float32))


def hyperplanes(rng: np.random.Generator, count: int, dim: int) -> Floats:
    """Independent Gaussian directions (count, dim); Pr[same sign] = 1 - theta / pi (Charikar)."""
    return rng.standard_normal((count, dim)).astype(np.float32)


def orthogonal(rng: np.random.Generator, count: int, dim: int) -> Floats:
    """Unit directions (count, dim), the rows of random rotations in groups of at most ``dim``.

    Each alone is uniform on the sphere, so a single bit collides as with :func:`hyperplanes`; the
    sum of the bits varies less (Ji et al. 2012, "Super-Bit Locality-Sensitive Hashing").
    """
    groups = []
    for start in range(0, count, dim):
        q, r = np.linalg.qr(rng.standard_normal((dim, min(dim, count - start))))
        groups.append((q * np.sign(np.diag(r))).T)
    return np.concatenate(groups).astype(np.float32)


def principal(rng: np.random.Generator, count: int, axes: Principal) -> Floats:
    """Random orthogonal directions (count, dim) within the span of the ``count`` leading axes.

    When codes are shorter than the vectors, this spends the bits where the data vary. From a sample
    too small to have so many axes, it takes the whole space instead.
    """
    found, dim = axes.axes.shape
    if found < min(count, dim):
        return orthogonal(rng, count, dim)
    leading = axes.axes[: min(count, dim)]
    return orthogonal(rng, count, len(leading)) @ leading


def itq(rng: np.random.Generator, count: int, axes: Principal, centred: Floats) -> Floats:
    """Iterative quantisation (Gong and Lazebnik 2011): (count, dim).

    A rotation of the leading principal axes that brings the projections of the sample ``centred``
    (n, dim) near to their signs; in groups if ``count`` exceeds their number.
    """
    groups: list[Floats] = []
    while (missing := count - sum(len(group) for group in groups)) > 0:
        leading = axes.axes[: min(missing, len(axes.axes))]
        projected = centred @ leading.T
        rotation = orthogonal(rng, len(leading), len(leading))
        for _ in range(ITQ_ROUNDS):
            signs = np.where(projected @ rotation.T > 0, np.float32(1), np.float32(-1))
            u, _, v = np.linalg.svd(signs.T @ projected)
            rotation = (u @ v).astype(np.float32)
        groups.append(rotation @ leading)
    return np.concatenate(groups).astype(np.float32)


def cross_polytope(rng: np.random.Generator, buckets: int, dim: int) -> Floats:
    """Anchors (buckets, dim): plus and minus each axis of random rotations (Andoni et al. 2015)."""
    axes = orthogonal(rng, (buckets + 1) // 2, dim)
    return np.stack([axes, -axes], axis=1).reshape(-1, dim)[:buckets]


def voronoi(
    rng: np.random.Generator, buckets: int, axes: Principal, centred: Floats
) -> tuple[Floats, Floats]:
    """Random points of the sample as anchors, in partly whitened principal axes.

    Without whitening a few strong axes decide, and buckets are very uneven; with axes divided by
    variance^(1/4) they are even and hold more of a query's neighbours per item visited. Cells of
    sample points as a hash function: Pauleve et al. 2010.

    Returns:
        anchors (at most ``buckets``, p), unit length, and the map (p, dim) that takes centred
        vectors to their space.
    """
    count = min(WHITENED_AXES, len(axes.axes))
    scale = axes.variance[:count, np.newaxis] ** np.float32(-WHITENING)
    whiten = axes.axes[:count] * scale
    chosen = rng.permutation(len(centred))[:buckets]
    points = centred[chosen] @ whiten.T
    lengths = np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.float32(1e-12))
    return (points / lengths).astype(np.float32), whiten.astype(np.float32)
