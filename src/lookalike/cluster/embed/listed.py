"""Paths as somebody has listed them -> one root, and distinct paths relative to it."""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from lookalike.cluster.job.filesystem import is_uri, local_path
from lookalike.errors import GalleryError

__all__ = ["Once", "common_root", "relative_paths"]


class _Place(NamedTuple):
    """Where a file is: on which file system ("" is this machine's), and its absolute path there."""

    system: str
    path: str


class Once:
    """Tells which keys were there before. They are kept in a file, so that memory does not grow."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)  # a temporary file
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE keys (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def first(self, key: bytes) -> bool:
        """Whether it is the first time that the key is seen."""
        added = self._connection.execute("INSERT OR IGNORE INTO keys VALUES (?)", (key,))
        return added.rowcount == 1

    def close(self) -> None:
        self._connection.close()


def common_root(entries: Iterator[str], file: str) -> str:
    """The folder of the listing ``file`` if all entries are below it; else that of them all.

    Raises:
        GalleryError: the entries are on several file systems, or have no folder in common.
    """
    listing = _place(file, _Place("", "/"))
    folder = _Place(listing.system, posixpath.dirname(listing.path))
    system: str | None = None
    common: str | None = None
    for entry in entries:
        place = _place(entry, folder)
        if system not in (None, place.system):
            raise GalleryError(
                f"{file} lists files of several file systems ({system or 'this machine'} and "
                f"{place.system or 'this machine'}); embed them one by one"
            )
        system, above = place.system, posixpath.dirname(place.path)
        common = above if common is None else posixpath.commonpath([common, above])
    if common is None or system is None:
        raise GalleryError(f"{file} lists no files")
    if system == folder.system and posixpath.commonpath([folder.path, common]) == folder.path:
        common = folder.path
    options = "?" + file.partition("?")[2] if is_uri(file) and "?" in file else ""
    return system + common + (options if system == folder.system else "")


def relative_paths(entries: Iterator[str], file: str, root: str) -> Iterator[str]:
    """Each entry relative to ``root``, of `common_root`; a file listed twice comes once."""
    listing = _place(file, _Place("", "/"))
    folder = _Place(listing.system, posixpath.dirname(listing.path))
    above = _place(root, folder).path.rstrip("/") + "/"
    with closing(Once()) as once:
        for entry in entries:
            path = _place(entry, folder).path.removeprefix(above)
            if once.first(os.fsencode(path)):
                yield path


def _place(entry: str, folder: _Place) -> _Place:
    if is_uri(entry):
        scheme, _, rest = entry.partition("://")
        host, _, path = rest.partition("?")[0].partition("/")
        return _Place(f"{scheme}://{host}", posixpath.normpath(f"/{path}"))
    if entry.startswith("file://"):
        return _Place("", local_path(entry))
    return _Place(folder.system, posixpath.normpath(posixpath.join(folder.path, entry)))
