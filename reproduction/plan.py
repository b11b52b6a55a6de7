"""How each set is evaluated, and what a user may change of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reproduction.effort import QUICK, WHOLE, Effort
from reproduction.recipes import OURS

__all__ = ["PLANS", "Plan", "ReproduceSettings", "folders_of", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """How a set is evaluated: split seeds, and epochs of the networks on the shared trunk."""

    seeds: tuple[int, ...]
    epochs: int


PLANS = {"corel1k": Plan((0, 1, 2, 3, 4), 6), "corel5k": Plan((0, 1, 2), 8)}
OTHER = Plan((0, 1, 2, 3, 4), 6)


@dataclass(frozen=True)
class ReproduceSettings:
    """What a user may change.

    Attributes:
        seeds, epochs: of every set; None: those of its plan.
        rows: None: those of the part.
        vgg_weights: file of ImageNet weights for VGG16, or None: from scratch.
        threads: of a query's network.
        queries_per_class: held out of the gallery.
        quick: spend little, see `effort`.
    """

    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    rows: tuple[str, ...] | None = None
    vgg_weights: Path | None = None
    threads: int | None = None
    queries_per_class: int = 10
    quick: bool = False

    @property
    def effort(self) -> Effort:
        return QUICK if self.quick else WHOLE

    def changed(self) -> dict[str, Any]:
        """What numbers that may stand in one file must agree in, as far as the user changed it."""
        default = ReproduceSettings()
        names = ("quick", "epochs", "queries_per_class")
        mine = {name: getattr(self, name) for name in names}
        return {name: value for name, value in mine.items() if value != getattr(default, name)}


def plan_of(name: str, settings: ReproduceSettings) -> Plan:
    """The set's plan with what the user changed."""
    plan, effort = PLANS.get(name, OTHER), settings.effort
    epochs = effort.epochs.get(OURS.embedder.trunk, plan.epochs)
    plan = replace(plan, seeds=plan.seeds[: effort.seeds], epochs=epochs)
    if settings.seeds is not None:
        plan = replace(plan, seeds=settings.seeds)
    if settings.epochs is not None:
        plan = replace(plan, epochs=settings.epochs)
    return plan


def folders_of(data: Path, settings: ReproduceSettings) -> list[Path]:
    """The folders of sets: those of PLANS that are in `data`, the first alone if it is to be quick;
    without any it is itself a set.
    """
    found = [data / name for name in PLANS if (data / name).is_dir()]
    return (found[:1] if settings.quick else found) or [data]
