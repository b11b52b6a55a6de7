"""File systems behind paths and URIs: this machine's, and those that pyarrow or fsspec reach.

This machine's is not left to pyarrow, for which a file's name must be UTF-8.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, cast
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from lookalike.errors import GalleryError

__all__ = [
    "Entry",
    "FarFiles",
    "Files",
    "LocalFiles",
    "first_line",
    "is_uri",
    "local_path",
    "resolve",
]

LEGAL = ":/?&=%@+,;~[]#$!*'()"  # in a URI; a space, say, is escaped
Kind = Literal["folder", "file"] | None


class Entry(NamedTuple):
    """A name in a folder, whether it is itself a folder, and its time of change in seconds."""

    name: str
    is_folder: bool
    mtime: float


class Files(Protocol):
    """What is read of a file system."""

    def kind(self, path: str) -> Kind:
        """None: there is nothing of that name."""

    def entries(self, folder: str) -> list[Entry]:
        """Sorted by name; [] if there is no such folder."""

    def open(self, path: str) -> BinaryIO:
        """To read, from anywhere in the file. Raises FileNotFoundError."""

    def status(self, path: str) -> tuple[int, int]:
        """Size in bytes and time of change in ns; (-1, -1) if there is no such file."""


class LocalFiles:
    """Those of this machine; names that are no UTF-8 have surrogate escapes."""

    def kind(self, path: str) -> Kind:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return None
        return "folder" if stat.S_ISDIR(mode) else "file"

    def entries(self, folder: str) -> list[Entry]:
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        status = entry.stat()
                    except OSError:  # it vanishes, or is a link to nothing
                        continue
                    is_folder = stat.S_ISDIR(status.st_mode)
                    found.append(Entry(entry.name, is_folder, status.st_mtime))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found)

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    def status(self, path: str) -> tuple[int, int]:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return -1, -1
        return found.st_size, found.st_mtime_ns


class FarFiles:
    """Those of a pyarrow file system."""

    def __init__(self, system: Any) -> None:
        self.system = system

    def kind(self, path: str) -> Kind:
        kind = self.system.get_file_info(path or "/").type
        if kind == pyarrow.fs.FileType.NotFound:
            return None
        return "folder" if kind == pyarrow.fs.FileType.Directory else "file"

    def entries(self, folder: str) -> list[Entry]:
        selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
        return sorted(
            Entry(
                info.base_name,
                info.type == pyarrow.fs.FileType.Directory,
                (info.mtime_ns or 0) / 1e9,
            )
            for info in self.system.get_file_info(selector)
            if info.base_name and info.path.strip("/") != folder.strip("/")
        )

    def open(self, path: str) -> BinaryIO:
        file = self.system.open_input_file(path)
        return io.BufferedReader(cast("io.RawIOBase", file))  # with lines

    def status(self, path: str) -> tuple[int, int]:
        info = self.system.get_file_info(path)
        if info.type == pyarrow.fs.FileType.NotFound:
            return -1, -1
        return info.size or 0, info.mtime_ns or 0


def is_uri(text: str) -> bool:
    """Whether it names something on another file system than this machine's."""
    return "://" in text and not text.startswith("file://")


def local_path(text: str) -> str:
    """The absolute path that a path or file:// URI names."""
    return os.path.abspath(unquote(urlsplit(text).path) if text.startswith("file://") else text)


def resolve(where: str) -> tuple[Files, str]:
    """The file system of a path or URI, and the path on it.

    Raises:
        GalleryError: no package here knows the URI's scheme, or the server is not reached.
    """
    if not is_uri(where):
        return LocalFiles(), local_path(where)
    try:
        system, path = pyarrow.fs.FileSystem.from_uri(quote(where, safe=LEGAL))
        return FarFiles(system), path.rstrip("/")
    except (pa.ArrowInvalid, OSError) as error:
        reason = error
    try:
        import fsspec

        found, path = fsspec.core.url_to_fs(where)
        handler = pyarrow.fs.FSSpecHandler(found)
        return FarFiles(pyarrow.fs.PyFileSystem(handler)), path.rstrip("/")
    except (ImportError, ValueError, OSError) as error:
        why = error if isinstance(reason, pa.ArrowInvalid) else reason
        raise GalleryError(
            f"cannot open {where}: {first_line(why)}; install the fsspec package for this kind of "
            f"address, or check its credentials and endpoint"
        ) from error


def first_line(error: BaseException) -> str:
    """Of its message; those of pyarrow have many."""
    return str(error).partition("\n")[0]
