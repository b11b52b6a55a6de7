"""Hash families: where their hyperplanes and anchors come from. Pure arrays.

Two shapes cover them all. A *sign* family has hyperplanes (bits, dim), and a vector's bits are the
signs of its distances to them. An *anchor* family has points (buckets, dim), and a vector's bucket
is the one with the largest inner product. Prefixes are families too: the first b hyperplanes, or
the first 2^b anchors.

`CODES` and `KEYS` at the end are all that the rest of the code knows of them: a new family is a
function here and an entry there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MAX_KEY_BITS = 14
MAX_POLYTOPE_BITS = 11
ITQ_ROUNDS = 30
WHITENING = 0.25
WHITENED_AXES = 48
FAST_FROM = 128
"""Dimensions from which on rotations are fast ones: in 32, codes of those rank a little worse."""


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

    @classmethod
    def at_random(cls, rng: np.random.Generator, count: int, dim: int) -> Principal:
        """Axes of a random rotation, for data that have no principal ones."""
        return cls(orthogonal(rng, count, dim), np.ones(count, np.float32))

    def hides(self, centred: Floats, squares: Floats) -> bool:
        """Whether the leading axes show next to nothing of one in a hundred of (n, dim) vectors of
        squared lengths (n,): less than a tenth of what as many axes at random would.
        """
        count, dim = min(WHITENED_AXES, len(self.axes)), centred.shape[1]
        shown = np.square(centred @ self.axes[:count].T).sum(axis=1)
        shares = shown[squares > 0] / squares[squares > 0]
        return bool(shares.size and np.quantile(shares, 0.01) < 0.1 * count / dim)


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


def _can_be_fast(count: int, dim: int) -> bool:
    return dim >= FAST_FROM and not dim & dim - 1 and not count % dim


def _transform(rows: Floats) -> Floats:
    """The Hadamard transform of each of (n, dim) rows; dim a power of two."""
    step, mixed = 1, rows
    while step < rows.shape[1]:
        one, other = np.moveaxis(mixed.reshape(-1, 2, step), 1, 0)
        mixed = np.stack([one + other, one - other], axis=1)
        step *= 2
    return mixed.reshape(rows.shape)


def rotated(vectors: Floats, signs: Floats) -> Floats:
    """What ``simd.rotate_all`` makes of (n, dim) vectors, to the bit, but nothing is compiled:
    (n, groups * dim)."""
    groups = [_transform(_transform(vectors * first) * second) for first, second in signs]
    return np.concatenate(groups, axis=1)


def fast_rotations(rng: np.random.Generator, count: int, dim: int) -> Floats:
    """Directions (count, dim), the rows of rotations H E H D / dim: H the Hadamard transform, D and
    E random signs. `simd.rotate` multiplies by one in dim log dim steps (Ailon and Chazelle 2009;
    Andoni et al. 2015), and its numbers, of at most a byte each, are exact in bfloat16.

    ``dim`` is a power of two, of which ``count`` is a multiple.
    """
    signs = rng.choice([-1, 1], (count // dim, 2, dim)).astype(np.float32)
    signs[:, 1] /= dim
    return np.ascontiguousarray(rotated(np.eye(dim, dtype=np.float32), signs).T)


def signs_of(planes: Floats) -> Floats:
    """The signs that `fast_rotations` drew of its ``planes`` (count, dim): (count / dim, 2, dim),
    the second over dim; (0, 2, dim) if they are other directions.

    H E H holds the transform of E at the place i xor j, and D the signs of its columns.
    """
    count, dim = planes.shape
    signs = np.empty((count // dim if _can_be_fast(count, dim) else 0, 2, dim), np.float32)
    if not len(signs):
        return signs
    each = np.arange(dim)
    for group, (first, second) in zip(planes.reshape(-1, dim, dim), signs, strict=True):
        column = group[:, 0]  # the transform of E, if D begins with 1, as it may
        first[:] = np.sign((group * column[each ^ each[:, None]]).sum(axis=0))
        second[:] = np.sign(_transform(column[np.newaxis])[0]) / np.float32(dim)
    same = (planes == rotated(np.eye(dim, dtype=np.float32), signs).T).all()
    return signs if same else signs[:0]


def principal(rng: np.random.Generator, count: int, axes: Principal) -> Floats:
    """Random orthogonal directions (count, dim) within the span of the ``count`` leading axes.

    When codes are shorter than the vectors, this spends the bits where the data vary. From a sample
    too small to have so many axes, it takes the whole space instead. Where it takes the whole space
    anyway, rotations are `fast_rotations` if they can be.
    """
    found, dim = axes.axes.shape
    if _can_be_fast(count, dim):
        return fast_rotations(rng, count, dim)
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


def whitening(axes: Principal) -> Floats:
    """The map (p, dim) to at most WHITENED_AXES leading axes, partly whitened.

    Without whitening a few strong axes decide, and buckets are very uneven; with axes divided by
    variance^(1/4) they are even and hold more of a query's neighbours per item visited.
    """
    count = min(WHITENED_AXES, len(axes.axes))
    scale = axes.variance[:count, np.newaxis] ** np.float32(-WHITENING)
    whitened: Floats = (axes.axes[:count] * scale).astype(np.float32)
    return whitened


def voronoi(rng: np.random.Generator, buckets: int, axes: Principal, centred: Floats) -> Floats:
    """Random points of the sample as anchors (at most ``buckets``, p), unit length, in the space of
    :func:`whitening`. Cells of sample points as a hash function: Pauleve et al. 2010.
    """
    chosen = rng.permutation(len(centred))[:buckets]
    points = centred[chosen] @ whitening(axes).T
    lengths = np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.float32(1e-12))
    anchors: Floats = (points / lengths).astype(np.float32)
    return anchors


# ---- what settings may name -----------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """What a family draws its functions from.

    Attributes:
        rng: the only source of chance.
        centred: (n, dim) vectors, n >= 1, with mean zero where the settings say so.
        axes: their principal axes, for learned families alone.
    """

    rng: np.random.Generator
    centred: Floats
    axes: Principal | None

    @property
    def dim(self) -> int:
        return int(self.centred.shape[1])

    @property
    def principal(self) -> Principal:
        assert self.axes is not None
        return self.axes


@dataclass(frozen=True)
class CodeFamily:
    """A sign family for codes.

    Attributes:
        planes: of a sample and a number of bits, hyperplanes (bits, dim).
        learned: whether they depend on the sample's vectors.
        follows_axes: whether it finds as much in the coordinates of the leading principal axes as
            in the vectors' own; long vectors are then projected onto those first.
    """

    planes: Callable[[Sample, int], Floats]
    learned: bool = False
    follows_axes: bool = False


@dataclass(frozen=True)
class KeyFamily:
    """A family that names buckets.

    Attributes:
        points: of a sample, key bits and a number of tables, (tables, m, p) in the space of the
            keys: hyperplanes, m = key bits, or anchors, m <= 2^key bits.
        signs: whether they are hyperplanes.
        learned, follows_axes: as for codes.
        space: of a sample, the map (p, dim) that takes centred vectors to the space of the keys;
            None: the vectors' own.
        most_bits: the most key bits that a segment may choose for itself.
    """

    points: Callable[[Sample, int, int], Floats]
    signs: bool = False
    learned: bool = False
    follows_axes: bool = False
    space: Callable[[Sample], Floats] | None = None
    most_bits: int = MAX_KEY_BITS


def _tables(points: Callable[[Sample, int], Floats]) -> Callable[[Sample, int, int], Floats]:
    """For each table drawn by itself."""
    return lambda sample, bits, tables: np.stack([points(sample, bits) for _ in range(tables)])


CODES = {
    "orthogonal": CodeFamily(lambda sample, bits: orthogonal(sample.rng, bits, sample.dim)),
    "hyperplanes": CodeFamily(lambda sample, bits: hyperplanes(sample.rng, bits, sample.dim)),
    "itq": CodeFamily(
        lambda sample, bits: itq(sample.rng, bits, sample.principal, sample.centred), learned=True
    ),
    "principal": CodeFamily(
        lambda sample, bits: principal(sample.rng, bits, sample.principal),
        learned=True,
        follows_axes=True,
    ),
}
KEYS = {
    "voronoi": KeyFamily(
        _tables(
            lambda sample, bits: voronoi(sample.rng, 1 << bits, sample.principal, sample.centred)
        ),
        learned=True,
        follows_axes=True,
        space=lambda sample: whitening(sample.principal),
    ),
    "cross-polytope": KeyFamily(
        _tables(lambda sample, bits: cross_polytope(sample.rng, 1 << bits, sample.dim)),
        most_bits=MAX_POLYTOPE_BITS,
    ),
    "orthogonal": KeyFamily(  # all tables' at once, so that they differ as much as they can
        lambda sample, bits, tables: orthogonal(sample.rng, bits * tables, sample.dim).reshape(
            tables, bits, -1
        ),
        signs=True,
    ),
    "hyperplanes": KeyFamily(
        _tables(lambda sample, bits: hyperplanes(sample.rng, bits, sample.dim)), signs=True
    ),
    "itq": KeyFamily(
        _tables(lambda sample, bits: itq(sample.rng, bits, sample.principal, sample.centred)),
        signs=True,
        learned=True,
    ),
}
