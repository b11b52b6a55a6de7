"""How well the embeddings of held-out images find the others of their classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.errors import TrainingError
from lookalike.evaluation.hashed import lsh_relevance
from lookalike.evaluation.metrics import cosine_relevance, score
from lookalike.models.curves import EpochScores
from lookalike.models.inputs import CHUNK

__all__ = ["measure"]

Positions = NDArray[np.int64]


def measure(
    scores: EpochScores, embeddings: Tensor, labels: Positions, gallery: int, criterion: nn.Module
) -> EpochScores:
    """`scores` with loss and retrieval metrics of the validation images.

    Of the unit rows `embeddings` (n, dim) and their labels (n,), the first `gallery` are searched
    and the others are the queries. TrainingError for embeddings that are not finite.
    """
    asked, own = embeddings[gallery:], labels[gallery:]
    losses = []
    for start in range(0, len(own), CHUNK):
        part = slice(start, start + CHUNK)
        target = torch.from_numpy(own[part]).to(embeddings.device)
        losses.append(float(criterion(asked[part], target)) * len(target))
    vectors = embeddings.cpu().numpy()
    if not np.isfinite(vectors).all():
        raise TrainingError(
            f"after epoch {scores.epoch} embeddings are not finite: lower the learning rate"
        )
    searched, queries, theirs = vectors[:gallery], vectors[gallery:], labels[:gallery]
    exact = score(cosine_relevance(queries, own, searched, theirs), cuts=(10,))
    hashed = score(lsh_relevance(queries, own, searched, theirs), cuts=(10,))
    return replace(
        scores,
        validation_loss=sum(losses) / len(own),
        precision_10=exact.precision[10],
        mean_average_precision=exact.mean_average_precision,
        lsh_mean_average_precision=hashed.mean_average_precision,
    )
