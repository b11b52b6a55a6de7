"""Walk a folder and tell which files are candidates, without opening any."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lookalike.images import looks_like_image

__all__ = ["GALLERY_FOLDER", "FoundFile", "scan"]

GALLERY_FOLDER = b".lookalike"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A candidate: its path relative to the folder with forward slashes, as the system spells it
    (bytes, since names need not be UTF-8), its size in bytes and its time of change in ns.
    """

    path: bytes
    size: int
    mtime_ns: int


def scan(
    root: bytes, unreadable: Callable[[bytes, OSError], None], *skip: bytes
) -> Iterator[FoundFile]:
    """Yield the image files below ``root`` in a fixed order, judging by name alone.

    Links are followed, after everything else; a folder is entered once, however many links lead to
    it, and those above ``root`` never, so loops end.
    Hidden files and folders, and the folders ``skip``, are passed over. A link to nothing, a pipe
    or a device with an image's name is yielded too, for the reader to say what is wrong with it.

    ``unreadable(path, error)`` is told of every folder that could not be listed.
    """
    entered = _identities(_above(root)) | _identities(skip)
    pending, links = [b""], list[bytes]()
    while pending or links:
        folder = pending.pop() if pending else links.pop(0)
        absolute = os.path.join(root, folder) if folder else root
        try:
            status = os.stat(absolute)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(absolute) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable(folder, error)
            continue
        folders = list[bytes]()
        for entry in listed:
            if entry.name.startswith(b"."):
                continue
            path = folder + b"/" + entry.name if folder else entry.name
            try:
                found = entry.stat()
            except OSError:
                if looks_like_image(entry.name):
                    yield FoundFile(path, -1, -1)
                continue
            if stat.S_ISDIR(found.st_mode):
                (links if entry.is_symlink() else folders).append(path)
            elif looks_like_image(entry.name):
                yield FoundFile(path, found.st_size, found.st_mtime_ns)
        pending.extend(reversed(folders))


def _above(root: bytes) -> Iterator[bytes]:
    folder = os.path.realpath(root)
    while (parent := os.path.dirname(folder)) != folder:
        yield parent
        folder = parent


def _identities(folders: Iterable[bytes]) -> set[tuple[int, int]]:
    """Device and inode of those that exist."""
    found = set[tuple[int, int]]()
    for folder in folders:
        with suppress(OSError):
            status = os.stat(folder)
            found.add((status.st_dev, status.st_ino))
    return found
