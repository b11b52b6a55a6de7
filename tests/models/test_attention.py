from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.models.layers import CBAM, SecondOrderAttention

Doubles = NDArray[np.float64]


def sigmoid(x: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-x)))


def channel_gate(x: Doubles, squeeze: Doubles, excite: Doubles) -> Doubles:
    """Eq. 5 for one feature map (C, h, w) -> (C,)."""

    def mlp(pooled: Doubles) -> Doubles:
        return np.asarray(excite @ np.maximum(squeeze @ pooled, 0))

    return sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))


def spatial_gate(x: Doubles, kernel: Doubles) -> Doubles:
    """Eq. 6 for one feature map (C, h, w) -> (h, w): mean first, then max, zeros outside."""
    _, height, width = x.shape
    padded = np.pad(np.stack([x.mean(0), x.max(0)]), ((0, 0), (3, 3), (3, 3)))
    result = np.zeros((height, width))
    for row, column in np.ndindex(height, width):
        result[row, column] = (padded[:, row : row + 7, column : column + 7] * kernel).sum()
    return sigmoid(result)


def maps(n: int = 2, channels: int = 32, height: int = 5, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)


def test_features_and_gates_of_cbam_equal_equations_3_to_6_written_out() -> None:
    torch.manual_seed(1)
    cbam, x = CBAM(32, reduction=16, neutral=False).double(), maps()
    assert cbam.channel is not None and cbam.spatial is not None
    squeeze = cbam.channel.squeeze.weight.detach().numpy()
    excite = cbam.channel.excite.weight.detach().numpy()
    kernel = cbam.spatial.conv.weight.detach().numpy()[0]
    assert squeeze.shape == (2, 32) and excite.shape == (32, 2) and kernel.shape == (2, 7, 7)
    with torch.no_grad():
        features, weights, places = cbam.attend(x)
    assert weights is not None and places is not None
    for i, beta in enumerate(x.numpy()):
        channel = channel_gate(beta, squeeze, excite)
        first = channel[:, None, None] * beta  # Eq. 3
        spatial = spatial_gate(first, kernel)
        second = spatial[None] * first  # Eq. 4
        np.testing.assert_allclose(weights[i].numpy(), channel, rtol=1e-12)
        np.testing.assert_allclose(places[i].numpy(), spatial, rtol=1e-12)
        np.testing.assert_allclose(features[i].numpy(), second, rtol=1e-11, atol=1e-14)


def test_a_neutral_start_of_cbam_gives_gates_of_one_half() -> None:
    x = maps().float()
    cbam = CBAM(32)
    _, channel, spatial = cbam.attend(x)
    assert channel is not None and spatial is not None
    assert torch.equal(channel, torch.full((2, 32), 0.5))
    assert torch.equal(spatial, torch.full((2, 5, 6), 0.5))
    assert torch.equal(cbam(x), x / 4)
    assert torch.equal(CBAM(32, unit_gain=True)(x), x)
    assert torch.equal(CBAM(32, spatial=False, unit_gain=True)(x), x)


def linear(conv: nn.Conv2d, columns: Doubles) -> Doubles:
    """A 1x1 convolution of places as columns (C, places)."""
    assert conv.bias is not None
    weight = conv.weight.detach().numpy()[:, :, 0, 0]
    return np.asarray(weight @ columns + conv.bias.detach().numpy()[:, None])


def test_second_order_attention_equals_the_equations_place_by_place() -> None:
    torch.manual_seed(1)
    block, x = SecondOrderAttention(32, 8, neutral=False).double(), maps(height=3, width=4)
    assert block.alpha == 0.5  # 32 / 8 = 4 hidden channels
    with torch.no_grad():
        features, channel, spatial = block.attend(x)
    assert channel is not None and spatial is not None
    for i, image in enumerate(x.numpy()):
        columns = image.reshape(32, 12)
        query, key = linear(block.query, columns), linear(block.key, columns)
        value = linear(block.value, columns)
        read, received = np.zeros((4, 12)), np.zeros(12)
        for place in range(12):
            scores = np.array([0.5 * query[:, place] @ key[:, other] for other in range(12)])
            attention = np.exp(scores) / np.exp(scores).sum()
            read[:, place] = value @ attention
            received += attention / 12
        expected = image + linear(block.psi, read).reshape(32, 3, 4)
        np.testing.assert_allclose(features[i].numpy(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(spatial[i].numpy(), received.reshape(3, 4), rtol=1e-12)
    assert torch.equal(channel, torch.ones(2, 32, dtype=torch.float64))


def test_a_neutral_start_of_second_order_attention_is_the_identity_and_learns() -> None:
    block, x = SecondOrderAttention(32).double(), maps()
    assert torch.equal(block(x), x)
    torch.autograd.backward((block(x) * x.flip(1)).sum())
    assert block.psi.weight.grad is not None
    assert float(block.psi.weight.grad.abs().max()) > 1e-3
