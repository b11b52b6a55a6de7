"""Second-order attention (SOLAR, Ng et al. 2020): each place of a map reads all the others.

    q, k, v = 1x1 convolutions of x, C -> C / reduction
    A       = softmax over places j of  alpha q_i . k_j,    alpha = (C / reduction)^(-1/2)
    z_i     = x_i + psi(sum over j of A_ij v_j),            psi a 1x1 convolution back to C

The authors' own code has a batch norm and a ReLU after q and k, which the equations do not.
A has (h w)^2 numbers for each picture: 6 x 6 places need 1,296, 56 x 56 nearly ten million.

`neutral` starts psi at zero, as the authors do: the module is then exactly the identity, wherever
in a trunk it stands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lookalike.models.layers import Attended

__all__ = ["SecondOrderAttention"]


class SecondOrderAttention(nn.Module):
    """(n, C, h, w) -> (n, C, h, w)."""

    def __init__(self, channels: int, reduction: int = 16, *, neutral: bool = True) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, hidden, 1)
        self.psi = nn.Conv2d(hidden, channels, 1)
        self.alpha = hidden**-0.5
        if neutral:
            for weight in self.psi.parameters():
                nn.init.zeros_(weight)

    def weights(self, x: Tensor) -> Tensor:
        """A, (n, h w, h w): row i says what place i reads, and sums to 1."""
        query, key = self.query(x).flatten(2), self.key(x).flatten(2)
        return torch.softmax(self.alpha * torch.matmul(query.transpose(1, 2), key), 2)

    def attend(self, x: Tensor) -> Attended:
        """The map, and what explains it.

        The spatial map is the mean attention that each place receives; over all places it sums to
        1. No channel is gated: channel weights are ones.
        """
        weights = self.weights(x)
        read = torch.matmul(self.value(x).flatten(2), weights.transpose(1, 2))
        sides = x.shape[2:]
        features = x + self.psi(torch.unflatten(read, 2, sides))
        received = torch.unflatten(weights.mean(1), 1, sides)
        return Attended(features, torch.ones_like(x.mean((2, 3))), received)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x).features
