"""What a training says: its progress, the scores of each epoch, and what came of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from lookalike.atomic import atomic_writer
from lookalike.models.data import Skipped
from lookalike.models.export import Cost
from lookalike.plot import BLUE, GREEN, ORANGE, VIOLET, Axis, Line, Panel, write_svg
from lookalike.progress import Progress


@dataclass(frozen=True)
class TrainProgress(Progress):
    """Where a training is: images of the stage (of the epoch in "training").

    Attributes:
        stage: "reading" and "features" come before training; "training" after each batch,
            "epoch" after each validation.
        epoch: from 1; 0 before.
        epochs: of the whole training.
        images_per_second: since the stage began, in training since this process began it.
        seconds_left: of the whole training, validation included; None: not known yet.
        loss: of the epoch so far.
        learning_rate: of the head.
        scores: of the epoch, in "epoch".
        note: something that the user should know, once.
    """

    stage: Literal["reading", "features", "training", "epoch"] = "reading"
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
        csv, svg: the curves, as numbers and drawn.
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
    svg: Path
    classes: tuple[str, ...]
    images: int
    held_out: int
    skipped: tuple[Skipped, ...]
    history: tuple[EpochScores, ...]
    kept: int
    overfitting: str | None
    storage_cost: Cost | None
    resumed: int | None = None
    seconds: float = 0.0


Listener: TypeAlias = Callable[[TrainProgress], None]


PATIENCE = 3
"""Epochs in a row that make overfitting."""


@dataclass(frozen=True)
class EpochScores:
    """What is known after an epoch; epoch 0 is before training. None: was not measured.

    Attributes:
        loss: mean of the training loss over the epoch's images.
        validation_loss: of the held-out images.
        precision_10: P@10, exact cosine; queries are the held-out images, the gallery is training
            images, neither of them augmented.
        mean_average_precision: over the full ranking, exact cosine.
        lsh_mean_average_precision: of the ranking that starts with the 100 hits of an LSHIndex;
            all that these left out follows in exact order.
        learning_rate: of the head, at the epoch's end.
    """

    epoch: int
    loss: float | None = None
    validation_loss: float | None = None
    precision_10: float | None = None
    mean_average_precision: float | None = None
    lsh_mean_average_precision: float | None = None
    learning_rate: float | None = None


def write_csv(history: Sequence[EpochScores], path: Path) -> None:
    """A header and a row for each epoch, numbers in full, nothing where there is no number."""
    text = io.StringIO()
    names = [field.name for field in fields(EpochScores)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(scores) for scores in history)
    with atomic_writer(path) as file:
        file.write(text.getvalue().encode())


def overfitting(history: Sequence[EpochScores]) -> str | None:
    """The first run of PATIENCE epochs in which the held-out loss rose while the training loss
    fell, in words; None if there is none.
    """
    known = [
        (s.epoch, s.loss, s.validation_loss)
        for s in history
        if s.loss is not None and s.validation_loss is not None
    ]
    for i in range(PATIENCE, len(known)):
        run = known[i - PATIENCE : i + 1]
        pairs = list(pairwise(run))
        if all(b[2] > a[2] and b[1] < a[1] for a, b in pairs):
            return (
                f"overfitting since epoch {run[0][0]}: the loss of held-out images rose from "
                f"{run[0][2]:.3f} to {run[-1][2]:.3f} while that of training images fell from "
                f"{run[0][1]:.3f} to {run[-1][1]:.3f}; more images, stronger augmentation, a "
                "frozen trunk or fewer epochs help"
            )
    return None


def draw_curves(history: Sequence[EpochScores], path: Path, *, kept: int | None = None) -> None:
    """An SVG file of two panels over the epochs: the losses, and the retrieval metrics.

    `kept`: the epoch whose weights were kept, marked by a dashed line.
    """

    def line(label: str, colour: str, name: str) -> Line:
        values = ((scores.epoch, getattr(scores, name)) for scores in history)
        points = [(e, v) for e, v in values if v is not None and math.isfinite(v)]
        return Line(label, colour, points)

    losses = [line("training", BLUE, "loss"), line("validation", ORANGE, "validation_loss")]
    metrics = [
        line("mAP", BLUE, "mean_average_precision"),
        line("mAP through LSH", VIOLET, "lsh_mean_average_precision"),
        line("P@10", GREEN, "precision_10"),
    ]
    last = max((scores.epoch for scores in history), default=0) or 1
    epochs = Axis("epoch", 0, last, range(0, last + 1, max(1, math.ceil(last / 10))))
    top = max((y for part in losses for _, y in part.points), default=1.0) or 1.0
    loss = Axis("", 0, top, [top * part / 5 for part in range(6)])
    share = Axis("", 0, 1, [part / 5 for part in range(6)])
    write_svg(
        [
            Panel("loss", epochs, loss, losses, kept),
            Panel("retrieval", epochs, share, metrics, kept),
        ],
        path,
    )
