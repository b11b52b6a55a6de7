"""DNNH (Lai et al. 2015): each bit from a slice of the features, triplets ranked on soft bits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["DivideAndEncode", "TripletRankingLoss", "Triplets"]

Triplets = Literal["all", "random", "semi-hard"]


class DivideAndEncode(nn.Module):
    """Features (n, width) -> soft bits (n, bits), within 0..1.

    The features are cut into `bits` slices of equal length; bit j is sigmoid(w_j . slice_j + b_j).
    In evaluation the piece-wise threshold follows,

        g(s) = 0 for s < 1/2 - epsilon,  s between,  1 for s > 1/2 + epsilon.

    Training goes without it: beyond the band it has no gradient. A hard bit is [s > 1/2], which
    the threshold does not change. ValueError for a width that is no multiple of `bits`.
    """

    def __init__(self, width: int, bits: int, epsilon: float = 0.1) -> None:
        super().__init__()
        if bits < 1 or width < bits or width % bits:
            raise ValueError(
                f"{width} features cannot be cut into {bits} equal slices: put a linear layer "
                f"before, to {bits} times some number (Lai et al. take 50)"
            )
        if not 0 <= epsilon <= 0.5:
            raise ValueError(f"epsilon is {epsilon}; it must be from 0 to 0.5")
        reach = (width // bits) ** -0.5  # as nn.Linear of a slice
        self.weight = nn.Parameter(torch.empty(bits, width // bits).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(bits))
        self.epsilon = epsilon

    def forward(self, features: Tensor) -> Tensor:
        slices = torch.unflatten(features, 1, self.weight.shape)
        soft = torch.sigmoid((slices * self.weight).sum(2) + self.bias)
        if self.training:
            return soft
        far = (soft - 0.5).abs() > self.epsilon
        return torch.where(far, soft.round(), soft)


class TripletRankingLoss(nn.Module):
    """max(0, margin - |F(I) - F(I-)|^2 + |F(I) - F(I+)|^2), the mean over triplets of a batch.

    Which triplets, of the pairs (I, I+) of a class:
        "all": with each picture of another class.
        "random": with one of them, drawn anew at each call from torch's global generator.
        "semi-hard": with the nearest that is farther than I+ or, if none is, the farthest
            (Schroff et al. 2015).
    A batch without a triplet costs 0.
    """

    def __init__(self, triplets: Triplets = "all", margin: float = 1.0) -> None:
        super().__init__()
        if triplets not in ("all", "random", "semi-hard"):
            raise ValueError(f"triplets must be all, random or semi-hard, not {triplets!r}")
        self.triplets, self.margin = triplets, margin

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Soft bits (n, bits), int64 (n,) -> scalar. "all" holds n^3 numbers."""
        distances = (codes.unsqueeze(1) - codes.unsqueeze(0)).square().sum(2)
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors, positives = (pairs & (~same).any(1, keepdim=True)).nonzero(as_tuple=True)
        if not len(anchors):
            return codes.sum() * 0
        near, far, allowed = distances[anchors, positives], distances[anchors], ~same[anchors]
        if self.triplets == "all":
            return (self.margin + near.unsqueeze(1) - far)[allowed].relu().mean()
        if self.triplets == "random":
            chosen = torch.rand_like(far).masked_fill(~allowed, -1).argmax(1)
        else:
            chosen = _semi_hard(near.detach(), far.detach(), allowed)
        return (self.margin + near - far.gather(1, chosen.unsqueeze(1)).squeeze(1)).relu().mean()


def _semi_hard(near: Tensor, far: Tensor, allowed: Tensor) -> Tensor:
    """The negative of each pair: near (p,), far (p, n), allowed (p, n) -> (p,)."""
    farther = allowed & (far > near.unsqueeze(1))
    nearest = far.masked_fill(~farther, torch.inf).argmin(1)
    farthest = far.masked_fill(~allowed, -torch.inf).argmax(1)
    return torch.where(farther.any(1), nearest, farthest)
