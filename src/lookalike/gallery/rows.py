"""One row of the table of images: what is known of a file, with a checksum."""

from __future__ import annotations

import calendar
import os
import time
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from lookalike.gallery.entries import LARGEST_ID

FIRST_FIELDS = 11
"""Fields of an `ImageRow` in version 1; in the table, the checksum follows them."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One file: indexed under ``id`` (then ``skipped`` is None), or skipped and why.

    ``path`` is relative to the gallery's folder, with forward slashes, as stored by the file
    system. ``hash`` is the BLAKE2b-128 of the file's content. ``inode`` and ``ctime_ns`` are those
    of the file when it was read, None if not known. ``note`` says what the embedding leaves out of
    the file, for instance all frames but the first; None: nothing. ``phash`` is the perceptual hash
    of what the embedding shows, 64 bits as a signed integer; None: not known yet. ``taken`` is when
    the photograph was, by the camera's own clock, in seconds as if that were UTC; 0: the file does
    not say; None: not known yet.
    """

    id: int
    path: bytes
    size: int
    mtime_ns: int
    hash: bytes | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    skipped: str | None = None
    detail: str | None = None
    remedy: str | None = None
    inode: int | None = None
    ctime_ns: int | None = None
    note: str | None = None
    phash: int | None = None
    taken: int | None = None

    @property
    def date(self) -> int:
        """When it was taken, or else last changed: seconds of the local clock, as if of UTC."""
        if self.taken:
            return self.taken
        changed = self.mtime_ns // 10**9
        try:
            return calendar.timegm(time.localtime(changed))
        except (ValueError, OverflowError, OSError):  # years that no clock shows
            return changed

    @property
    def checksum(self) -> int:
        values = _values(self)
        count = len(values)  # later fields count once set: rows of version 1 keep their checksum
        while count > FIRST_FIELDS and values[count - 1] is None:
            count -= 1
        return zlib.crc32(repr(values[:count]).encode())

    def facts(self) -> dict[str, Any]:
        """Of an indexed image: its id, path as text, sides in pixels, and format."""
        return {
            "id": self.id,
            "path": os.fsdecode(self.path),
            "width": self.width or 0,
            "height": self.height or 0,
            "format": self.format or "",
        }

    def fits(self, status: os.stat_result, *, strict: bool = False) -> bool:
        """Whether a file has the size and time with which it was indexed.

        Args:
            status: of the file.
            strict: also inode and change time, where they are known. They also differ when a file
                was renamed or copied, or its permissions or links changed.
        """
        state = file_state(status)
        same = (state.size, state.mtime_ns) == (self.size, self.mtime_ns)
        if same and strict:
            pairs = (self.inode, state.inode), (self.ctime_ns, state.ctime_ns)
            return all(None in pair or pair[0] == pair[1] for pair in pairs)
        return same


class FileState(NamedTuple):
    """What the file system says of a file, as the columns of the table can hold it."""

    size: int
    mtime_ns: int
    inode: int | None
    ctime_ns: int


def file_state(status: os.stat_result) -> FileState:
    """Times beyond 64 bits of ns, before 1677 or after 2262, become the last that fit; an inode
    number above 63 bits becomes negative; inode 0, which some mounts give to all files, None.
    """
    inode = (status.st_ino + (1 << 63)) % (1 << 64) - (1 << 63)
    size, mtime_ns, ctime_ns = (
        max(-(1 << 63), min(value, (1 << 63) - 1))
        for value in (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )
    return FileState(size, mtime_ns, inode or None, ctime_ns)


def file_identity(path: Path) -> Hashable:
    """What two paths to one file have in common. Raises OSError.

    Some file systems number all files alike: a number that is 0, or that of the file's own folder,
    says nothing, and the path without links stands for the file.
    """
    status, folder = path.stat(), path.resolve().parent.stat()
    number = status.st_dev, status.st_ino
    if status.st_ino == 0 or number == (folder.st_dev, folder.st_ino):
        return path.resolve()
    return number


ORDERS: dict[str, Callable[[ImageRow], Any]] = {
    "path": lambda row: row.path,
    "newest": lambda row: (-row.date, -row.mtime_ns, row.path),
    "oldest": lambda row: (row.date, row.mtime_ns, row.path),
    "largest": lambda row: (-row.size, row.path),
}
"""What images may be listed by, as keys to sort their rows by."""

_values = attrgetter(*(field.name for field in fields(ImageRow)))  # astuple copies deeply


def columns(row: ImageRow) -> tuple[Any, ...]:
    """Its values in the table."""
    values = _values(row)
    return (*values[:FIRST_FIELDS], row.checksum, *values[FIRST_FIELDS:])


def checked_row(values: Sequence[Any]) -> ImageRow:
    """The row of these columns of the table, of any version.

    Raises:
        ValueError: it does not match its checksum, or holds what no row can have: SQLite keeps any
            type in any column, and who forges a row can forge its checksum.
    """
    row = ImageRow(*values[:FIRST_FIELDS], *values[FIRST_FIELDS + 1 :])
    if row.checksum != values[FIRST_FIELDS]:
        raise ValueError("does not match its checksum")
    check_row(row)
    return row


def check_row(row: ImageRow) -> None:
    """Raises ValueError unless the row's values have the right types, ranges and kind of path."""
    for name, is_good in _FIELDS.items():
        value = getattr(row, name)
        if not is_good(value):
            raise ValueError(f"has the {name} {value!r:.80}")


def is_path(value: object) -> bool:
    """Whether these are the bytes of a path that stays below the folder it is relative to."""
    return type(value) is bytes and b"\0" not in value and _OUTSIDE.isdisjoint(value.split(b"/"))


_OUTSIDE = frozenset([b"", b".", b".."])


def _is_hash(value: object) -> bool:
    return value is None or (type(value) is bytes and len(value) == 16)


def _is_text(value: object) -> bool:
    return value is None or type(value) is str


def _integer(low: int, stop: int, *, optional: bool = False) -> Callable[[object], bool]:
    """Whether a value is an integer from ``low`` to below ``stop``, or None where it may be."""
    return lambda value: (
        (optional and value is None) or (type(value) is int and low <= value < stop)
    )


is_id = _integer(1, LARGEST_ID)
_FIELDS: dict[str, Callable[[object], bool]] = {
    "id": is_id,
    "path": is_path,
    "size": _integer(-1, 1 << 63),
    "mtime_ns": _integer(-(1 << 63), 1 << 63),
    "hash": _is_hash,
    "width": _integer(0, 1 << 31, optional=True),
    "height": _integer(0, 1 << 31, optional=True),
    "format": _is_text,
    "skipped": _is_text,
    "detail": _is_text,
    "remedy": _is_text,
    "inode": _integer(-(1 << 63), 1 << 63, optional=True),
    "ctime_ns": _integer(-(1 << 63), 1 << 63, optional=True),
    "note": _is_text,
    "phash": _integer(-(1 << 63), 1 << 63, optional=True),
    "taken": _integer(-(1 << 40), 1 << 40, optional=True),
}
