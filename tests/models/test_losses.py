"""Losses against their formulas; the optional library is tested where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lookalike.models.losses import CosineSoftmax, make_loss
from lookalike.models.settings import LOSSES, TrainSettings


def unit_rows(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_normalised_softmax_equals_the_formula_in_numpy(smoothing: float) -> None:
    torch.manual_seed(0)
    loss = CosineSoftmax(8, 5, temperature=0.1, smoothing=smoothing)
    embeddings, labels = unit_rows(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    centres = loss.centres.detach().numpy().astype(np.float64)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    scores = embeddings.numpy().astype(np.float64) @ centres.T / 0.1
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[labels.numpy()] + smoothing / 5
    expected = -(target * logs).sum(axis=1).mean()
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "softmax"])
def test_metric_losses_want_classes_together_and_give_gradients(name: str) -> None:
    pytest.importorskip("pytorch_metric_learning")
    loss = make_loss(TrainSettings(loss=name), 8, 2)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    near = torch.nn.functional.normalize(torch.eye(8)[labels] + 0.1 * unit_rows(6, 8))
    mixed = unit_rows(6, 8).requires_grad_()
    value = loss(mixed, labels)
    value.backward()
    assert mixed.grad is not None and mixed.grad.abs().sum() > 0
    assert loss(near, labels).item() < value.item()


def test_a_softmax_can_be_added_to_a_metric_loss() -> None:
    pytest.importorskip("pytorch_metric_learning")
    torch.manual_seed(0)
    both = make_loss(TrainSettings(loss="supcon", softmax_weight=0.5), 8, 2)
    embeddings, labels = unit_rows(6, 8), torch.tensor([0, 0, 0, 1, 1, 1])
    alone = make_loss(TrainSettings(loss="supcon"), 8, 2)(embeddings, labels).item()
    softmax = both.softmax(embeddings, labels).item()  # type: ignore[operator]
    assert both(embeddings, labels).item() == pytest.approx(alone + 0.5 * softmax)
