from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.models.embedder import Embedder
from lookalike.models.export import export_embedder
from lookalike.models.layers import SecondOrderAttention
from lookalike.models.settings import EmbedderSettings

Doubles = NDArray[np.float64]
SETTINGS = EmbedderSettings(
    trunk="lenet5", attention="second-order", attention_stages=(1, -1), dim=8, input_size=40
)


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


def test_an_embedder_trains_it_in_the_trunk_and_exports_what_it_learnt(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embedder = Embedder(SETTINGS)
    images = torch.randn(6, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    target = nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(4)))
    optimiser = torch.optim.Adam(embedder.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = (embedder(images) - target).square().sum(1).mean()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    for gate in embedder.gates.values():
        assert isinstance(gate, SecondOrderAttention)
        assert gate.psi.weight.detach().abs().max().item() > 1e-3
    embedder.eval()
    path = tmp_path / "model.onnx"
    export_embedder(embedder, path, name="second-order")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 5):
        found = session.run(
            ["embeddings", "channel_attention", "spatial_attention"],
            {"images": images[:n].numpy()},
        )
        with torch.no_grad():
            embeddings, gates = embedder.explained(images[:n])
        for actual, expected in zip(
            found, (embeddings, gates["channel"], gates["spatial"]), strict=True
        ):
            np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)
        assert float(gates["spatial"].sum()) == pytest.approx(n, rel=1e-5)
