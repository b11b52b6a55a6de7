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

from PIL import Image, ImageDraw, ImageFont

from lookalike.atomic import atomic_writer
from lookalike.mark import marked
from lookalike.models.data import Skipped
from lookalike.models.export import Cost

__all__ = [
    "EpochScores",
    "Listener",
    "Progress",
    "TrainReport",
    "draw_png",
    "overfitting",
    "write_csv",
]


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


# ---- PNG -----------------------------------------------------------------------------------------

Colour = tuple[int, int, int]
Line = tuple[str, Colour, list[tuple[float, float]]]

SCALE = 2  # drawn larger and shrunk, for smooth lines
PANEL = (560, 360)
LEFT, TOP, RIGHT, BOTTOM = 64, 56, 20, 48
PAGE, GRID, INK, SOFT = (255, 255, 255), (226, 230, 236), (24, 29, 38), (92, 101, 116)
BLUE, ORANGE, GREEN, VIOLET = (44, 92, 197), (214, 110, 20), (26, 127, 55), (125, 60, 170)


def draw_png(history: Sequence[EpochScores], path: Path, *, kept: int | None = None) -> None:
    """Two panels over the epochs: the losses, and the retrieval metrics from 0 to 1.

    `kept`: the epoch whose weights were kept, marked by a dashed line.
    """
    losses = [
        _line("training", BLUE, history, "loss"),
        _line("validation", ORANGE, history, "validation_loss"),
    ]
    metrics = [
        _line("mAP", BLUE, history, "mean_average_precision"),
        _line("mAP through LSH", VIOLET, history, "lsh_mean_average_precision"),
        _line("P@10", GREEN, history, "precision_10"),
    ]
    last = max((scores.epoch for scores in history), default=0) or 1
    highest = max((y for _, _, points in losses for _, y in points), default=1.0)
    width, height = PANEL
    page = Image.new("RGB", (2 * width * SCALE, height * SCALE), PAGE)
    _panel(ImageDraw.Draw(page), 0, "loss", losses, last, _ceiling(highest), kept)
    _panel(ImageDraw.Draw(page), width, "retrieval", metrics, last, 1.0, kept)
    with atomic_writer(path) as file:
        page.resize((2 * width, height), Image.Resampling.LANCZOS).save(
            file, "PNG", pnginfo=marked()
        )


def _line(label: str, colour: Colour, history: Sequence[EpochScores], name: str) -> Line:
    values = ((scores.epoch, getattr(scores, name)) for scores in history)
    return label, colour, [(e, v) for e, v in values if v is not None and math.isfinite(v)]


def _ceiling(value: float) -> float:
    """The next round number, of which a fifth is round enough for a tick."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power
        for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
        if step * power >= value * (1 - 1e-9)
    )


def _panel(
    draw: ImageDraw.ImageDraw,
    left: int,
    title: str,
    lines: Sequence[Line],
    last: int,
    top: float,
    kept: int | None,
) -> None:
    width, height = PANEL

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + LEFT + x / last * (width - LEFT - RIGHT)
        down = height - BOTTOM - y / top * (height - TOP - BOTTOM)
        return across * SCALE, down * SCALE

    font = ImageFont.load_default(13 * SCALE)
    for part in range(6):
        y = top * part / 5
        draw.line([place(0, y), place(last, y)], GRID, SCALE)
        x0, y0 = place(0, y)
        draw.text((x0 - 8 * SCALE, y0), f"{y:.3g}", SOFT, font, anchor="rm")
    step = max(1, math.ceil(last / 10))
    for epoch in range(0, last + 1, step):
        x0, y0 = place(epoch, 0)
        draw.line([(x0, y0), (x0, y0 + 4 * SCALE)], SOFT, SCALE)
        draw.text((x0, y0 + 8 * SCALE), str(epoch), SOFT, font, anchor="mt")
    middle, foot = place(last / 2, 0)
    draw.text((middle, foot + 26 * SCALE), "epoch", SOFT, font, anchor="mt")
    if kept is not None:
        x0, y0 = place(kept, 0)
        _, y1 = place(kept, top)
        for dash in range(int(y1), int(y0), 10 * SCALE):
            draw.line([(x0, dash), (x0, min(dash + 5 * SCALE, y0))], SOFT, SCALE)
    heading = ImageFont.load_default(17 * SCALE)
    draw.text(((left + LEFT) * SCALE, 20 * SCALE), title, INK, heading, anchor="lm")
    at = (left + LEFT) * SCALE + draw.textlength(title, heading) + 24 * SCALE
    for label, colour, points in lines:
        if not points:
            continue
        path = [place(x, y) for x, y in points]
        draw.line(path, colour, 2 * SCALE, joint="curve")
        for x0, y0 in path:
            radius = 2.5 * SCALE
            draw.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), colour)
        draw.line([(at, 20 * SCALE), (at + 18 * SCALE, 20 * SCALE)], colour, 3 * SCALE)
        at += 24 * SCALE
        draw.text((at, 20 * SCALE), label, INK, font, anchor="lm")
        at += draw.textlength(label, font) + 18 * SCALE
