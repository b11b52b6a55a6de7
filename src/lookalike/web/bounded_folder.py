"""Files that can be made again, in a folder that does not grow without end."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["BoundedFolder"]

TICK = 86_400.0
"""Seconds within which two uses of a file count as one, which is its modification time."""
LEFT = 0.9
"""Share of the limit that pruning leaves, so that it is not needed at every write."""


class BoundedFolder:
    """At most ``limit`` bytes of files; those that were not used longest go first.

    For any number of threads, and several processes: each counts when it begins to write and when
    it prunes, so together they may be above the limit by what the others have written since.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._held: int | None = None
        self._counting = threading.Lock()

    def read(self, name: str) -> bytes | None:
        """The file's content; None if there is none."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            if time.time() - path.stat().st_mtime > TICK:
                os.utime(path)
        except OSError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all; several may write the same. OSError if the disk does not take it."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with self._counting:
            if self._held is not None:
                self._held += len(content)
            if self._held is None or self._held > self._limit:
                self._held = self._prune()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _prune(self) -> int:
        """Delete what is too much; returns the bytes that are left."""
        found = sorted(self._files())
        held = sum(size for _, size, _ in found)
        if held <= self._limit:
            return held
        for _, size, path in found:
            if held <= LEFT * self._limit:
                break
            with suppress(OSError):  # another process was faster, say
                os.unlink(path)
            held -= size
        return held

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """Last use in ns, bytes and path of each; links lead nowhere.

        Without those that somebody writes now, but with what a crash has left of such.
        """
        fresh = 1e9 * (time.time() - TICK)
        with suppress(OSError), os.scandir(self._folder) as parts:
            for part in parts:
                if not part.is_dir(follow_symlinks=False):
                    continue
                with suppress(OSError), os.scandir(part) as entries:
                    for entry in entries:
                        with suppress(OSError):
                            status = entry.stat(follow_symlinks=False)
                            being_written = entry.name[0] == "." and status.st_mtime_ns > fresh
                            if entry.is_file(follow_symlinks=False) and not being_written:
                                yield status.st_mtime_ns, status.st_size, entry.path
