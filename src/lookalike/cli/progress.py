"""How far work is, to stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lookalike.cli.output import duration, say
from lookalike.progress import Progress

if TYPE_CHECKING:
    from lookalike.models.report import TrainProgress

SECONDS_BETWEEN_LINES = 5.0
Some = TypeVar("Some", bound=Progress)


@contextmanager
def _shown(
    what: Callable[[Some], str],
    speed: Callable[[Some], str],
    line: Callable[[Some], str],
    note: Callable[[Some], str | None] = lambda _: None,
) -> Iterator[Callable[[Some], None]]:
    """Args: of the bar, what is done and how fast; a line instead; and a line for its own sake."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        console = Console(stderr=True)
        speed_column = TextColumn("{task.fields[speed]}")
        with Bar(*columns, speed_column, console=console, transient=True) as bar:
            task = bar.add_task("", total=None, speed="")

            def show(progress: Some) -> None:
                if (text := note(progress)) is not None:
                    console.print(text, markup=False, highlight=False, soft_wrap=True)
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

    def show_line(progress: Some) -> None:
        nonlocal last
        if (text := note(progress)) is not None:
            say(text)
        elif time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(line(progress))

    yield show_line


@contextmanager
def progress_shown(
    unit: str = "images", verb: str = "read"
) -> Iterator[Callable[[Progress], None]]:
    """With the time that is left."""
    first: tuple[str, float, int] | None = None

    def speed(progress: Progress) -> str:
        nonlocal first
        now = time.monotonic()
        # From the first report on: starting processes and opening the model takes its own time.
        if first is None or first[0] != progress.stage:
            first = progress.stage, now, progress.done
        _, began, at_first = first
        rate = (progress.done - at_first) / max(1e-9, now - began)
        if not rate:
            return ""
        return f"{rate:.1f}/s, about {duration((progress.total - progress.done) / rate)} left"

    def line(progress: Progress) -> str:
        done = f"{progress.done:,} of {progress.total:,} {progress.stage or verb}"
        skipped = f"{progress.skipped:,} skipped" if unit == "images" and not progress.stage else ""
        return ", ".join(filter(None, [done, skipped, speed(progress)]))

    with _shown(lambda progress: progress.stage or unit, speed, line) as show:

        def noted(progress: Progress) -> None:
            if first is None or first[0] != progress.stage:
                speed(progress)
            show(progress)

        yield noted


@contextmanager
def download_shown() -> Iterator[Callable[[int, int], None]]:
    """Takes the bytes that have arrived, and all."""
    with progress_shown("MB", "MB downloaded") as show:
        yield lambda done, total: show(Progress(done // 1_000_000, math.ceil(total / 1e6)))


@contextmanager
def training_shown() -> Iterator[Callable[[TrainProgress], None]]:
    """A line for each epoch, and what is going on in between."""
    with _shown(_stage, _rate, _training_line, _epoch_line) as show:
        yield show


def _stage(progress: TrainProgress) -> str:
    if progress.stage == "training":
        return f"epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f}"
    return {"reading": "reading images", "features": "running frozen stages"}[progress.stage]


def _rate(progress: TrainProgress) -> str:
    """And the time that is left of the whole training, as far as it is known."""
    rate = f"{progress.images_per_second or 0:.0f} images/s"
    if progress.seconds_left is None:
        return rate
    return f"{rate}, {duration(progress.seconds_left)} left"


def _training_line(progress: TrainProgress) -> str:
    return f"{_stage(progress)}: {progress.done} of {progress.total}, {_rate(progress)}"


def _epoch_line(progress: TrainProgress) -> str | None:
    """What was measured after an epoch, if one has ended."""
    if progress.stage != "epoch":
        return None
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
