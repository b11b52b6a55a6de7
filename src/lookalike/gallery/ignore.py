"""Which files an update leaves out: patterns as in a .gitignore file."""

from __future__ import annotations

import os
import re
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
            for pattern in reversed(spec.patterns):
                if pattern.regex is not None and _is_about(pattern.regex, inside, is_folder):
                    return bool(pattern.include)
        return False

    def within(self, folder: bytes, file: Path) -> Rules:
        """These and those of a file that is in ``folder``; raises as `read_rules`."""
        return Rules(((folder, _parsed(_lines(file), os.fspath(file))), *self.levels))


def _is_about(regex: re.Pattern[str], path: str, is_folder: bool) -> bool:
    """Whether a pattern fits a path itself, as Git has it: of a folder, the package's also fits all
    that is below, and ``a/**`` the folder ``a/``. It marks the slash behind a folder."""
    if (found := regex.search(path)) and found.groupdict().get("ps_d") is None:
        return True
    marked = is_folder and "ps_d" in regex.groupindex
    return marked and any(m.end("ps_d") > len(path) for m in regex.finditer(path + "/"))


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
