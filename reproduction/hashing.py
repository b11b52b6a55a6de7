"""Short codes of the paper's related work: how they are learnt, and how galleries are ranked.

Codes are -1 and 1 where they are learnt, bits 0 and 1 (1 for what is above 0) where they are kept.

**CNNH** (Xia et al. 2014). Step 1: with S (n, n) = 1 for two images of a class and -1 for others,
the codes H, n rows of q bits, minimise

    |S - H H^T / q|^2  (Frobenius),  H in {-1, 1}, relaxed to [-1, 1] and rounded at the end,

by coordinate descent: a Newton step of one entry at a time. S is known by its classes, and some
optimum has equal codes within each class: pairs of a class then cost nothing, and the member whose
code costs least against the other classes can lend it to all of its class. So entries of a class
move together; what is left is a problem of c codes C weighted by the sizes of the classes,

    sum over classes a, b of  n_a n_b (S_ab - C_a . C_b / q)^2,

with no array of n x n. Step 2: the network's q outputs are trained towards the codes (`CodeLoss`).

**DNNH** (Lai et al. 2015): each bit from a slice of the features (`DivideAndEncode`), triplets
ranked on soft bits (`TripletRankingLoss`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.lsh.families import Principal, hyperplanes, itq
from lookalike.models.embedder import Embedder
from lookalike.models.layers import unit, whitening
from reproduction.collection import Floats, Positions

Doubles = NDArray[np.float64]
Encode = Callable[[Floats], Floats]
"""Unit rows (n, dim) -> numbers (n, bits), above 0 for a bit of 1."""
SWEEPS = 30
SMALL = 1e-5
"""The share of n^2, what codes of zeros cost, that a sweep must gain for another to follow."""
SLICE = 50
"""Features of each bit, as Lai et al. have it."""
SHARPNESS = 3.0
"""Rows of length 1 have entries of about 1 / sqrt(bits); times this root, a bit can be sure."""


# ---- codes of embeddings -------------------------------------------------------------------------


def lsh_codes(dim: int, bits: int, seed: int) -> Encode:
    """Signs of random projections (Charikar 2002), as in the paper's Section 3.3."""
    planes = hyperplanes(np.random.default_rng(seed), bits, dim)
    return lambda rows: rows @ planes.T


def itq_codes(vectors: Floats, bits: int, seed: int) -> Encode:
    """PCA and iterative quantisation (Gong and Lazebnik 2011) of vectors (n, d): the leading
    principal axes, turned so that projections are near their signs.

    ValueError for more bits than the vectors have principal axes.
    """
    n, dim = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = np.subtract(vectors, mean, dtype=np.float32)
    axes = Principal.of(centred)
    if not 1 <= bits <= len(axes.axes):
        raise ValueError(
            f"bits is {bits}; it must be from 1 to {len(axes.axes)}, the principal axes of {n} "
            f"vectors of dimension {dim}"
        )
    planes = itq(np.random.default_rng(seed), bits, axes, centred)
    return lambda rows: np.subtract(rows, mean, dtype=np.float32) @ planes.T


def pca(vectors: NDArray[Any], dim: int) -> Callable[[NDArray[Any]], Floats]:
    """Neural codes compressed by PCA (Babenko et al. 2014), learnt from vectors (n, d): a function
    of rows (m, d) to unit rows (m, dim).

    ValueError for more components than the vectors have directions, at most n - 1 or d.
    """
    mean, matrix = (part.numpy() for part in whitening(_unit(vectors), dim, power=0.0))

    def reduce(rows: NDArray[Any]) -> Floats:
        reduced = _unit((_unit(rows).numpy() - mean) @ matrix.T).numpy()
        return reduced.astype(np.float32)

    return reduce


def _unit(rows: NDArray[Any]) -> Tensor:
    return unit(torch.from_numpy(np.asarray(rows, np.float64)))


def pack(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, bits) of any type -> uint8 (n, ceil(bits / 8)); a bit is 1 for what is above 0.

    Bit j is in byte j // 8, little endian; the last byte is filled up with 0.
    """
    return np.packbits(codes > 0, axis=1, bitorder="little")


def tie_order(count: int) -> Positions:
    """The place of each of `count` gallery items among those at the same distance: int64 (count,).

    Few distances are possible, so ties are many; a gallery sorted by class must not decide them.
    """
    return np.random.default_rng(0).permutation(count)


def hamming_rank(
    query_code: NDArray[np.uint8], gallery_codes: NDArray[np.uint8], k: int
) -> Positions:
    """The k nearest of a gallery (n, bytes) by Hamming distance, as `pack` made the codes: int64
    (k,), nearest first; k up to n.
    """
    count = len(gallery_codes)
    distances = np.bitwise_count(gallery_codes ^ query_code).sum(axis=1, dtype=np.int64)
    keys = distances * count + tie_order(count)  # all different
    nearest = np.argpartition(keys, k - 1)[:k]
    return nearest[np.argsort(keys[nearest])]


# ---- CNNH ----------------------------------------------------------------------------------------


def class_codes(sizes: Positions, bits: int, seed: int) -> NDArray[np.int8]:
    """Step 1: classes of `sizes` (c,) images, each at least 1 -> their codes of -1 and 1, int8
    (c, bits), all different.

    ValueError for fewer codes of `bits` than classes.
    """
    if bits < 1 or len(sizes) > 2**bits:
        raise ValueError(f"{bits} bits are too few for different codes of {len(sizes)} classes")
    rng = np.random.default_rng(seed)
    weights = np.asarray(sizes, np.float64)
    relaxed = rng.uniform(-1, 1, (len(weights), bits))
    residual = 2 * np.eye(len(weights)) - 1 - relaxed @ relaxed.T / bits
    for _ in range(SWEEPS):
        order = rng.permutation(len(weights)).tolist()
        if sum(_descend(relaxed, residual, weights, a) for a in order) < SMALL * weights.sum() ** 2:
            break
    codes = np.where(relaxed >= 0, 1, -1).astype(np.int8)
    _make_distinct(codes, weights)
    return codes


def _descend(codes: Doubles, residual: Doubles, sizes: Doubles, a: int) -> float:
    """A step of each entry of class a, in place; how much the objective fell. With the residual
    R = S - C C^T / q, which is kept up to date, its derivatives by C_aj are

    f'  = -(4 / q) n_a sum_b n_b R_ab C_bj
    f'' = (4 / q^2) n_a (sum_b n_b C_bj^2 + n_a C_aj^2 - q n_a R_aa)
    """
    bits, size, gain = codes.shape[1], float(sizes[a]), 0.0
    for j in range(bits):
        column, entry = codes[:, j], float(codes[a, j])
        slope = -4 / bits * size * float(sizes * residual[a] @ column)
        own = size * (entry**2 - bits * float(residual[a, a]))
        bend = 4 / bits**2 * size * (float(sizes @ column**2) + own)
        step, change = _step(slope, bend, entry, size / bits)
        gain -= change
        residual[a] -= step * column / bits
        residual[a, a] -= step * (entry + step) / bits
        residual[:, a] = residual[a]
        codes[a, j] = entry + step
    return gain


def _step(slope: float, bend: float, entry: float, share: float) -> tuple[float, float]:
    """Newton's step within [-1, 1], and how it changes the objective, never for the worse.

    Where the objective bends down, the step goes to the bound; a longer step is halved. Both are
    judged by the objective along the entry, a polynomial of degree four: `share` is n_a / q.
    """
    wanted = -slope / bend if bend > 0 else -2 * np.sign(slope)
    step = float(np.clip(wanted, -1 - entry, 1 - entry))
    while abs(step) > 1e-9:
        rest = share**2 * (4 * entry * step**3 + step**4)
        change = slope * step + bend * step**2 / 2 + rest
        if change < 0:
            return step, change
        step /= 2
    return 0.0, 0.0


def _make_distinct(codes: NDArray[np.int8], sizes: Doubles) -> None:
    """Flip the fewest bits of a class whose code is taken, those that cost least."""
    bits = codes.shape[1]
    taken: set[bytes] = set()
    for a, code in enumerate(codes):
        for count in range(bits + 1):
            free = []
            for places in combinations(range(bits), count):
                other = code.copy()
                other[list(places)] *= -1
                if other.tobytes() not in taken:
                    free.append(other)
            if free:
                break
        others = np.arange(len(codes)) != a
        cosines = np.stack(free).astype(np.float64) @ codes[others].T / bits
        costs = np.square(cosines + 1) @ sizes[others]
        code[:] = free[int(np.argmin(costs))]
        taken.add(code.tobytes())


class CodeLoss(nn.Module):
    """Step 2: cross entropy of outputs to target codes, the mean over images and bits.

    Output z of a bit says that it is 1 with probability sigmoid(`scale` z), so that an image's
    code is the sign of its outputs. `codes` (m, bits) are above 0 for a bit of 1; labels choose
    their rows, so they are `class_codes` with classes 0..m - 1 as labels, or one code for each
    training image with its number as label. Outputs are those of a linear layer; rows of length
    1, as an embedder gives them, need a `scale` of a few times sqrt(bits).
    """

    targets: Tensor

    def __init__(self, codes: NDArray[Any], scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("targets", torch.from_numpy(codes > 0).float())
        self.scale = scale

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(n, bits), int64 (n,) -> scalar."""
        return F.binary_cross_entropy_with_logits(self.scale * outputs, self.targets[labels])


# ---- DNNH ----------------------------------------------------------------------------------------


class DivideAndEncode(nn.Module):
    """Features (n, width) -> soft bits (n, bits), within 0..1.

    The features are cut into `bits` slices of equal length; bit j is sigmoid(w_j . slice_j). A hard
    bit is [w_j . slice_j > 0]; the paper's piece-wise threshold, which makes most soft bits hard
    after training, does not change it and is left out. `width` is a multiple of `bits`.
    """

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        reach = (width // bits) ** -0.5  # as nn.Linear of a slice
        self.weight = nn.Parameter(torch.empty(bits, width // bits).uniform_(-reach, reach))

    def forward(self, features: Tensor) -> Tensor:
        slices = torch.unflatten(features, 1, self.weight.shape)
        return torch.sigmoid((slices * self.weight).sum(2))

    def matrix(self) -> Tensor:
        """The weights of all slices as one linear map, (bits, width)."""
        bits, length = self.weight.shape
        rows = self.weight.new_zeros(bits, bits, length)
        rows[range(bits), range(bits)] = self.weight.detach()
        return rows.flatten(1)


class TripletRankingLoss(nn.Module):
    """max(0, 1 - |F(I) - F(I-)|^2 + |F(I) - F(I+)|^2), the mean over all triplets of a batch:
    each pair (I, I+) of a class with each image I- of another. A batch without one costs 0.
    """

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Soft bits (n, bits), int64 (n,) -> scalar. Holds up to n^3 numbers."""
        distances = (codes.unsqueeze(1) - codes.unsqueeze(0)).square().sum(2)
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors, positives = (pairs & (~same).any(1, keepdim=True)).nonzero(as_tuple=True)
        if not len(anchors):
            return codes.sum() * 0
        near, far = distances[anchors, positives], distances[anchors]
        return (1 + near.unsqueeze(1) - far)[~same[anchors]].relu().mean()


# ---- objectives of networks ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Hashing:
    """How codes are learnt together with the network that gives them.

    Attributes:
        width: dimension of the network's FC while it learns.
        criterion: unit rows (n, width), int64 (n,) -> scalar; it may have weights of its own.
        finish: turns the FC of the trained embedder into one of `bits` outputs, whose signs are
            the code.
    """

    width: int
    criterion: nn.Module
    finish: Callable[[Embedder], None]


class SlicedRanking(nn.Module):
    """Slices of the features become soft bits, which triplets rank."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.width = SLICE * bits
        self.encode, self.rank = DivideAndEncode(self.width, bits), TripletRankingLoss()

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.rank(self.encode(math.sqrt(self.width) * rows), labels)
        return loss


def cnnh(bits: int, sizes: Positions, seed: int) -> Hashing:
    """Step 2 of CNNH [12]: the network learns the codes that step 1 gave to the classes."""
    codes = class_codes(sizes, bits, seed)
    return Hashing(bits, CodeLoss(codes, SHARPNESS * math.sqrt(bits)), lambda _: None)


def dnnh(bits: int, sizes: Positions, seed: int) -> Hashing:
    """DNNH [13]: features and codes in one step."""
    criterion = SlicedRanking(bits)

    def finish(embedder: Embedder) -> None:
        embedder.fold(torch.zeros(criterion.width), criterion.encode.matrix())

    return Hashing(criterion.width, criterion, finish)


HASHINGS: dict[str, Callable[[int, Positions, int], Hashing]] = {"cnnh": cnnh, "dnnh": dnnh}
"""By the name in a recipe: functions of bits, images of each class, and the seed."""
