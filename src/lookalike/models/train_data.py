"""What a training reads: the pictures to learn from, and those to validate with."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import TrainingError
from lookalike.models.dataset import (
    LabelledImages,
    Skipped,
    balanced_sample,
    check_classes,
    class_folders,
    validation_split,
)
from lookalike.models.embedder_settings import EmbedderSettings
from lookalike.models.pictures import Pictures, default_threads, read_labelled
from lookalike.models.train_report import Listener, Progress
from lookalike.models.train_settings import TrainSettings

__all__ = ["TrainData"]

Positions = NDArray[np.int64]

WORKING_SIZE = 7 / 6
"""Side of the pictures that are augmented, over the network's input: 224 for 192."""


@dataclass(frozen=True, eq=False)
class TrainData:
    """Pictures in memory. `plain` are those of gallery, then queries, as a search reads them."""

    images: LabelledImages
    pictures: Pictures
    training: Positions
    plain: Pictures | None
    plain_labels: Positions
    gallery: int
    skipped: tuple[Skipped, ...]

    @classmethod
    def read(
        cls,
        source: Path | LabelledImages,
        validation: LabelledImages | None,
        embedder: EmbedderSettings,
        settings: TrainSettings,
        tell: Listener,
    ) -> TrainData:
        skipped: tuple[Skipped, ...] = ()
        if isinstance(source, LabelledImages):
            listed = source
        else:
            listed, skipped = class_folders(source)
        if len(listed.classes) < 2:
            check_classes(listed, skipped)
        threads, size = default_threads(), embedder.input_size
        began = time.perf_counter()

        def reading(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - began, 1e-9)
            tell(Progress("reading", done, total, epochs=settings.epochs, images_per_second=rate))

        images, pictures, unreadable = read_labelled(
            listed,
            math.ceil(size * WORKING_SIZE),
            memory=settings.picture_memory,
            threads=threads,
            progress=reading,
        )
        skipped += unreadable
        held = settings.validation_per_class if validation is None else None
        check_classes(images, skipped, needed=max(2, (held or 0) + 1))
        if validation is None:
            training, queries = validation_split(
                images.labels, settings.seed, settings.validation, settings.validation_per_class
            )
            asked = images.take(queries)
        else:
            training, asked = np.arange(len(images)), validation
            if validation.classes != images.classes:
                raise TrainingError("the images of validation have other classes than training's")
        plain, gallery, labels = None, training[:0], training[:0]
        if len(asked):
            chosen = balanced_sample(
                images.labels[training], settings.seed, settings.validation_gallery
            )
            gallery = training[chosen]
            shown = images.take(gallery)
            both = LabelledImages(
                images.classes, shown.paths + asked.paths, np.append(shown.labels, asked.labels)
            )
            found, plain, gone = read_labelled(
                both, size, memory=settings.picture_memory, threads=threads
            )
            if gone:
                raise TrainingError(
                    f"{gone[0].path} cannot be read for validation: {gone[0].reason}"
                )
            labels = found.labels
        return cls(images, pictures, training, plain, labels, len(gallery), skipped)

    @property
    def labels(self) -> Positions:
        """Of the training images."""
        return self.images.labels[self.training]
