"""CBAM, the convolutional block attention module (Woo et al. 2018): Eq. 3-6 of the paper.

    channel gate   Fc(x) = sigmoid(MLP(mean over h, w of x) + MLP(max over h, w of x))      Eq. 5
    channel step   x'    = Fc(x) * x                                                        Eq. 3
    spatial gate   Fs(x') = sigmoid(conv7x7([mean over channels of x'; max over channels])) Eq. 6
    spatial step   x''   = Fs(x') * x'                                                      Eq. 4

MLP is one for both pooled vectors, C -> C / reduction -> C with ReLU between. Neither it nor the
convolution has a bias: the equations of Woo et al. have none, and the gates can do without, for
the maps that they read are not centred.

`neutral` starts the last layer of each gate at zero: then every gate is exactly 1/2, the map is
scaled by a constant, and what follows a trained trunk (a mean, a linear layer without bias, L2)
gives the direction that it gave before. Training departs from there; gradients at 1/2 are the
sigmoid's largest. Inside a trunk the constant would harm, as frozen batch norms expect the old
scale: `unit_gain` divides it out, which equals the plain form with the following convolution's
weights scaled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["CBAM", "Attended", "ChannelAttention", "SpatialAttention"]


class ChannelAttention(nn.Module):
    """Eq. 5: feature map (n, C, h, w) -> the weight of each channel, (n, C), within 0..1."""

    def __init__(self, channels: int, reduction: int = 16, *, neutral: bool = True) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)
        if neutral:
            nn.init.zeros_(self.excite.weight)

    def mlp(self, pooled: Tensor) -> Tensor:
        result: Tensor = self.excite(torch.relu(self.squeeze(pooled)))
        return result

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))


class SpatialAttention(nn.Module):
    """Eq. 6: feature map (n, C, h, w) -> the weight of each place, (n, h, w), within 0..1."""

    def __init__(self, kernel: int = 7, *, neutral: bool = True) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd to keep the map's size, not {kernel}")
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        if neutral:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.conv(pooled)).squeeze(1)


class Attended(NamedTuple):
    """A gated map and its gates; a gate that the module does not have is None."""

    features: Tensor  # (n, C, h, w)
    channel: Tensor | None  # (n, C)
    spatial: Tensor | None  # (n, h, w)


class CBAM(nn.Module):
    """Eq. 3 and 4: (n, C, h, w) -> (n, C, h, w). `channel` or `spatial` off leaves that step out.

    `unit_gain` multiplies the result by 2 for each gate: a neutral module is then the identity.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel: int = 7,
        *,
        channel: bool = True,
        spatial: bool = True,
        neutral: bool = True,
        unit_gain: bool = False,
    ) -> None:
        super().__init__()
        if not channel and not spatial:
            raise ValueError("attention without a channel gate and a spatial gate does nothing")
        self.channel = ChannelAttention(channels, reduction, neutral=neutral) if channel else None
        self.spatial = SpatialAttention(kernel, neutral=neutral) if spatial else None
        self.gain = 2.0 ** (channel + spatial) if unit_gain else 1.0

    def attend(self, x: Tensor) -> Attended:
        """The gated map together with the gates that made it."""
        channel = spatial = None
        if self.channel is not None:
            channel = self.channel(x)
            x = x * channel.unsqueeze(2).unsqueeze(3)
        if self.spatial is not None:
            spatial = self.spatial(x)
            x = x * spatial.unsqueeze(1)
        return Attended(x if self.gain == 1 else x * self.gain, channel, spatial)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Channel weights (n, C) and spatial map (n, h, w); ones for a gate that is left out."""
        _, channel, spatial = self.attend(x)
        if channel is None:
            channel = x.new_ones(x.shape[:2])
        if spatial is None:
            spatial = x.new_ones((x.shape[0], *x.shape[2:]))
        return channel, spatial

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x).features
