"""The log of what was done with duplicates, and how it is undone.

An entry is on the disk before its file is touched. So the log may name files that were never
touched, since the process ended before, but none is touched that it does not name.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from lookalike.atomic import open_regular, read_regular
from lookalike.errors import GalleryError, ReadOnlyError
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.moves import (
    RefusedError,
    explain,
    forget_part,
    move,
    require_whole,
    restore,
    separate,
)
from lookalike.gallery.places import LOCK, UNDO
from lookalike.gallery.rows import is_path

LARGEST_LOG = 1 << 30
TRASH_REMEDY = "restore it from the trash by hand"
WORD = re.compile("[0-9a-f]{16}")


class Action(StrEnum):
    """What is done with a file that could go."""

    MOVE = "move"
    TRASH = "trash"
    HARDLINK = "hardlink"
    REFLINK = "reflink"
    DELETE = "delete"


@dataclass(frozen=True)
class Done:
    """What became of a file; ``problem``: why nothing did."""

    file: Path
    to: Path | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Entry:
    """What is about to be done with one file.

    Attributes:
        batch: of the call that does it; 16 hexadecimal digits.
        path: of the file, relative to the gallery's folder.
        digest: of its content.
        token: in the names of its temporary files; 16 hexadecimal digits.
        to: where it is moved, absolute.
    """

    batch: str
    action: Action
    path: bytes
    digest: bytes
    token: str
    to: bytes | None
    inode: int
    mode: int
    mtime_ns: int

    @property
    def target(self) -> Path | None:
        return None if self.to is None else Path(os.fsdecode(self.to))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Raises ValueError, KeyError or TypeError if it is not what `as_dict` gives."""
        path, digest = bytes.fromhex(values["path"]), bytes.fromhex(values["digest"])
        to = None if values["to"] is None else bytes.fromhex(values["to"])
        words, numbers = (
            [values[name] for name in names]
            for names in (("batch", "token"), ("inode", "mode", "mtime_ns"))
        )
        good = (
            is_path(path)
            and all(WORD.fullmatch(word) for word in words)
            and all(type(number) is int and abs(number) < 1 << 63 for number in numbers)
            and (to is None or (to.startswith(b"/") and b"\0" not in to))
            and (to is None) == (values["action"] != Action.MOVE)
        )
        if not good:
            raise ValueError("it is not an entry")
        action = Action(values["action"])
        return cls(words[0], action, path, digest, words[1], to, *numbers)


class Log:
    """Lines of JSON that are on the disk when they are added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        size = os.fstat(self._descriptor).st_size
        # Of a process that was killed, the last line may lack its end.
        is_torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        self._before = b"\n" if is_torn else b""

    def close(self) -> None:
        os.close(self._descriptor)

    def add(self, values: dict[str, Any]) -> None:
        """Raises RefusedError if it cannot be written; the log is what it was."""
        line = self._before + json.dumps(values).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise RefusedError(
                f"{self._path} cannot be written ({error.strerror}), and nothing is done that "
                f"could not be undone"
            ) from error
        self._before = b""


@contextmanager
def open_log(directory: Path) -> Iterator[Log]:
    """Hold the gallery's lock, with the log open.

    Raises:
        GalleryLockedError: another process writes to the gallery.
        ReadOnlyError: the log cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(writer_lock(directory / LOCK))
            log = Log(directory / UNDO)
        except OSError as error:
            raise ReadOnlyError(
                f"cannot write {directory / UNDO} ({error.strerror}), and nothing is done that "
                f"could not be undone"
            ) from error
        stack.callback(log.close)
        yield log


class _History(NamedTuple):
    """What a log says: its entries, and the batches whose undoing is over or has begun."""

    entries: list[Entry]
    undone: set[str]
    tried: set[str]


def _read(path: Path) -> _History:
    """What is damaged is left out."""
    found = _History([], set(), set())
    try:
        content = read_regular(path, LARGEST_LOG)
    except OSError as error:
        raise GalleryError(f"cannot read {path} ({error.strerror})") from error
    for line in content.splitlines():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            values = json.loads(line)
            if "undone" in values:
                found.undone.add(values["undone"])
            elif "tried" in values:
                found.tried.add(values["tried"])
            else:
                found.entries.append(Entry.from_dict(values))
    return found


def forget_parts(directory: Path, root: Path) -> None:
    """Unlink what a process that was killed has left beside the last file that the log names."""
    for entry in _read(directory / UNDO).entries[-1:]:
        for path in (root / os.fsdecode(entry.path), entry.target):
            if path is not None:
                forget_part(path, entry.token)


def undo(directory: Path, root: Path) -> tuple[Action | None, list[Done]]:
    """Undo what the last call of `act` that was not undone yet did; the last file first.

    A file is put back only where there is none now, and if it holds what it held. The next call
    tries those that could not be put back again, perhaps from a disk that is mounted then; a call
    that tries in vain is the last for them.

    Args:
        directory: of the gallery, which keeps the log.
        root: the gallery's folder, which may have been moved since.

    Returns what it was, None if there is nothing to undo, and what became of each file that was not
    in its place.
    """
    with open_log(directory) as log:
        history = _read(directory / UNDO)
        batches = [each.batch for each in history.entries if each.batch not in history.undone]
        if not batches:
            return None, []
        last = [entry for entry in history.entries if entry.batch == batches[-1]]
        found, is_over, action = list[Done](), batches[-1] in history.tried, last[0].action
        for entry in reversed(last):
            path = root / os.fsdecode(entry.path)
            try:
                is_back = _undo_one(entry, path)
                is_over = is_over and not is_back
                if is_back or action is Action.REFLINK:
                    found.append(Done(path, path))
            except (RefusedError, OSError) as error:
                found.append(Done(path, problem=explain(error)))
        is_over = is_over or action is Action.DELETE or not any(done.problem for done in found)
        with suppress(RefusedError):  # then the next call finds all in its place
            log.add({"undone" if is_over else "tried": batches[-1]})
    return action, found


def _undo_one(entry: Entry, path: Path) -> bool:
    """Whether the file was not as it had been, and is so now. Raises RefusedError and OSError."""
    forget_part(path, entry.token)
    if entry.action in (Action.HARDLINK, Action.REFLINK):
        require_whole(path, entry.digest)
        status = path.lstat()
        is_linked = status.st_nlink > 1 and status.st_ino != entry.inode
        if is_linked:
            separate(path, entry.digest, entry.token)
        restore(path, entry.mode, entry.mtime_ns)
        return is_linked
    to = entry.target
    if to is not None:
        forget_part(to, entry.token)
    if os.path.lexists(path):
        try:
            require_whole(path, entry.digest)  # it was never touched, or is back
        except RefusedError as error:
            where = "" if to is None else f"; it is at {to}"
            raise RefusedError(f"another file is in its place{where}") from error
        if to is not None:
            _forget_name(to, path)
        elif entry.action is Action.TRASH:
            with suppress(RefusedError):
                source, note = _in_trash(path, entry)
                if _forget_name(source, path):
                    note.unlink()
        restore(path, entry.mode, entry.mtime_ns)
        return False
    if to is not None:
        _put_back(to, path, entry)
    elif entry.action is Action.DELETE:
        raise RefusedError("it was deleted for good")
    else:
        source, note = _in_trash(path, entry)
        _put_back(source, path, entry)
        note.unlink(missing_ok=True)
    return True


def _put_back(source: Path, path: Path, entry: Entry) -> None:
    try:
        require_whole(source, entry.digest)
    except RefusedError as error:
        raise RefusedError(f"{source}: {error}") from error
    move(source, path, entry.digest, entry.token)
    restore(path, entry.mode, entry.mtime_ns)


def _forget_name(other: Path, path: Path) -> bool:
    """Unlink the second name of a file, where a process was killed after it gave it one and before
    it took the first away. A copy on another disk is left: too many is better than none."""
    with suppress(OSError):
        is_other_name = os.path.realpath(other) != os.path.realpath(path)
        is_link = stat.S_ISLNK(other.lstat().st_mode)
        if is_other_name and not is_link and other.samefile(path) and path.lstat().st_nlink > 1:
            other.unlink()
            return True
    return False


def trash_folder() -> Path:
    """The user's trash, by the freedesktop.org specification."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "Trash"


def _in_trash(path: Path, entry: Entry) -> tuple[Path, Path]:
    """Where a file lies in a trash of Linux, and the note on it; of the gallery's folder, which may
    have been moved since, the path of the note says nothing."""
    from urllib.parse import unquote

    if sys.platform in ("darwin", "win32"):
        raise RefusedError(TRASH_REMEDY)
    for trash, top in _trashes(path):
        for note in sorted((trash / "info").glob("*.trashinfo")):
            with suppress(OSError, RefusedError, StopIteration):
                lines = note.read_text(errors="surrogateescape").splitlines()
                value = next(line[5:] for line in lines if line.startswith("Path="))
                named = top / unquote(value, errors="surrogateescape")
                if os.fsencode(os.path.abspath(named)).endswith(b"/" + entry.path):
                    source = trash / "files" / note.stem
                    require_whole(source, entry.digest)
                    return source, note
    raise RefusedError(f"it was not found in the trash; {TRASH_REMEDY}")


def _trashes(path: Path) -> Iterator[tuple[Path, Path]]:
    """Those that the file may lie in, each with the folder that its paths are relative to."""
    trash = trash_folder()
    yield trash, trash.parent
    if not hasattr(os, "getuid"):
        return
    for top in path.parents:
        for name in (f".Trash/{os.getuid()}", f".Trash-{os.getuid()}"):
            if (top / name).is_dir():
                yield top / name, top
