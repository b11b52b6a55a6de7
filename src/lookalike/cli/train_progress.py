"""How a training is going, to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lookalike.cli.output import SECONDS_BETWEEN_LINES, duration, say

if TYPE_CHECKING:
    from lookalike.models.report import Progress

__all__ = ["training_shown"]


@contextmanager
def training_shown() -> Iterator[Callable[[Progress], None]]:
    """A line for each epoch; in between a bar on a terminal, elsewhere a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        console = Console(stderr=True)
        speed_column = TextColumn("{task.fields[speed]}")
        with Bar(*columns, speed_column, console=console, transient=True) as bar:
            task = bar.add_task("", total=None, speed="")

            def show(progress: Progress) -> None:
                if progress.stage == "epoch":
                    console.print(
                        epoch_line(progress), markup=False, highlight=False, soft_wrap=True
                    )
                    return
                bar.update(
                    task,
                    description=what(progress),
                    total=progress.total,
                    completed=progress.done,
                    speed=speed(progress),
                )

            yield show
        return
    last = time.monotonic()

    def show_line(progress: Progress) -> None:
        nonlocal last
        if progress.stage == "epoch":
            say(epoch_line(progress))
        elif time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{what(progress)}: {progress.done} of {progress.total}, {speed(progress)}")

    yield show_line


def what(progress: Progress) -> str:
    """The stage in words."""
    if progress.stage == "training":
        return f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}"
    return {"reading": "reading pictures", "features": "running frozen stages"}[progress.stage]


def speed(progress: Progress) -> str:
    """Rate, and the time that is left of the whole training as far as it is known."""
    rate = f"{progress.images_per_second or 0:.0f} images/s"
    if progress.seconds_left is None:
        return rate
    return f"{rate}, {duration(progress.seconds_left)} left"


def epoch_line(progress: Progress) -> str:
    """What was measured after an epoch."""
    scores = progress.scores
    assert scores is not None
    name = f"epoch {scores.epoch} of {progress.epochs}" if scores.epoch else "before training"
    parts = [
        f"{label} {value:.3f}"
        for label, value in (
            ("loss", scores.loss),
            ("held out: loss", scores.validation_loss),
            ("P@10", scores.precision_10),
            ("mAP", scores.mean_average_precision),
            ("mAP with LSH", scores.lsh_mean_average_precision),
        )
        if value is not None
    ]
    line = f"{name}: {', '.join(parts) or 'nothing held out to measure'}"
    return line if progress.note is None else f"{line}\n{progress.note}"
