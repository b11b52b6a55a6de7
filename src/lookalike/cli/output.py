"""What several commands print, and how."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lookalike.gallery import Progress

__all__ = [
    "FAILED",
    "FOUND_NOTHING",
    "INTERRUPTED",
    "duration",
    "number",
    "print_json",
    "progress_shown",
    "say",
    "shown",
    "visible",
]

FOUND_NOTHING = 1
FAILED = 2
INTERRUPTED = 130
SECONDS_BETWEEN_LINES = 5.0


def say(text: str) -> None:
    """A line, or several, to stderr; control characters of file names as escapes."""
    click.echo("\n".join(visible(line) for line in text.split("\n")), err=True)


def number(count: int, noun: str) -> str:
    """A count with its noun: "1 image", "2 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """As minutes and seconds, from an hour on with hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_json(value: Any) -> None:
    """To stdout. Bytes of a file name that are no UTF-8 become lone surrogates, as in Python."""
    click.echo(json.dumps(value, indent=2))


def visible(name: str) -> str:
    """A file name on one line: control characters as escapes."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in name
    )


def shown(file: Path) -> str:
    """A path that can be opened from the current folder, as short as it goes, on one line."""
    here = Path.cwd()
    return visible(os.fspath(file.relative_to(here) if file.is_relative_to(here) else file))


@contextmanager
def progress_shown() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        speed = TextColumn("{task.fields[rate]}"), TimeRemainingColumn()
        with Bar(*columns, *speed, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("images", total=None, rate="")
            began = time.monotonic()

            def show(progress: Progress) -> None:
                rate = f"{progress.done / max(1e-9, time.monotonic() - began):.0f}/s"
                bar.update(task, total=progress.total, completed=progress.done, rate=rate)

            yield show
        return
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{progress.done} of {progress.total} read, {progress.skipped} skipped")

    yield tell
