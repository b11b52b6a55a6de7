"""What a training tells while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lookalike.models.compress import Cost
from lookalike.models.curves import EpochScores
from lookalike.models.dataset import Skipped

__all__ = ["Listener", "Progress", "TrainReport"]


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        stage: "reading" and "features" come before training; "training" after each batch,
            "epoch" after each validation.
        done, total: pictures of the stage (of the epoch in "training").
        epoch: from 1; 0 before.
        epochs: of the whole training.
        images_per_second: since the stage began, in training since this process began it.
        seconds_left: of the whole training, validation included; None: not known yet.
        loss: of the epoch so far.
        learning_rate: of the head.
        scores: of the epoch, in "epoch".
        note: something that the user should know, once.
    """

    stage: Literal["reading", "features", "training", "epoch"]
    done: int
    total: int
    epoch: int = 0
    epochs: int = 0
    images_per_second: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    scores: EpochScores | None = None
    note: str | None = None


@dataclass(frozen=True)
class TrainReport:
    """What came of a training.

    Attributes:
        out: the model file.
        weights: the embedder's own file, which training can go on from.
        csv, png: the curves.
        classes: names.
        images, held_out: how many trained and validated.
        skipped: files that were left out.
        history: epoch 0 (before training) first.
        kept: the epoch whose weights are in the files.
        overfitting: what was seen of it, or None.
        storage_cost: what weights of another type than float32 changed in the embeddings, or None.
        resumed: the epoch that this process went on in, or None.
        seconds: of this process.
    """

    out: Path
    weights: Path
    csv: Path
    png: Path
    classes: tuple[str, ...]
    images: int
    held_out: int
    skipped: tuple[Skipped, ...]
    history: tuple[EpochScores, ...]
    kept: int
    overfitting: str | None
    storage_cost: Cost | None
    resumed: int | None
    seconds: float


Listener: TypeAlias = Callable[[Progress], None]
