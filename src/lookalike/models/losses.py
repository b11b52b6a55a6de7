"""Losses over unit embeddings: normalised softmax, and metric-learning losses of a library.

A loss is a module: (embeddings (n, dim), labels int64 (n,)) -> a scalar. Its own parameters (the
class centres) are trained with the embedder and left behind when it is exported.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.errors import MissingExtraError

__all__ = ["LOSSES", "CosineSoftmax", "MetricLoss", "make_loss"]

_METRIC = {
    "triplet": "TripletMarginLoss",
    "supcon": "SupConLoss",
    "multi-similarity": "MultiSimilarityLoss",
    "circle": "CircleLoss",
}
LOSSES = ("softmax", *_METRIC)


class CosineSoftmax(nn.Module):
    """Normalised softmax (Zhai and Wu 2019): cross entropy over cosines to one centre per class.

    The score of class j is cos(embedding, centre j) / temperature. With smoothing e the target is
    1 - e + e / classes for the image's class and e / classes for the others.
    """

    def __init__(
        self, dim: int, classes: int, temperature: float = 0.05, smoothing: float = 0.1
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, dim) / dim**0.5)
        self.temperature, self.smoothing = temperature, smoothing

    def scores(self, embeddings: Tensor) -> Tensor:
        """(n, dim) -> (n, classes)."""
        return F.linear(F.normalize(embeddings), F.normalize(self.centres)) / self.temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(embeddings), labels, label_smoothing=self.smoothing)


class MetricLoss(nn.Module):
    """A loss over the pairs of a batch, from pytorch-metric-learning with its own defaults.

    `softmax_weight` > 0 adds that much of the normalised softmax, which knows all classes at once
    where pairs know the batch. MissingExtraError without the library.
    """

    def __init__(self, name: str, softmax: CosineSoftmax | None, softmax_weight: float) -> None:
        super().__init__()
        try:
            library = importlib.import_module("pytorch_metric_learning.losses")
        except ImportError as error:
            raise MissingExtraError(
                f"the loss {name!r} needs pytorch-metric-learning: pip install 'lookalike[metric]'"
            ) from error
        self.metric: nn.Module = getattr(library, _METRIC[name])()
        self.softmax, self.softmax_weight = softmax, softmax_weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.metric(embeddings, labels)
        if self.softmax is not None:
            loss = loss + self.softmax_weight * self.softmax(embeddings, labels)
        return loss


def make_loss(
    name: str,
    dim: int,
    classes: int,
    *,
    temperature: float = 0.05,
    smoothing: float = 0.1,
    softmax_weight: float = 0.0,
) -> nn.Module:
    """The loss called `name`, one of LOSSES. `softmax_weight` is that beside a metric loss."""
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {name!r}")
    softmax = CosineSoftmax(dim, classes, temperature, smoothing)
    if name == "softmax":
        return softmax
    return MetricLoss(name, softmax if softmax_weight > 0 else None, softmax_weight)
