"""The paper's evaluation, part by part: what is known stays, what is missing is worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from lookalike.errors import LookalikeError
from lookalike.evaluation.splits import check_class_sizes
from lookalike.lock import exclusive
from lookalike.paper.collection import Collection
from lookalike.paper.effort import QUICK, WHOLE, Effort
from lookalike.paper.growth import SIZES, grow
from lookalike.paper.methods.vgg import FROM_SCRATCH
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import OURS
from lookalike.paper.results import Results
from lookalike.paper.robustness import kind_is_known, robustness
from lookalike.paper.study import UNSEEN_CLASSES, RowError, Study
from lookalike.paper.tasks import Task, seconds_of
from lookalike.paper.timing import time_rows
from lookalike.paper.titles import RELATED, ROBUST, TABLES

__all__ = [
    "PARTS",
    "Plan",
    "ReproduceSettings",
    "check_asked",
    "folders_of",
    "open_study",
    "plan_of",
    "tasks_of",
    "working_in",
]


@dataclass(frozen=True)
class Plan:
    """How a set is evaluated: split seeds, and epochs of the networks on the shared trunk."""

    seeds: tuple[int, ...]
    epochs: int


PLANS = {"corel1k": Plan((0, 1, 2, 3, 4), 6), "corel5k": Plan((0, 1, 2), 8)}
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


@dataclass(frozen=True)
class Part:
    """One thing to work out.

    Attributes:
        sets: that the paper does it on; empty: all. Where none of them is found it is done on all.
        rows: that can be chosen; empty: it has none.
    """

    tasks: Callable[[Study, Plan, Sequence[str]], Iterable[Task]]
    sets: tuple[str, ...] = ()
    rows: tuple[str, ...] = TABLES

    def studies(self, found: Sequence[Study]) -> Sequence[Study]:
        """Those that it is done on."""
        named = [study for study in found if study.collection.name in self.sets]
        return named or found


def _quality(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    return _measured(study, "paper", rows, plan.seeds, 1.0)


def _unseen(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    tasks = _measured(study, "unseen", rows, plan.seeds[:SEEDS_OF_PARTS], 0.6)
    if len(study.collection.images.classes) < UNSEEN_CLASSES:  # told once, and not for each row
        return (replace(task, name=f"{study.collection.name}, unseen") for task in islice(tasks, 1))
    return tasks


def _measured(
    study: Study, protocol: str, rows: Sequence[str], seeds: Iterable[int], share: float
) -> Iterator[Task]:
    for seed, row in product(seeds, rows):
        yield Task(
            f"{study.collection.name}, {protocol}, seed {seed}, {row}",
            share * seconds_of(row, len(study.collection)),
            partial(_known, study, protocol, row, str(seed)),
            partial(study.measure, protocol, row, seed),
        )


def _times(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    """One task, for all rows are timed in one process."""
    yield Task(
        f"{study.collection.name}, times",
        0.15 * len(study.collection),
        lambda: all(_known(study, "timing", "rows", row) for row in rows),
        partial(_time, study, rows, plan.seeds[0]),
    )


def _time(study: Study, rows: Sequence[str], seed: int) -> None:
    """Those rows that can be measured; LookalikeError, at the end, that names the others."""
    remaining, errors = list(rows), list[RowError]()
    while remaining:
        try:
            time_rows(study, remaining, seed)
            break
        except RowError as error:
            if error.row not in remaining:
                raise
            remaining.remove(error.row)
            errors.append(error)
    if errors:
        raise LookalikeError("; ".join(map(str, errors)))


def _feedback(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    for seed in plan.seeds:
        yield Task(
            f"{study.collection.name}, feedback, seed {seed}",
            0.01 * len(study.collection),
            partial(_known, study, "feedback", str(seed)),
            partial(study.feedback, seed),
        )


def _robustness(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    for seed, row in product(plan.seeds[:SEEDS_OF_PARTS], rows):
        yield Task(
            f"{study.collection.name}, robustness, seed {seed}, {row}",
            (0.9 if row == "sift" else 0.1) * len(study.collection),
            partial(_altered, study, row, seed),
            partial(robustness, study, row, seed),
        )


def _altered(study: Study, row: str, seed: int) -> bool:
    return all(kind_is_known(study, row, seed, kind) for kind in study.effort.levels)


def _growth(study: Study, plan: Plan, rows: Sequence[str]) -> Iterator[Task]:
    yield Task(
        f"{study.collection.name}, growth",
        1500,
        lambda: all(_known(study, "growth", str(plan.seeds[0]), str(size)) for size in SIZES),
        partial(grow, study, plan.seeds[0]),
    )


def _known(study: Study, *keys: str) -> bool:
    return study.known(*keys) is not None


PARTS: dict[str, Part] = {
    "table1": Part(_quality, ("corel1k",)),
    "table2": Part(_quality, ("corel5k",)),
    "table3": Part(_times),
    "related": Part(_quality, ("corel1k",), RELATED),
    "unseen": Part(_unseen, ("corel1k",), (*TABLES, *RELATED)),
    "feedback": Part(_feedback, ("corel1k",), ()),
    "robustness": Part(_robustness, ("corel1k",), ROBUST),
    "growth": Part(_growth, ("corel5k",), ()),
}
"""By the name that a user asks for."""


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


def check_asked(names: Sequence[str], settings: ReproduceSettings) -> None:
    """LookalikeError if a row is in none of the parts of these names, or nothing is to be done."""
    parts = {name: rows_of(name, settings) for name in names}
    if list(parts) == ["growth"] and not settings.effort.growth:
        raise LookalikeError("--quick leaves growth out: name another part, or do without it")
    known = {row for rows in parts.values() for row in rows}
    for row in settings.rows or ():
        if row not in known:
            told = (f"{name} has {', '.join(rows) or 'no rows'}" for name, rows in parts.items())
            raise LookalikeError(
                f"row {row} is in no part that was asked for, so name another part or row: "
                f"{'; '.join(told)}"
            )


def rows_of(name: str, settings: ReproduceSettings) -> tuple[str, ...]:
    """The rows that the part of that name has."""
    if name == "unseen" and not settings.effort.unseen_related:
        return TABLES
    return PARTS[name].rows


def working_in(work: Path) -> AbstractContextManager[None]:
    """Nobody else makes networks and maps in the directory meanwhile, for they are written in
    place. LookalikeError if somebody does.
    """
    work.mkdir(parents=True, exist_ok=True)

    def refusal(holder: str) -> LookalikeError:
        return LookalikeError(
            f"{work} is in use by process {holder}: wait until it is done, or give another one, "
            "--work DIRECTORY; --results may be the same"
        )

    return exclusive(work / ".lock", refusal)


def open_study(
    folder: Path,
    work: Path,
    results: Results,
    settings: ReproduceSettings,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Read a set; what is worked out goes to `work` (networks, maps) and `results` (numbers).

    TrainingError if the folder is no folder of class folders; LookalikeError if a class has no more
    images than queries, or if the results hold numbers that were got in another way.
    """
    collection = Collection.read(folder)
    title = results.get(collection.name, "titles", "vgg")
    if settings.vgg_weights is not None and title == FROM_SCRATCH:
        raise LookalikeError(
            f"{results.directory} holds numbers of {title}: to measure it with "
            f"{settings.vgg_weights}, give another directory for results"
        )
    for file in collection.skipped:
        tell(f"skipped {file.path}: {file.reason}")
    skipped = [(file.path, file.reason) for file in collection.skipped]
    classes, labels = collection.images.classes, collection.labels
    try:
        check_class_sizes(classes, labels, settings.queries_per_class, skipped)
    except LookalikeError as error:
        raise LookalikeError(f"{folder}: {error}") from error
    return Study(
        collection,
        Networks(work, tell),
        results,
        plan_of(collection.name, settings).epochs,
        settings.vgg_weights,
        settings.queries_per_class,
        settings.threads,
        settings.effort,
        settings.changed(),
        tell,
    )


def tasks_of(
    studies: Sequence[Study], names: Sequence[str], settings: ReproduceSettings
) -> list[Task]:
    """Of the parts of these names, on the sets that the paper does each on, or else on all; set by
    set. What two parts want is one task.
    """
    effort = settings.effort
    tasks = dict[str, Task]()
    for study in studies:
        plan = plan_of(study.collection.name, settings)
        for name in names:
            part = PARTS[name]
            if study not in part.studies(studies) or (name == "growth" and not effort.growth):
                continue
            rows = rows_of(name, settings)
            if settings.rows is not None:
                rows = tuple(row for row in settings.rows if row in rows)
            for task in part.tasks(study, plan, rows):
                tasks[task.name] = replace(task, seconds=effort.share * task.seconds)
    return list(tasks.values())
