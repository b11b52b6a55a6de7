"""Distillation: a student learns to embed each picture as a trained teacher does.

Beside the loss over classes stands the mean over the batch of 1 - cos(student, teacher), both of
the same augmented picture. So a trunk that begins at random learns from every picture what a
trained one sees in it, and not only which of a few classes it belongs to.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from lookalike.errors import TrainingError
from lookalike.models.checkpoint import load_embedder
from lookalike.models.embedder import Embedder
from lookalike.models.weights import file_sha256

__all__ = ["Teacher", "teacher_digest"]


class Teacher:
    """The embedder in a file of `save_embedder`, for pictures normalised as `student` does it.

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
