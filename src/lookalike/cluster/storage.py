"""The files of one folder, on this machine or wherever fsspec reaches, whole at every moment."""

from __future__ import annotations

import io
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.core import url_to_fs

from lookalike.atomic import NO_SPACE, sync
from lookalike.errors import GalleryError, StorageFullError, first_line

TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0
"""Age from which a temporary file is taken for one whose writer was killed."""


def is_uri(text: str) -> bool:
    """Whether it names something on another file system than this machine's."""
    return "://" in text and not text.startswith("file://")


def local_path(text: str) -> str:
    """The absolute path that a path or file:// URI names."""
    return os.path.abspath(unquote(urlsplit(text).path) if text.startswith("file://") else text)


def resolve(where: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URI, and the path on it.

    Raises:
        GalleryError: no package here knows the URI's scheme, or the server is not reached.
    """
    if not is_uri(where):
        return fsspec.filesystem("file"), local_path(where)
    try:
        system, path = url_to_fs(where, use_listings_cache=False)
    except (ImportError, ValueError, OSError) as error:
        raise GalleryError(
            f"cannot open {where}: {first_line(error)}; install the fsspec package for this kind "
            f"of address (s3fs, gcsfs, adlfs), or check its credentials and endpoint"
        ) from error
    return system, path.rstrip("/")


class Storage:
    """A flat folder of files."""

    def __init__(self, where: str) -> None:
        """``where``: a path or URI; need not exist. Raises GalleryError, see `resolve`."""
        self.where = where if is_uri(where) else local_path(where)
        self._system, self._base = resolve(self.where)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def names(self) -> list[str]:
        """Of all but hidden and temporary files, sorted; [] if there is no such folder."""
        self._system.invalidate_cache()
        try:
            listed = self._system.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        found = (path.rstrip("/").rpartition("/")[2] for path in listed)
        return sorted(name for name in found if name and not name.startswith("."))

    def open(self, name: str) -> BinaryIO:
        """A file to read from anywhere. Raises FileNotFoundError."""
        return cast("BinaryIO", self._system.open(self._path(name), "rb"))

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        with self.open(name) as file:
            return file.read()

    def write(self, name: str, content: bytes | IO[bytes]) -> None:
        """Replaces a file of that name. Raises StorageFullError, GalleryError."""
        try:
            self._write(name, content, "overwrite")
        except FileExistsError as error:
            raise GalleryError(f"cannot write {name} in {self.where}: it is a folder") from error

    def create(self, name: str, content: bytes) -> None:
        """Writes a new file: of several writers of one name, one succeeds (see docs/scale.md).

        Raises:
            FileExistsError: there is a file of that name.
            StorageFullError, GalleryError: it cannot be written.
        """
        self._write(name, content, "create")

    def _write(self, name: str, content: bytes | IO[bytes], mode: str) -> None:
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        try:
            if is_uri(self.where):
                self._system.makedirs(self._base, exist_ok=True)
                self._system.pipe_file(self._path(name), source.read(), mode=mode)
            else:
                _write_here(Path(self._base), name, source, mode)
        except FileExistsError:
            raise
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

    def delete(self, name: str) -> None:
        """Nothing happens if there is no such file."""
        with suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def tidy(self) -> None:
        """Delete what writers that were killed have left, an hour ago or more."""
        if is_uri(self.where):  # an object is whole or not there
            return
        limit = time.time() - STALE_SECONDS
        for path in Path(self._base).glob(f".*{TEMPORARY}"):
            with suppress(OSError):  # another process may be tidying
                if path.stat().st_mtime < limit:
                    path.unlink()


def _write_here(folder: Path, name: str, source: IO[bytes], mode: str) -> None:
    """Under a name of its own first: several processes may write the same part at once."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary, final = folder / f".{name}.{uuid.uuid4().hex}{TEMPORARY}", folder / name
    try:
        with temporary.open("wb") as file:
            shutil.copyfileobj(source, file)
        sync(temporary)
        if mode == "create":
            _link(temporary, final)
        else:
            os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)


def _link(temporary: Path, final: Path) -> None:
    """Give the file its name unless the name is taken."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: not safe against a writer in the same moment
        if final.exists():
            raise FileExistsError(os.fspath(final)) from None
        os.replace(temporary, final)
