"""How to train, as data: validated, and compared before a training goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lookalike.models.augment import AugmentSettings
from lookalike.models.losses import LOSSES

__all__ = ["TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train. ValueError for values that make no sense.

    Attributes:
        weights: of the trunk: "imagenet", "none", or a file.
        epochs, batch_size, seed: as they say.
        learning_rate: highest of the one-cycle, for attention, FC and class centres.
        trunk_learning_rate: the same for the trunk.
        warmup: share of all steps in which the rate rises.
        weight_decay: of AdamW; biases, batch norms and single numbers have none.
        clip: largest norm of the gradient; None: any.
        loss: one of LOSSES.
        temperature, smoothing: of the softmax.
        softmax_weight: of a softmax beside a metric loss.
        teacher: file of a trained embedder (NAME.pt) whose embeddings the network learns to give,
            beside the loss; None: none. Not with a frozen part.
        teacher_weight: of 1 - cos to the teacher's embedding.
        images_per_class: keep that many images of a class together in a batch (metric losses).
        augmentation: strengths.
        freeze: the last frozen stage of the trunk, as stages count: -1 freezes all of it, -2 all
            but the last; None: nothing.
        freeze_batch_norm: keep the means and variances of the trunk's batch norms, which small
            batches estimate badly; None: if the trunk has trained weights.
        ema: decay of an average of the weights, which is then validated and kept; None: no average.
        preprocessing: pixels enter with the "trunk"'s own mean and std or, Eq. 1-2, those of the
            "training-set". "auto": the trunk's if its weights are trained, since they were trained
            on pixels scaled so, and other statistics shift all its maps; else the training set's.
        validation: share of each class that is held out; 0: none.
        validation_per_class: or that many images of each.
        validation_gallery: that many training images, or one of each class if these are more, are
            the gallery of the queries.
        keep: weights of the epoch with the best mAP, or of the last one.
        patience: stop after so many epochs without a better mAP; None: never.
        views: augmented views of each picture whose frozen maps are kept; fewer if `map_memory`
            does not hold them; 0: maps are worked out anew, of new views, each epoch.
        picture_memory, map_memory: bytes for decoded pictures and for frozen maps.
        checkpoint_seconds: least time between checkpoints.
        threads: of torch; None: as torch is set.
        device: "cpu" or "cuda".
        mixed_precision: 16-bit numbers where they are safe; on cuda alone.
    """

    weights: str = "imagenet"
    epochs: int = 20
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 1e-3
    trunk_learning_rate: float = 1e-4
    warmup: float = 0.3
    weight_decay: float = 0.05
    clip: float | None = 5.0
    loss: str = "softmax"
    temperature: float = 0.05
    smoothing: float = 0.1
    softmax_weight: float = 0.0
    teacher: str | None = None
    teacher_weight: float = 5.0
    images_per_class: int = 1
    augmentation: AugmentSettings = field(default_factory=AugmentSettings)
    freeze: int | None = None
    freeze_batch_norm: bool | None = None
    ema: float | None = None
    preprocessing: Literal["auto", "trunk", "training-set"] = "auto"
    validation: float = 0.1
    validation_per_class: int | None = None
    validation_gallery: int = 2000
    keep: Literal["best", "last"] = "best"
    patience: int | None = None
    views: int = 4
    picture_memory: int = 1 << 30
    map_memory: int = 2 << 30
    checkpoint_seconds: float = 60.0
    threads: int | None = None
    device: str = "cpu"
    mixed_precision: bool = True

    def __post_init__(self) -> None:
        def check(good: bool, name: str, limit: str) -> None:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {limit}")

        for name in ("epochs", "batch_size", "images_per_class", "validation_gallery"):
            check(getattr(self, name) >= 1, name, "at least 1")
        for name in ("patience", "validation_per_class", "threads"):
            value = getattr(self, name)
            check(value is None or value >= 1, name, "at least 1, or None")
        for name in ("learning_rate", "temperature", "teacher_weight"):
            check(getattr(self, name) > 0, name, "above 0")
        check(self.teacher is None or self.freeze is None, "freeze", "None with a teacher")
        for name in ("seed", "trunk_learning_rate", "weight_decay", "softmax_weight", "views"):
            check(getattr(self, name) >= 0, name, "at least 0")
        for name in ("picture_memory", "map_memory", "checkpoint_seconds"):
            check(getattr(self, name) >= 0, name, "at least 0")
        check(self.batch_size >= 2, "batch_size", "at least 2")
        check(self.clip is None or self.clip > 0, "clip", "above 0, or None")
        check(0 < self.warmup < 1, "warmup", "between 0 and 1")
        check(0 <= self.smoothing < 1, "smoothing", "from 0 to below 1")
        check(0 <= self.validation <= 0.5, "validation", "from 0 to 0.5")
        check(self.ema is None or 0 < self.ema < 1, "ema", "between 0 and 1, or None")
        check(self.loss in LOSSES, "loss", f"one of {', '.join(LOSSES)}")
        kinds = ("auto", "trunk", "training-set")
        check(self.preprocessing in kinds, "preprocessing", f"one of {', '.join(kinds)}")
        check(self.keep in ("best", "last"), "keep", "best or last")
        check(self.device in ("cpu", "cuda"), "device", "cpu or cuda")
