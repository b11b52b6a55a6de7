"""From a feature map to one vector: global pooling, and the unit length of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GAP", "GeM", "unit"]


class GeM(nn.Module):
    """Generalised mean over places (Radenovic et al. 2018): (n, C, h, w) -> (n, C).

    p = 1 is the mean, p -> infinity the maximum. What is below `smallest` counts as that, since a
    power needs positive numbers; maps of linear layers (EfficientNet's but the last) lose their
    negative half.
    """

    def __init__(self, p: float = 3.0, smallest: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        powers: Tensor = x.clamp(min=self.smallest) ** self.p
        return powers.mean((2, 3)).pow(self.p.reciprocal())


class GAP(nn.Module):
    """Mean over places: (n, C, h, w) -> (n, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def unit(x: Tensor) -> Tensor:
    """Rows (n, d) of length 1; a row of zeros stays."""
    rows: Tensor = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-12)
    return rows
