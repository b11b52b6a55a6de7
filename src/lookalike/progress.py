"""How far work is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Files or images that are done, of how many, and how many of them were skipped; ``stage``: of
    work in several steps, what is counted in this one, such as "pairs compared"."""

    done: int
    total: int
    skipped: int = 0
    stage: str = ""


@contextmanager
def progress_bar(what: str = "images") -> Iterator[Callable[[Progress], None]]:
    """A bar with the time that is left, on the terminal (stderr) or in a notebook.

    >>> with progress_bar() as show:
    ...     gallery.update(show)
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(*Bar.get_default_columns(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)

        def show(progress: Progress) -> None:
            name = progress.stage or what
            bar.update(task, description=name, total=progress.total, completed=progress.done)

        yield show
