from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.models.layers import CBAM, ChannelAttention, SpatialAttention

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


def module(channels: int = 32, **options: bool) -> CBAM:
    torch.manual_seed(1)
    return CBAM(channels, reduction=16, neutral=False, **options).double()


def test_features_and_gates_equal_equations_3_to_6_written_out() -> None:
    cbam, x = module(), maps()
    assert cbam.channel is not None and cbam.spatial is not None
    squeeze = cbam.channel.squeeze.weight.detach().numpy()
    excite = cbam.channel.excite.weight.detach().numpy()
    kernel = cbam.spatial.conv.weight.detach().numpy()[0]
    assert squeeze.shape == (2, 32) and excite.shape == (32, 2) and kernel.shape == (2, 7, 7)
    with torch.no_grad():
        features, weights, places = (cbam(x), *cbam.attention(x))
    for i, beta in enumerate(x.numpy()):
        channel = channel_gate(beta, squeeze, excite)
        first = channel[:, None, None] * beta  # Eq. 3
        spatial = spatial_gate(first, kernel)
        second = spatial[None] * first  # Eq. 4
        np.testing.assert_allclose(weights[i].numpy(), channel, rtol=1e-12)
        np.testing.assert_allclose(places[i].numpy(), spatial, rtol=1e-12)
        np.testing.assert_allclose(features[i].numpy(), second, rtol=1e-11, atol=1e-14)


def test_one_gate_alone_is_its_step_and_the_other_gate_is_ones() -> None:
    x = maps()
    channel, spatial = module(spatial=False), module(channel=False)
    assert channel.channel is not None and spatial.spatial is not None
    torch.testing.assert_close(channel(x), x * channel.channel(x)[:, :, None, None])
    torch.testing.assert_close(spatial(x), x * spatial.spatial(x)[:, None])
    assert torch.equal(channel.attention(x)[1], torch.ones(2, 5, 6, dtype=torch.float64))
    assert torch.equal(spatial.attention(x)[0], torch.ones(2, 32, dtype=torch.float64))


def test_parameters_are_the_two_matrices_and_the_kernel() -> None:
    """2 x 2048 x 128 of the paper's MLP and 2 x 7 x 7; no biases."""
    assert sum(p.numel() for p in CBAM(2048).parameters()) == 2 * 2048 * 128 + 2 * 49


def test_a_neutral_start_gives_gates_of_one_half() -> None:
    x = maps().float()
    cbam = CBAM(32)
    channel, spatial = cbam.attention(x)
    assert torch.equal(channel, torch.full((2, 32), 0.5))
    assert torch.equal(spatial, torch.full((2, 5, 6), 0.5))
    assert torch.equal(cbam(x), x / 4)
    assert torch.equal(CBAM(32, unit_gain=True)(x), x)
    assert torch.equal(CBAM(32, spatial=False, unit_gain=True)(x), x)


def test_a_neutral_start_learns() -> None:
    """Zeros in the last layers do not stop the gradient from reaching them."""
    cbam = CBAM(32).double()
    torch.autograd.backward((cbam(maps()) * maps().flip(1)).sum())
    assert cbam.channel is not None and cbam.spatial is not None
    for weight in (cbam.channel.excite.weight, cbam.spatial.conv.weight):
        assert weight.grad is not None and float(weight.grad.abs().max()) > 1e-3


def test_unit_gain_multiplies_by_two_for_each_gate() -> None:
    x = maps()
    torch.testing.assert_close(module(unit_gain=True)(x), 4 * module()(x))


@pytest.mark.parametrize("part", [ChannelAttention(4, 2), SpatialAttention(3), CBAM(4, 2, 3)])
def test_gradients_equal_finite_differences(part: torch.nn.Module) -> None:
    torch.manual_seed(2)
    for weight in part.parameters():
        torch.nn.init.normal_(weight)
    x = maps(2, 4, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(part.double(), (x,))


def test_gradients_of_every_weight_equal_differences_taken_by_hand() -> None:
    """(L(w + h) - L(w - h)) / 2h has an error of order h^2 = 1e-10, and L is of order 1."""
    cbam, x = CBAM(4, 2, 3, neutral=False).double(), maps(2, 4, 3, 3)
    target = maps(2, 4, 3, 3).flip(0)

    def loss() -> Tensor:
        result: Tensor = (cbam(x) - target).square().mean()
        return result

    torch.autograd.backward(loss())
    step = 1e-5
    for weight in cbam.parameters():
        assert weight.grad is not None
        for place in np.ndindex(*weight.shape):
            with torch.no_grad():
                weight[place] += step
                above = float(loss())
                weight[place] -= 2 * step
                below = float(loss())
                weight[place] += step
            assert float(weight.grad[place]) == pytest.approx(
                (above - below) / (2 * step), abs=1e-8, rel=1e-6
            )


def test_a_module_without_gates_and_an_even_kernel_are_refused() -> None:
    with pytest.raises(ValueError, match="does nothing"):
        CBAM(8, channel=False, spatial=False)
    with pytest.raises(ValueError, match="odd to keep the map's size, not 4"):
        SpatialAttention(4)
