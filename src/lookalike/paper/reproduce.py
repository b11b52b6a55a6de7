"""The paper's evaluation, part by part: what is known stays, what is missing is worked out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lookalike.paper.collection import Collection
from lookalike.paper.growth import grow
from lookalike.paper.networks import Networks
from lookalike.paper.results import Results
from lookalike.paper.robustness import robustness
from lookalike.paper.study import Study
from lookalike.paper.timing import time_rows
from lookalike.paper.titles import RELATED, ROBUST, TABLES

__all__ = ["PARTS", "Plan", "ReproduceSettings", "open_study", "plan_of", "reproduce"]


@dataclass(frozen=True)
class Plan:
    """How a set is evaluated: split seeds, and epochs of the networks on the shared trunk."""

    seeds: tuple[int, ...]
    epochs: int
    related: bool = True
    """Whether the rows of related work are measured, too: hours on a large set."""


PLANS = {"corel1k": Plan((0, 1, 2, 3, 4), 6), "corel5k": Plan((0, 1, 2), 8, related=False)}
OTHER = Plan((0, 1, 2, 3, 4), 6)
SEEDS_OF_PARTS = 3
"""Unseen categories and robustness are measured on the first so many seeds."""


@dataclass(frozen=True)
class ReproduceSettings:
    """What a user may change.

    Attributes:
        seeds, epochs: of every set; None: those of its plan.
        rows: None: those of the part.
        vgg_weights: file of ImageNet weights for VGG16, or None: from scratch.
        threads: of a query's network.
        queries_per_class: held out of the gallery.
    """

    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    rows: tuple[str, ...] | None = None
    vgg_weights: Path | None = None
    threads: int | None = None
    queries_per_class: int = 10


@dataclass(frozen=True)
class Part:
    """One thing to work out, on the sets that the paper does it on; empty: on all."""

    run: Callable[[Study, Plan, Sequence[str]], None]
    sets: tuple[str, ...] = ()
    rows: Callable[[Plan], tuple[str, ...]] = field(default=lambda _: TABLES)


def _quality(study: Study, plan: Plan, rows: Sequence[str]) -> None:
    study.measure("paper", rows, plan.seeds)


def _unseen(study: Study, plan: Plan, rows: Sequence[str]) -> None:
    study.measure("unseen", rows, plan.seeds[:SEEDS_OF_PARTS])


PARTS: dict[str, Part] = {
    "table1": Part(_quality, ("corel1k",)),
    "table2": Part(_quality, ("corel5k",)),
    "table3": Part(lambda study, plan, rows: time_rows(study, rows, plan.seeds[0])),
    "related": Part(_quality, ("corel1k",), lambda plan: RELATED if plan.related else ()),
    "unseen": Part(_unseen, ("corel1k",), lambda _: (*TABLES, *RELATED)),
    "feedback": Part(lambda study, plan, _: study.feedback(plan.seeds), ("corel1k",)),
    "robustness": Part(
        lambda study, plan, rows: robustness(study, plan.seeds[:SEEDS_OF_PARTS], rows),
        ("corel1k",),
        lambda _: ROBUST,
    ),
    "growth": Part(lambda study, plan, _: grow(study, plan.seeds[0]), ("corel5k",)),
}
"""By the name that a user asks for."""


def plan_of(name: str, settings: ReproduceSettings) -> Plan:
    """The set's plan with what the user changed."""
    plan = PLANS.get(name, OTHER)
    if settings.seeds is not None:
        plan = replace(plan, seeds=settings.seeds)
    if settings.epochs is not None:
        plan = replace(plan, epochs=settings.epochs)
    return plan


def open_study(
    folder: Path,
    work: Path,
    results: Results,
    settings: ReproduceSettings,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Read a set; what is worked out goes to `work` (networks, maps) and `results` (numbers).

    TrainingError if the folder is no folder of class folders.
    """
    collection = Collection.read(folder)
    for file in collection.skipped:
        tell(f"skipped {file.path}: {file.reason}")
    return Study(
        collection,
        Networks(work, tell),
        results,
        plan_of(collection.name, settings).epochs,
        settings.vgg_weights,
        settings.queries_per_class,
        settings.threads,
        tell=tell,
    )


def reproduce(study: Study, names: Sequence[str], settings: ReproduceSettings) -> None:
    """Work out the parts of these names that the paper does on this set, or on any other set."""
    plan = plan_of(study.collection.name, settings)
    for name in names:
        part = PARTS[name]
        known = study.collection.name in PLANS
        if known and part.sets and study.collection.name not in part.sets:
            continue
        rows = part.rows(plan)
        chosen = rows if settings.rows is None else [row for row in settings.rows if row in rows]
        part.run(study, plan, chosen)
