from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.models.layers import SecondOrderAttention

Doubles = NDArray[np.float64]


def maps(n: int = 2, channels: int = 32, height: int = 3, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)


def module(channels: int = 32, reduction: int = 8) -> SecondOrderAttention:
    torch.manual_seed(1)
    return SecondOrderAttention(channels, reduction, neutral=False).double()


def linear(conv: nn.Conv2d, columns: Doubles) -> Doubles:
    """A 1x1 convolution of places as columns (C, places)."""
    assert conv.bias is not None
    weight = conv.weight.detach().numpy()[:, :, 0, 0]
    return np.asarray(weight @ columns + conv.bias.detach().numpy()[:, None])


def test_maps_and_attention_equal_the_equations_place_by_place() -> None:
    block, x = module(), maps()
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


def test_a_neutral_start_is_the_identity_and_learns() -> None:
    block, x = SecondOrderAttention(32).double(), maps()
    assert torch.equal(block(x), x)
    torch.autograd.backward((block(x) * x.flip(1)).sum())
    assert block.psi.weight.grad is not None
    assert float(block.psi.weight.grad.abs().max()) > 1e-3
