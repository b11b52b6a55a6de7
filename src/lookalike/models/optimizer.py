"""The optimiser of a training, its learning rate over time, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lookalike.errors import TrainingError
from lookalike.models.embedder import Embedder
from lookalike.models.settings import TrainSettings

__all__ = ["make_optimizer", "moving_average", "one_cycle"]


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


def one_cycle(
    step: int, steps: int, warmup: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000
) -> float:
    """Learning rate of step 0..steps - 1 over its highest (Smith and Topin 2018), half cosines.

    It rises from `start` to 1 at step warmup * steps - 1, then falls to `end` at the last step;
    the defaults are those of torch's OneCycleLR. That one has a state to save and restore, divides
    by zero where warmup * steps is 1, and warns when mixed precision skips the first step.
    """
    peak = warmup * steps - 1
    last = steps - 1
    if step <= peak:
        first, then, part = start, 1.0, step / peak if peak > 0 else 1.0
    else:
        first, then, part = 1.0, end, (step - peak) / (last - peak)
    return then + (first - then) / 2 * (1 + math.cos(math.pi * part))


def moving_average(highest: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential, with a decay that begins low, so that it forgets the untrained weights."""

    def average(own: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        if not value.is_floating_point():  # the counters of batch norms
            return value
        decay = min(highest, (1 + int(updates)) / (10 + int(updates)))
        return own.lerp(value, 1 - decay)

    return average
