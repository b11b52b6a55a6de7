"""CNNH (Xia et al. 2014): codes out of labels alone, then a network that learns them.

Step 1. With S (n, n) = 1 for two pictures of a class and -1 for others, the codes H, n rows of q
bits, are to minimise

    |S - H H^T / q|^2  (Frobenius),  H in {-1, 1}, relaxed to [-1, 1] and rounded at the end,

by coordinate descent: a Newton step of one entry at a time.

S is known by its classes, which makes that small. With codes of -1 and 1 some optimum has equal
codes within each class: pairs of a class then cost nothing, and the member whose code costs least
against the other classes can lend it to all of its class. So entries of a class move together; what
is left is a problem of c codes C weighted by the sizes of the classes,

    sum over classes a, b of  n_a n_b (S_ab - C_a . C_b / q)^2,

whose gradient takes 1^T H and H^T H, and no array of n x n.

Step 2. The network's q outputs are trained towards the codes: `CodeLoss`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CodeLoss", "class_codes"]

Floats = NDArray[np.float64]
SWEEPS = 30
SMALL = 1e-5
"""The share of n^2, what codes of zeros cost, that a sweep must gain for another to follow."""


def class_codes(sizes: NDArray[np.int64], bits: int, seed: int) -> NDArray[np.int8]:
    """Step 1: classes of `sizes` (c,) pictures, each at least 1 -> their codes of -1 and 1, int8
    (c, bits), all different.

    ValueError for fewer codes of `bits` than classes.
    """
    if bits < 1 or len(sizes) > 2**bits:
        raise ValueError(f"{bits} bits are too few for different codes of {len(sizes)} classes")
    rng = np.random.default_rng(seed)
    weights = np.asarray(sizes, np.float64)
    relaxed = rng.uniform(-1, 1, (len(weights), bits))
    descent = _Descent(relaxed, weights)
    for _ in range(SWEEPS):
        gain = sum(descent.row(a) for a in rng.permutation(len(weights)).tolist())
        if gain < SMALL * weights.sum() ** 2:
            break
    codes = np.where(relaxed >= 0, 1, -1).astype(np.int8)
    _make_distinct(codes, weights)
    return codes


class _Descent:
    """Coordinate descent on the codes of classes, in place; keeps 1^T H and H^T H up to date."""

    def __init__(self, codes: Floats, sizes: Floats) -> None:
        self.codes, self.sizes = codes, sizes
        self.total = sizes @ codes  # 1^T H (q,)
        self.gram = (codes.T * sizes) @ codes  # H^T H (q, q)

    def row(self, a: int) -> float:
        """A step of each entry of class a; how much the objective fell."""
        bits = self.codes.shape[1]
        code, size = self.codes[a], float(self.sizes[a])
        gain = 0.0
        for j in range(bits):
            slope, bend = self.derivatives(a, j)
            entry = float(code[j])
            step, change = _step(slope, bend, entry, size / bits)
            gain -= change
            code[j] = entry + step
            moved = size * step * code
            self.total[j] += size * step
            self.gram[j] += moved
            self.gram[:, j] += moved
            self.gram[j, j] -= size * step**2  # counted twice by row and column
        return gain

    def derivatives(self, a: int, j: int) -> tuple[float, float]:
        """Of the objective by entry C_aj, first and second. With R = S - C C^T / q:

        f'  = -(4 / q) n_a sum_b n_b R_ab C_bj
        f'' = (4 / q^2) n_a (sum_b n_b C_bj^2 + n_a C_aj^2 - q n_a R_aa)
        """
        bits = self.codes.shape[1]
        code, size = self.codes[a], float(self.sizes[a])
        entry = float(code[j])
        pull = 2 * size * entry - float(self.total[j]) - float(code @ self.gram[j]) / bits
        own = size * (entry**2 - bits + float(code @ code))
        return -4 / bits * size * pull, 4 / bits**2 * size * (float(self.gram[j, j]) + own)


def _step(slope: float, bend: float, entry: float, share: float) -> tuple[float, float]:
    """Newton's step within [-1, 1], and how it changes the objective, never for the worse.

    Where the objective bends down, the step goes to the bound; a step too long is halved. Both are
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


def _make_distinct(codes: NDArray[np.int8], sizes: Floats) -> None:
    """Flip the fewest bits of a class whose code is taken already, those that cost least."""
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
    """Step 2: cross entropy of outputs to target codes, the mean over pictures and bits.

    Output z of a bit says that it is 1 with probability sigmoid(`scale` z), so that a picture's
    code is the sign of its outputs. `codes` (m, bits) are above 0 for a bit of 1; labels choose
    their rows, so they are `class_codes` with classes 0..m - 1 as labels, or one code for each
    training picture with its number as label. Outputs are those of a linear layer; rows of length
    1, as an embedder gives them, want a `scale` of a few times sqrt(bits).
    """

    targets: Tensor

    def __init__(self, codes: NDArray[Any], scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("targets", torch.from_numpy(codes > 0).float())
        self.scale = scale

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(n, bits), int64 (n,) -> scalar."""
        return F.binary_cross_entropy_with_logits(self.scale * outputs, self.targets[labels])
