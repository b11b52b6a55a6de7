"""A folder of files on any file system, each of them whole at every moment."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lookalike.cluster.job.filesystem import FarFiles, first_line, is_uri, local_path, resolve
from lookalike.errors import GalleryError, StorageFullError
from lookalike.gallery.places import NO_SPACE

__all__ = ["Folder"]

TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0
"""Age from which a temporary file is taken for one whose writer was killed."""


class Folder:
    """The files of one folder, flat. Each is written whole or not at all."""

    def __init__(self, where: str) -> None:
        """``where``: a path or URI; need not exist. Raises GalleryError, see `resolve`."""
        self.where = where if is_uri(where) else local_path(where)
        self._files, self._base = resolve(where)

    def names(self) -> list[str]:
        """Of all but hidden and temporary files, sorted; [] if there is no such folder."""
        return [
            entry.name
            for entry in self._files.entries(self._base)
            if not entry.name.startswith(".")
        ]

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        """A file to read from anywhere. Raises FileNotFoundError."""
        return self._files.open(f"{self._base}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write: under a temporary name of its own, renamed when the block ends well.

        Raises:
            StorageFullError, GalleryError: the disk is full, or writing is refused.
        """
        temporary = f".{name}.{uuid.uuid4().hex}{TEMPORARY}"
        try:
            if isinstance(self._files, FarFiles):
                writing = _writing_far(self._files.system, self._base, temporary, name)
            else:
                writing = _writing_here(Path(self._base), temporary, name)
            with writing as file:
                yield file
        except OSError as error:
            if error.errno in NO_SPACE:
                raise StorageFullError(
                    f"the disk of {self.where} is full; free some space and run the command again, "
                    f"whole parts are kept"
                ) from error
            raise GalleryError(
                f"cannot write {name} in {self.where} ({first_line(error)}); check the folder's "
                f"permissions, or choose another"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Raises StorageFullError, GalleryError."""
        with self.writing(name) as file:
            file.write(content)

    def delete(self, name: str) -> None:
        """Raises FileNotFoundError."""
        if isinstance(self._files, FarFiles):
            self._files.system.delete_file(f"{self._base}/{name}")
        else:
            os.unlink(f"{self._base}/{name}")

    def tidy(self) -> None:
        """Delete what writers that were killed have left, an hour ago or more."""
        limit = time.time() - STALE_SECONDS
        for name, _, mtime in self._files.entries(self._base):
            if name.startswith(".") and name.endswith(TEMPORARY) and mtime < limit:
                with suppress(OSError):  # another process may be tidying
                    self.delete(name)


@contextmanager
def _writing_here(folder: Path, temporary: str, name: str) -> Iterator[BinaryIO]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / temporary).open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / temporary, folder / name)
    except BaseException:
        (folder / temporary).unlink(missing_ok=True)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writing_far(system: Any, folder: str, temporary: str, name: str) -> Iterator[BinaryIO]:
    system.create_dir(folder, recursive=True)
    path = f"{folder}/{temporary}"
    try:
        with system.open_output_stream(path) as file:
            yield file
        system.move(path, f"{folder}/{name}")
    except BaseException:
        with suppress(OSError):
            system.delete_file(path)
        raise
