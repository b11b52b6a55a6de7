"""What a training makes small: losses over unit embeddings, and the distance to a teacher.

A loss is a module: (embeddings (n, dim), labels int64 (n,)) -> a scalar. Its own parameters (the
class centres) are trained with the embedder and left behind when it is exported.

Distillation: a student learns to embed each image as a trained teacher does. Beside the loss over
classes stands the mean over the batch of 1 - cos(student, teacher), both of the same augmented
image. So a trunk that begins at random learns from every image what a trained one sees in it, and
not only which of a few classes it belongs to.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.atomic import file_sha256
from lookalike.errors import TrainingError, extra_needed
from lookalike.models.embedder import Embedder, load_embedder
from lookalike.models.settings import TrainSettings

_METRIC = {
    "triplet": "TripletMarginLoss",
    "supcon": "SupConLoss",
    "multi-similarity": "MultiSimilarityLoss",
    "circle": "CircleLoss",
}


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
        with extra_needed("metric", f"the loss {name!r}"):
            library = importlib.import_module("pytorch_metric_learning.losses")
        self.metric: nn.Module = getattr(library, _METRIC[name])()
        self.softmax, self.softmax_weight = softmax, softmax_weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.metric(embeddings, labels)
        if self.softmax is not None:
            loss = loss + self.softmax_weight * self.softmax(embeddings, labels)
        return loss


def make_loss(settings: TrainSettings, dim: int, classes: int) -> nn.Module:
    """The loss that the settings name, for embeddings of `dim` numbers."""
    softmax = CosineSoftmax(dim, classes, settings.temperature, settings.smoothing)
    if settings.loss == "softmax":
        return softmax
    weight = settings.softmax_weight
    return MetricLoss(settings.loss, softmax if weight > 0 else None, weight)


class Teacher:
    """The embedder in a file of `save_embedder`, for images normalised as `student` does it.

    ModelError for a file that cannot be read; TrainingError if its embeddings have another length.
    """

    def __init__(self, path: Path, student: Embedder, device: torch.device) -> None:
        self.embedder = load_embedder(path).to(device)
        self.embedder.requires_grad_(False)
        if self.embedder.dim != student.dim:
            raise TrainingError(
                f"the teacher {path} gives {self.embedder.dim} numbers, the student "
                f"{student.dim}: set --dim {self.embedder.dim}"
            )
        own, theirs = (
            [torch.tensor(values).view(1, 3, 1, 1) for values in (part.mean, part.std)]
            for part in (student, self.embedder)
        )
        self.scale = (own[1] / theirs[1]).to(device)
        self.shift = ((own[0] - theirs[0]) / theirs[1]).to(device)

    def loss(self, images: Tensor, embeddings: Tensor) -> Tensor:
        """Mean of 1 - cos over a batch: images (n, 3, s, s), the student's unit rows (n, dim)."""
        side = self.embedder.settings.input_size
        with torch.no_grad():
            given = images * self.scale + self.shift
            if given.shape[-1] != side:
                given = F.interpolate(given, (side, side), mode="bilinear", antialias=True)
            wanted = self.embedder(given)
        distance: Tensor = 1 - (embeddings * wanted).sum(1).mean()
        return distance


def teacher_digest(path: Path) -> str:
    """What the file holds, for the identity of a training."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise TrainingError(f"the teacher {path} cannot be read: {error}") from error
