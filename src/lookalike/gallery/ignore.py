"""Which files an update leaves out: patterns as in a .gitignore file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.atomic import atomic_writer, read_regular
from lookalike.errors import GalleryError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE = ".lookalikeignore"
"""In any folder of images, for what is below it."""
EXCLUDE = "exclude"
"""Beside the table: what `Gallery.exclude` was given."""
LARGEST = 1 << 20


@dataclass(frozen=True)
class Rules:
    """Of the folders around a file, the nearest first: each folder and its patterns."""

    levels: tuple[tuple[bytes, GitIgnoreSpec], ...] = ()

    def ignore(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether a path below all of these folders is left out; the nearest that knows decides."""
        for folder, spec in self.levels:
            inside = os.fsdecode(path[len(folder) + 1 :] if folder else path)
            found = spec.check_file(inside + "/" if is_folder else inside).include
            if found is not None:
                return found
        return False

    def within(self, folder: bytes, file: Path) -> Rules:
        """These and those of a file that is in ``folder``; raises as `read_rules`."""
        return Rules(((folder, _parsed(_lines(file), os.fspath(file))), *self.levels))


def read_rules(directory: Path) -> Rules:
    """Those of a gallery's own file, if there is one.

    Raises:
        GalleryError: it cannot be read, or a pattern is invalid.
    """
    file = directory / EXCLUDE
    return Rules().within(b"", file) if os.path.lexists(file) else Rules()


def patterns_of(directory: Path) -> list[str]:
    """Lines of a gallery's own file; [] without one. GalleryError if it cannot be read."""
    file = directory / EXCLUDE
    return _lines(file) if os.path.lexists(file) else []


def _lines(file: Path) -> list[str]:
    try:
        return read_regular(file, LARGEST).decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise GalleryError(
            f"cannot read {file}: {error.strerror}; make it readable, or delete it"
        ) from error


def _parsed(lines: Iterable[str], name: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise GalleryError(f"{name}: {error}; patterns are as in a .gitignore file") from error


def add_patterns(directory: Path, patterns: Iterable[str]) -> None:
    """Append to the gallery's own file what it does not hold yet.

    Raises:
        GalleryError: as `read_rules`.
    """
    file = directory / EXCLUDE
    patterns = list(patterns)
    _parsed(patterns, "--exclude")
    if any("\n" in pattern or not pattern.strip() for pattern in patterns):
        raise GalleryError("an excluded pattern must be one line of text, for instance '*.png'")
    known = patterns_of(directory)
    _parsed(known, os.fspath(file))
    lines = [*known, *dict.fromkeys(pattern for pattern in patterns if pattern not in known)]
    with atomic_writer(file) as out:
        out.write("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
