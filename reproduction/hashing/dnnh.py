"""DNNH (Lai et al. 2015): each bit from a slice of the features, triplets ranked on soft bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DivideAndEncode", "TripletRankingLoss"]


class DivideAndEncode(nn.Module):
    """Features (n, width) -> soft bits (n, bits), within 0..1.

    The features are cut into `bits` slices of equal length; bit j is sigmoid(w_j . slice_j). A hard
    bit is [w_j . slice_j > 0]; the paper's piece-wise threshold, which makes most soft bits hard
    after training, does not change it and is left out. ValueError for a width that is no multiple
    of `bits`.
    """

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        if bits < 1 or width < bits or width % bits:
            raise ValueError(
                f"{width} features cannot be cut into {bits} equal slices: put a linear layer "
                f"before, to {bits} times some number (Lai et al. take 50)"
            )
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
    """max(0, margin - |F(I) - F(I-)|^2 + |F(I) - F(I+)|^2), the mean over all triplets of a batch:
    each pair (I, I+) of a class with each picture I- of another. A batch without one costs 0.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Soft bits (n, bits), int64 (n,) -> scalar. Holds up to n^3 numbers."""
        distances = (codes.unsqueeze(1) - codes.unsqueeze(0)).square().sum(2)
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors, positives = (pairs & (~same).any(1, keepdim=True)).nonzero(as_tuple=True)
        if not len(anchors):
            return codes.sum() * 0
        near, far = distances[anchors, positives], distances[anchors]
        return (self.margin + near.unsqueeze(1) - far)[~same[anchors]].relu().mean()
