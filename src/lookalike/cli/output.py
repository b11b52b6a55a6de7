"""What several commands print, and how."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from lookalike.errors import LookalikeError

FOUND_NOTHING = 1
FAILED = 2
INTERRUPTED = 130
STDOUT = "standard output"
NO_FOLDER = (
    "the current folder no longer exists; change to another one with cd, or give absolute paths of "
    "everything, --gallery included"
)


def prepare_streams() -> None:
    """Make standard streams what commands expect.

    Those that the caller has closed become /dev/null. Otherwise the next files that are opened,
    those of a gallery perhaps, would take their numbers, and receive what native libraries print.
    Names of files need not be UTF-8: they are printed as the bytes that they are. A failure to
    write to stdout names it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        sys.stdout = _Output(
            io.BufferedWriter(io.FileIO(sys.stdout.fileno(), "w", closefd=False)),
            sys.stdout.encoding,
            "surrogateescape",
            line_buffering=sys.stdout.line_buffering,
        )


class _Output(io.TextIOWrapper):
    """Not the file below: interrupted there, a line that was written would be written again."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = STDOUT
        raise


def discard(stream: TextIO) -> None:
    """What is still to be written to it, and all that comes later."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say(text: str) -> None:
    """A line, or several, to stderr; control characters of file names as escapes.

    Messages that nothing can take end no work; the exit status remains.
    """
    try:
        click.echo("\n".join(visible(line) for line in text.split("\n")), err=True)
    except OSError:
        discard(sys.stderr)


def leave(text: str = "") -> NoReturn:
    """End the command with status 1, after saying why if it is not clear."""
    if text:
        say(text)
    raise click.exceptions.Exit(FOUND_NOTHING)


def number(count: int, noun: str) -> str:
    """A count with its noun: "1 image", "2 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """As minutes and seconds, from an hour on with hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_json(value: Any) -> None:
    """To stdout, of a dataclass its fields. Bytes of a file name that are not UTF-8 become lone
    surrogates, as in Python."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def print_lines(lines: Mapping[str, str]) -> None:
    """Names and what they are, in two columns, to stdout."""
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:{width}}  {text}")


def _plain(value: Any) -> Any:
    """What JSON has for a dataclass, a path, or the bytes of one."""
    return vars(value) if is_dataclass(value) else os.fsdecode(value)


def visible(name: str) -> str:
    """A file name on one line: control characters as escapes."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in name
    )


def current_folder() -> Path | None:
    """None if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def require_current_folder() -> None:
    """For commands with PyTorch, whose MKL ends the process without one.

    Raises:
        LookalikeError: it has been deleted.
    """
    if current_folder() is None:
        raise LookalikeError(NO_FOLDER)


def shown(file: Path) -> str:
    """A path that can be opened from the current folder, as short as it goes, on one line."""
    here = current_folder()
    if here is not None and file.is_relative_to(here):
        file = file.relative_to(here)
    return visible(os.fspath(file))
