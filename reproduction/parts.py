"""The parts of the evaluation, as tasks: what is known is skipped, what is missing is computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lookalike.cli.output import duration
from lookalike.errors import LookalikeError
from reproduction.confs import PARTS, ROWS, TABLES, Part, Settings
from reproduction.rank import rank, ranking_path
from reproduction.score import LAST_NOTED, feedback, robustness, score
from reproduction.study import Study
from reproduction.timing import SIZES, grow, time_rows

TRUSTED = 300.0
"""Seconds of work after which the pace of this machine counts as much as the estimates."""


@dataclass(frozen=True, eq=False)
class Task:
    """One step; what an interruption loses at most.

    Attributes:
        name: for a reader.
        seconds: that it is likely to take.
        is_done: whether its output exists.
        run: computes and writes it. LookalikeError if that is not possible on these images; any
            other error stops everything.
    """

    name: str
    seconds: float
    is_done: Callable[[], bool]
    run: Callable[[], object]


def tasks_of(studies: Sequence[Study], names: Sequence[str], verb: str = "score") -> list[Task]:
    """Of the parts of these names, set by set, up to a verb: "train", "rank" or "score". What two
    parts need is one task.

    LookalikeError if the results hold numbers of one of the rows that were computed in another way.
    """
    tasks = dict[str, Task]()
    makers = {"train": _train, "rank": _rank, "score": _score}
    for study in studies:
        settings = study.settings
        for name in names:
            if not _is_on(PARTS[name], study, studies):
                continue
            if name == "growth" and not settings.budget.growth:
                continue
            rows = _rows(name, settings)
            if settings.rows is not None:
                rows = tuple(row for row in settings.rows if row in rows)
            for row in rows:
                study.check(row, study.method(row, 0).made_of())
            made = list(makers[verb](study, PARTS[name].measure, rows))
            if name == "unseen" and not study.has_unseen and made:  # reported once, not per row
                made = [replace(made[0], name=f"{study.name}, unseen", is_done=lambda: False)]
            tasks |= {task.name: task for task in made}
    return list(tasks.values())


def check_rows(names: Sequence[str], settings: Settings) -> None:
    """LookalikeError if a row is in none of the parts of these names, or there is nothing to do."""
    rows = {name: _rows(name, settings) for name in names}
    if list(rows) == ["growth"] and not settings.budget.growth:
        raise LookalikeError("--quick leaves growth out: name another part, or omit --quick")
    for row in settings.rows or ():
        if row not in ROWS:
            raise LookalikeError(f"no row is called {row}: choose from {', '.join(ROWS)}")
        if not any(row in each for each in rows.values()):
            have = (f"{name} has {', '.join(each) or 'no rows'}" for name, each in rows.items())
            raise LookalikeError(
                f"row {row} is in none of the parts {', '.join(rows)}; name another part or row: "
                f"{'; '.join(have)}"
            )


def run_tasks(
    tasks: Sequence[Task],
    report: Callable[[str], None],
    after: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Run those that are not done, in their order, and call `after` after each.

    A task that is not possible is reported, and the others go on; returns the names of these.
    """
    waiting = [task for task in tasks if not task.is_done()]
    began, behind = clock(), 0.0
    whole = sum(task.seconds for task in waiting)
    left_out = list[str]()
    for number, task in enumerate(waiting, 1):
        if not task.is_done():  # by one before it
            pace = (clock() - began + TRUSTED) / (behind + TRUSTED)
            left = duration(pace * (whole - behind))
            report(f"{number} of {len(waiting)}: {task.name}; about {left} left")
            try:
                task.run()
            except LookalikeError as error:
                report(f"left out {task.name}: {error}")
                left_out.append(task.name)
                whole -= task.seconds
                continue
            after()
        behind += task.seconds
    return left_out


# ---- tasks of a part -----------------------------------------------------------------------------


def _is_on(part: Part, study: Study, studies: Sequence[Study]) -> bool:
    """Whether it is measured on this one of the sets."""
    named = {other.name for other in studies} & set(part.sets)
    return study.name in named or not named


def _rows(name: str, settings: Settings) -> tuple[str, ...]:
    if name == "unseen" and not settings.budget.unseen_related:
        return tuple(TABLES)
    return PARTS[name].rows


def _seeds(study: Study, measure: str) -> tuple[int, ...]:
    seeds, few = study.plan.seeds, {"timing": 1, "growth": 1, "unseen": 3, "robustness": 3}
    return seeds[: few.get(measure, len(seeds))]


def _train(study: Study, measure: str, rows: Sequence[str]) -> Iterator[Task]:
    """Of the networks that the rows need."""
    rows = ("ours",) if measure == "growth" else rows
    protocol = "unseen" if measure == "unseen" else "paper"
    networks = {ROWS[row].network: row for row in reversed(rows) if ROWS[row].network}

    def is_done(network: str, seed: int) -> bool:
        training = study.split(protocol, seed).training
        return study.networks.path(study.recipe(network, seed), training).exists()

    for seed in _seeds(study, measure):
        for network, row in networks.items():
            yield Task(
                f"{study.name}, {protocol}, seed {seed}, network {network}",
                _seconds(study, row),
                partial(is_done, network, seed),
                partial(study.fitted, protocol, row, seed),
            )


def _rank(study: Study, measure: str, rows: Sequence[str]) -> Iterator[Task]:
    if measure not in ("paper", "unseen"):
        return
    for task, keys in _of_rows(study, measure, rows, 1.0 if measure == "paper" else 0.6):
        done = partial(_is_ranked, study, measure, *keys)
        yield Task(*task, done, partial(rank, study, measure, *keys))


def _score(study: Study, measure: str, rows: Sequence[str]) -> Iterator[Task]:
    def knows(*entries: tuple[str, ...]) -> bool:
        return all(study.known(*keys) is not None for keys in entries)

    name, seeds = study.name, _seeds(study, measure)
    if measure in ("paper", "unseen"):
        for task, (row, seed) in _of_rows(study, measure, rows, 1.0 if measure == "paper" else 0.6):
            done = partial(knows, (measure, row, str(seed)))
            yield Task(*task, done, partial(score, study, measure, row, seed))
    elif measure == "robustness":
        levels = study.settings.budget.levels
        for task, (row, seed) in _of_rows(study, measure, rows, 10):
            kinds = [("robustness", row, str(seed), LAST_NOTED, kind) for kind in levels]
            yield Task(*task, partial(knows, *kinds), partial(robustness, study, row, seed))
    elif measure == "feedback":
        for seed in seeds:
            task = f"{name}, feedback, seed {seed}", _seconds(study, "svm", 2)
            yield Task(*task, partial(knows, (measure, str(seed))), partial(feedback, study, seed))
    elif measure == "timing":  # one task, since all rows are timed in one process
        times = [("timing", "rows", row) for row in rows]
        task = f"{name}, times", _seconds(study, "svm", 30)
        yield Task(*task, partial(knows, *times), partial(time_rows, study, rows, seeds[0]))
    else:
        sizes = [("growth", str(seeds[0]), str(size)) for size in SIZES]
        yield Task(f"{name}, growth", 1500, partial(knows, *sizes), partial(grow, study, seeds[0]))


def _of_rows(
    study: Study, measure: str, rows: Sequence[str], share: float
) -> Iterator[tuple[tuple[str, float], tuple[str, int]]]:
    """Name and seconds of each task of a measure, and its row and seed."""
    for seed in _seeds(study, measure):
        for row in rows:
            task = f"{study.name}, {measure}, seed {seed}, {row}", _seconds(study, row, share)
            yield task, (row, seed)


def _is_ranked(study: Study, protocol: str, row: str, seed: int) -> bool:
    return ranking_path(study, protocol, row, seed).exists()


def _seconds(study: Study, row: str, share: float = 1.0) -> float:
    return share * study.settings.budget.share * ROWS[row].seconds * len(study.collection) / 1000
