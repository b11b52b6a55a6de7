"""The paper's evaluation, part by part: what is known stays, what is missing is worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product

from lookalike.errors import LookalikeError
from reproduction.growth import SIZES, grow
from reproduction.plan import Plan, ReproduceSettings, plan_of
from reproduction.robustness import kind_is_known, robustness
from reproduction.study import UNSEEN_CLASSES, RowError, Study
from reproduction.tasks import Task, seconds_of
from reproduction.timing import time_rows
from reproduction.titles import RELATED, ROBUST, TABLES

__all__ = ["PARTS", "Part", "check_asked", "tasks_of"]

SEEDS_OF_PARTS = 3
"""Unseen categories and robustness are measured on the first so many seeds."""


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


def tasks_of(
    studies: Sequence[Study], names: Sequence[str], settings: ReproduceSettings
) -> list[Task]:
    """Of the parts of these names, on the sets that the paper does each on, or else on all; set by
    set. What two parts want is one task.

    LookalikeError if the results hold numbers of one of the rows that were got in another way.
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
            for row in rows:
                study.check(row)
            for task in part.tasks(study, plan, rows):
                tasks[task.name] = replace(task, seconds=effort.share * task.seconds)
    return list(tasks.values())
