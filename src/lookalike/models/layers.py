"""What stands between a trunk and an embedding: attention, pooling, unit length, whitening.

CBAM, the convolutional block attention module (Woo et al. 2018), is Eq. 3-6 of the paper:

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

    def __init__(self, *, neutral: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
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
        *,
        channel: bool = True,
        spatial: bool = True,
        neutral: bool = True,
        unit_gain: bool = False,
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, neutral=neutral) if channel else None
        self.spatial = SpatialAttention(neutral=neutral) if spatial else None
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

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x).features


class SecondOrderAttention(nn.Module):
    """(n, C, h, w) -> (n, C, h, w): each place reads all the others (SOLAR, Ng et al. 2020).

    q, k, v = 1x1 convolutions of x, C -> C / reduction
    A       = softmax over places j of  alpha q_i . k_j,    alpha = (C / reduction)^(-1/2)
    z_i     = x_i + psi(sum over j of A_ij v_j),            psi a 1x1 convolution back to C

    The authors' own code has a batch norm and a ReLU after q and k, which the equations do not.
    A has (h w)^2 numbers for each image: 6 x 6 places need 1,296, 56 x 56 nearly ten million.

    `neutral` starts psi at zero, as the authors do: the module is then exactly the identity,
    wherever in a trunk it stands.
    """

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


def whitening(features: Tensor, dim: int, *, power: float = 0.5) -> tuple[Tensor, Tensor]:
    """Features (n, d) of any kind of image -> mean (d,) and matrix (dim, d), float64.

    matrix (y - mean) are the first `dim` principal components, component i divided by its standard
    deviation to the power 2 `power`: 0.5 whitens (unit variance each), 0 only centres and turns.
    What lies between keeps part of the spread, which is kinder to directions that a small training
    set has hardly seen (Jegou and Chum 2012). Use: `embedder.fold(*whitening(features, dim))`.

    ValueError for more components than the features have, whose variance would be nothing.
    """
    n, width = features.shape
    if not 1 <= dim <= min(n - 1, width):
        raise ValueError(
            f"{n} features of {width} numbers have at most {max(0, min(n - 1, width))} "
            f"components, not {dim}"
        )
    mean = features.double().mean(0)
    _, deviations, components = torch.linalg.svd(features.double() - mean, full_matrices=False)
    variances = deviations[:dim].square() / (n - 1)
    if variances[-1] <= variances[0] * 1e-12:
        raise ValueError(f"the features have fewer than {dim} directions: choose a smaller dim")
    # The sign of a component is arbitrary: make its largest entry positive, so that runs agree.
    rows = components[:dim]
    signs = torch.sign(rows.gather(1, rows.abs().argmax(1, keepdim=True)))
    return mean, rows * signs * variances.pow(-power)[:, None]
