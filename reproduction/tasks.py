"""What there is to do, one measurement at a time, and how long it is likely to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lookalike.errors import LookalikeError

__all__ = ["LeftOut", "Progress", "Task", "carry_out", "seconds_of"]

NETWORK, OTHERS = 70.0, 8.0
SECONDS = {
    "sift": 90.0,
    "svm": 5.0,
    "lenet": 40.0,
    "vgg": 200.0,
    "cnn-exhaustive": NETWORK,
    "ours-exhaustive": NETWORK,
    "ours-plain": NETWORK,
    "fc": NETWORK,
    "spatial": NETWORK,
    "second-order": NETWORK,
    **{f"{kind}-{bits}": NETWORK for kind in ("cnnh", "dnnh") for bits in (48, 256)},
}
"""What a row took on two cores and the 1,000 pictures of Corel-1k; OTHERS for all others, whose
network was trained for a row before them. They serve the estimate alone, which corrects itself."""
TRUSTED = 300.0
"""Seconds of work after which the pace of this machine counts as much as SECONDS do."""


@dataclass(frozen=True, eq=False)
class Task:
    """One measurement; what an interruption loses at most.

    Attributes:
        name: for a reader.
        seconds: that it is likely to take.
        done: whether its numbers are known.
        run: works them out and writes them. LookalikeError if they cannot be had; any other error
            stops all.
    """

    name: str
    seconds: float
    done: Callable[[], bool]
    run: Callable[[], None]


@dataclass(frozen=True)
class Progress:
    """Before a task begins.

    Attributes:
        number: from 1, of `total` tasks that were not done.
        name: of the task.
        seconds_left: of this task and all after it.
    """

    number: int
    total: int
    name: str
    seconds_left: float


@dataclass(frozen=True)
class LeftOut:
    """A task that could not be done, by its name, and why."""

    name: str
    reason: str


def seconds_of(row: str, pictures: int) -> float:
    """That a row is likely to take on so many pictures."""
    return SECONDS.get(row, OTHERS) * pictures / 1000


def carry_out(
    tasks: Sequence[Task],
    tell: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
    miss: Callable[[LeftOut], None] = lambda _: None,
) -> list[LeftOut]:
    """Run those that are not done, in their order; nor those that one before them has done, as
    where two parts want the same numbers.

    One that cannot be done is told to `miss` at once, and the others go on; gives all of these.
    """
    waiting = [task for task in tasks if not task.done()]
    began, behind = clock(), 0.0
    whole = sum(task.seconds for task in waiting)
    missed = list[LeftOut]()
    for number, task in enumerate(waiting, 1):
        if not task.done():
            pace = (clock() - began + TRUSTED) / (behind + TRUSTED)
            tell(Progress(number, len(waiting), task.name, pace * (whole - behind)))
            try:
                task.run()
            except LookalikeError as error:
                missed.append(LeftOut(task.name, str(error)))
                miss(missed[-1])
                whole -= task.seconds
                continue
        behind += task.seconds
    return missed
