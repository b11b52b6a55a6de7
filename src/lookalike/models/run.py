"""The loop of a training: its steps, their learning rates, what is measured after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lookalike.errors import TrainingError
from lookalike.evaluation.protocol import measure
from lookalike.models.data import Positions, epoch_batches, pixel_statistics
from lookalike.models.embedder import Embedder
from lookalike.models.inputs import (
    CHUNK,
    Batch,
    Frozen,
    Inputs,
    TrainData,
    frozen_stages,
    stage_modules,
)
from lookalike.models.losses import Teacher, make_loss
from lookalike.models.report import EpochScores, Listener, TrainProgress, overfitting
from lookalike.models.settings import EmbedderSettings, TrainSettings
from lookalike.threads import cores

LOWEST = 1 / 25, 1 / 250_000
"""Learning rate at the first and at the last step, over its highest."""
PLACE = ("epoch", "batch", "loss_sum", "seen", "best", "kept")
LEARNING = ("embedder", "criterion", "optimizer", "scaler")
"""What a checkpoint holds of a `Run`: attributes, and those of which it holds the state."""


class Run:
    """A training's state, and the loop over it."""

    def __init__(
        self,
        data: TrainData,
        embedder: EmbedderSettings,
        settings: TrainSettings,
        listener: Listener,
    ) -> None:
        self.data, self.settings, self.listener = data, settings, listener
        trained = settings.weights != "none"
        mean = std = None
        kind = settings.preprocessing
        if kind == "training-set" or (kind == "auto" and not trained):
            statistics = pixel_statistics(data.squares, data.training, cores())
            mean, std = statistics.mean, statistics.std
        self.device = torch.device(settings.device)
        self.embedder = Embedder(embedder, settings.weights, mean=mean, std=std)
        self.embedder.to(self.device)
        _arrange(self.embedder, torch.channels_last)  # a third faster on the CPU
        frozen = self._freeze(trained)
        self.inputs = Inputs(data, self.embedder, frozen, settings, listener)
        criterion = make_loss(settings, self.embedder.dim, len(data.images.classes))
        self.criterion = criterion.to(self.device)
        self.teacher: Teacher | None = None
        if settings.teacher is not None:
            self.teacher = Teacher(Path(settings.teacher), self.embedder, self.device)
        self.optimizer = make_optimizer(self.embedder, self.criterion, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._mixed)
        self.average: AveragedModel | None = None
        if settings.ema is not None:
            self.average = AveragedModel(
                self.embedder, avg_fn=moving_average(settings.ema), use_buffers=True
            )
        self.epoch, self.batch, self.loss_sum, self.seen = 1, 0, 0.0, 0
        self.history: list[EpochScores] = []
        self.best: dict[str, Tensor] | None = None
        self.kept = 0
        self.worked = 0  # images trained on by this process
        self.began = time.perf_counter()
        self.saved_at = time.perf_counter()

    def _freeze(self, trained: bool) -> Frozen | None:
        """The frozen stages; `still` are the modules that stay in evaluation mode."""
        trunk, settings = self.embedder.trunk, self.settings
        frozen = frozen_stages(self.embedder.settings.trunk, settings.freeze)
        by_stage = stage_modules(trunk, self.embedder.settings.input_size)
        self.still = [module for stage in by_stage[:frozen] for module in stage]
        for module in self.still:
            module.requires_grad_(False)
        keep = settings.freeze_batch_norm
        if trained if keep is None else keep:
            self.still += [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
        return Frozen(self.embedder, frozen) if frozen else None

    @property
    def _mixed(self) -> bool:
        return self.settings.mixed_precision and self.device.type == "cuda"

    def _learn_mode(self) -> None:
        self.embedder.train()
        self.criterion.train()
        for module in self.still:
            module.eval()

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        cuda = self.device.type == "cuda"
        return {
            **{name: getattr(self, name) for name in PLACE},
            **{name: getattr(self, name).state_dict() for name in LEARNING},
            "threads": torch.get_num_threads(),
            "average": None if self.average is None else self.average.state_dict(),
            "history": [asdict(scores) for scores in self.history],
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if cuda else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        for name in PLACE:
            setattr(self, name, saved[name])
        for name in LEARNING:
            getattr(self, name).load_state_dict(saved[name])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.history = [EpochScores(**row) for row in saved["history"]]
        torch.set_rng_state(saved["random"])
        if saved["cuda_random"] is not None:
            torch.cuda.set_rng_state(saved["cuda_random"])

    # -- the loop

    def go_on(self, save: Callable[[], None]) -> None:
        """From where it is to the end; `save` is called when a checkpoint is due."""
        settings, labels = self.settings, self.data.labels
        if not self.history:
            self._validate(EpochScores(0))
        self.began = time.perf_counter()
        while self.epoch <= settings.epochs and not self._stopped():
            batches = epoch_batches(
                labels, settings.seed, self.epoch, settings.batch_size, settings.images_per_class
            )
            self._learn_mode()
            done, steps = (self.epoch - 1) * len(batches), settings.epochs * len(batches)
            for chosen, inputs in self.inputs.training(self.epoch, batches[self.batch :]):
                rate = one_cycle(done + self.batch, steps, settings.warmup)
                self._step(inputs, chosen, rate)
                self.batch += 1
                self._report_batch(len(labels), rate)
                self._save_if_due(save)
            last = one_cycle(done + len(batches) - 1, steps, settings.warmup)
            rate = settings.learning_rate * last
            self._validate(EpochScores(self.epoch, self.loss_sum / self.seen, learning_rate=rate))
            self.epoch, self.batch, self.loss_sum, self.seen = self.epoch + 1, 0, 0.0, 0
            self._save_if_due(save)
        save()

    def _stopped(self) -> bool:
        patience = self.settings.patience
        values = [scores.mean_average_precision for scores in self.history]
        known = [value for value in values if value is not None]
        if patience is None or not known:
            return False
        return self.epoch - 1 - self.history[values.index(max(known))].epoch >= patience

    def _save_if_due(self, save: Callable[[], None]) -> None:
        if time.perf_counter() - self.saved_at >= self.settings.checkpoint_seconds:
            save()
            self.saved_at = time.perf_counter()

    def _step(self, inputs: Batch, chosen: Positions, rate: float) -> None:
        labels = torch.from_numpy(self.data.labels[chosen]).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self._mixed):
            embeddings = self.inputs.embed(inputs)
            loss = self.criterion(embeddings, labels)
            if self.teacher is not None:
                assert isinstance(inputs, Tensor)  # nothing is frozen with a teacher
                taught = self.teacher.loss(inputs.to(self.device), embeddings)
                loss = loss + self.settings.teacher_weight * taught
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._not_finite(f"loss is {value}", chosen)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or math.inf)
        if not self._mixed and not torch.isfinite(norm):  # the scaler skips such steps itself
            raise self._not_finite(f"gradient has the norm {float(norm)}", chosen)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.embedder)
        self.loss_sum += value * len(chosen)
        self.seen += len(chosen)
        self.worked += len(chosen)

    def _not_finite(self, what: str, chosen: Positions) -> TrainingError:
        paths = self.data.images.paths
        files = ", ".join(str(paths[i]) for i in self.data.training[chosen].tolist())
        return TrainingError(
            f"the {what} in epoch {self.epoch}, batch {self.batch + 1}: lower the learning rate "
            f"({self.settings.learning_rate:g}, trunk {self.settings.trunk_learning_rate:g}), or "
            f"look at the images of the batch: {files}"
        )

    def _report_batch(self, total: int, rate: float) -> None:
        seconds = time.perf_counter() - self.began
        left = (self.settings.epochs - self.epoch + 1) * total - self.seen
        self.listener(
            TrainProgress(
                self.seen,
                total,
                stage="training",
                epoch=self.epoch,
                epochs=self.settings.epochs,
                images_per_second=self.worked / seconds,
                seconds_left=seconds / self.worked * left,
                loss=self.loss_sum / self.seen,
                learning_rate=self.settings.learning_rate * rate,
            )
        )

    def _validate(self, scores: EpochScores) -> None:
        """Measure, remember the weights if they are the best, and report."""
        noticed = overfitting(tuple(self.history))
        if self.data.plain is not None:
            with self._averaged(), torch.no_grad():
                scores = self._measure(scores)
        value = scores.mean_average_precision
        past = [s.mean_average_precision for s in self.history]
        better = value is None or all(p is not None and value > p for p in past)
        if better or self.settings.keep == "last":
            self.kept = scores.epoch
            state = (self.average.module if self.average else self.embedder).state_dict()
            self.best = {k: v.detach().cpu().clone() for k, v in state.items()}
        self.history.append(scores)
        note = overfitting(tuple(self.history))
        total = len(self.data.training)
        self.listener(
            TrainProgress(
                total,
                total,
                stage="epoch",
                epoch=scores.epoch,
                epochs=self.settings.epochs,
                loss=scores.loss,
                learning_rate=scores.learning_rate,
                scores=scores,
                note=note if noticed is None else None,
            )
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the place of the learning ones."""
        if self.average is None:
            yield
            return
        learning = {k: v.clone() for k, v in self.embedder.state_dict().items()}
        self.embedder.load_state_dict(self.average.module.state_dict())
        try:
            yield
        finally:
            self.embedder.load_state_dict(learning)

    def _measure(self, scores: EpochScores) -> EpochScores:
        """`scores` with loss and retrieval metrics of the held-out images.

        TrainingError for embeddings that are not finite.
        """
        self.embedder.eval()
        self.criterion.eval()
        embeddings = torch.cat([self.inputs.embed(x) for x in self.inputs.validation(self.epoch)])
        gallery, labels = self.data.gallery, self.data.plain_labels
        asked, own = embeddings[gallery:], labels[gallery:]
        losses = []
        for start in range(0, len(own), CHUNK):
            part = slice(start, start + CHUNK)
            target = torch.from_numpy(own[part]).to(self.device)
            losses.append(float(self.criterion(asked[part], target)) * len(target))
        vectors = embeddings.cpu().numpy()
        if not np.isfinite(vectors).all():
            raise TrainingError(
                f"after epoch {scores.epoch} embeddings are not finite: lower the learning rate"
            )
        exact, hashed, _ = measure(vectors[gallery:], own, vectors[:gallery], labels[:gallery])
        return replace(
            scores,
            validation_loss=sum(losses) / len(own),
            precision_10=float(exact["P@10"].mean()),
            mean_average_precision=float(exact["mAP"].mean()),
            lsh_mean_average_precision=float(hashed["mAP"].mean()),
        )

    def result(self) -> Embedder:
        """The embedder with the weights that were kept, on the CPU, in evaluation mode."""
        assert self.best is not None
        self.embedder.load_state_dict(self.best)
        _arrange(self.embedder.cpu(), torch.contiguous_format)
        return self.embedder.eval()


def _arrange(module: nn.Module, order: torch.memory_format) -> None:
    module.to(memory_format=order)  # type: ignore[call-overload]


def make_optimizer(
    embedder: Embedder, criterion: nn.Module, settings: TrainSettings
) -> torch.optim.Optimizer:
    """AdamW over all that learns; each group's highest rate is its "peak".

    The trunk has a rate of its own; biases, batch norms and single numbers do not decay.
    TrainingError if nothing is left to learn.
    """
    trunk = {id(parameter) for parameter in embedder.trunk.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in (embedder, criterion):
        for parameter in module.parameters():
            if parameter.requires_grad:
                inside = id(parameter) in trunk
                rate = settings.trunk_learning_rate if inside else settings.learning_rate
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise TrainingError("nothing is left to train: freeze less, or give the embedder an FC")
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Learning rate of step 0..steps - 1 over its highest (Smith and Topin 2018), half cosines.

    It rises from LOWEST[0] to 1 at step warmup * steps - 1, then falls to LOWEST[1] at the last
    step, as torch's OneCycleLR does by default. That one has a state to save and restore, divides
    by zero where warmup * steps is 1, and warns when mixed precision skips the first step.
    """
    peak = warmup * steps - 1
    last = steps - 1
    if step <= peak:
        first, then, part = LOWEST[0], 1.0, step / peak if peak > 0 else 1.0
    else:
        first, then, part = 1.0, LOWEST[1], (step - peak) / (last - peak)
    return then + (first - then) / 2 * (1 + math.cos(math.pi * part))


def moving_average(highest: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential, with a decay that begins low, so that it forgets the untrained weights."""

    def average(own: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        if not value.is_floating_point():  # the counters of batch norms
            return value
        decay = min(highest, (1 + int(updates)) / (10 + int(updates)))
        return own.lerp(value, 1 - decay)

    return average
