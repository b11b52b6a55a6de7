"""Move, trash, link or delete duplicates; never the last whole copy, and with a log to undo it.

Before each file is touched it is read again, and so is one that is kept: both must hold what was
indexed, and be two files. What is about to be done is in the log before it is done.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lookalike.atomic import IrregularFileError, read_regular
from lookalike.errors import GalleryError
from lookalike.gallery.keep import Kind
from lookalike.gallery.places import UNDO, is_within
from lookalike.gallery.report import Progress

__all__ = ["Action", "Done", "Removal", "act", "check_target", "trash_folder", "undo"]

LARGEST_LOG = 1 << 30
TRASH_REMEDY = "restore it from the trash by hand"


class Action(StrEnum):
    """What is done with a file that could go."""

    MOVE = "move"
    TRASH = "trash"
    HARDLINK = "hardlink"
    DELETE = "delete"


@dataclass(frozen=True)
class Removal:
    """A file that could go, and those that are kept for it: each with the hash of its content."""

    file: Path
    digest: bytes
    kept: tuple[tuple[Path, bytes], ...]
    kind: Kind | None = None
    size: int = 0


@dataclass(frozen=True)
class Done:
    """What became of a file; ``problem``: why nothing did."""

    file: Path
    to: Path | None = None
    problem: str | None = None


class _RefusedError(Exception):
    """Why a file is left alone."""


def act(
    removals: Sequence[Removal],
    action: Action,
    directory: Path,
    root: Path,
    *,
    target: Path | None = None,
    reference: bytes | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Done]:
    """Do it, file by file; what is refused or fails is left as it is, and the rest goes on.

    Args:
        directory: of the gallery, which keeps the log.
        root: the gallery's folder.
        target: the folder for Action.MOVE, outside ``root``; made if it is missing.
        reference: a folder of the gallery, as rows have it, whose files are never touched.

    Raises:
        GalleryError: ``target`` is missing or inside ``root``, or the log cannot be written.
    """
    if action is Action.MOVE:
        check_target(target, root)
    going = {os.path.realpath(each.file) for each in removals}
    batch, found = secrets.token_hex(8), list[Done]()
    with _open_log(directory / UNDO) as log:
        for removal in removals:
            try:
                _check(removal, going, root, reference)
                to = _perform(removal, action, log, batch, root, target)
                found.append(Done(removal.file, to))
            except (_RefusedError, OSError) as error:
                problem = getattr(error, "strerror", None) or str(error)
                found.append(Done(removal.file, problem=problem))
            if progress is not None:
                progress(Progress(len(found), len(removals), sum(bool(d.problem) for d in found)))
    return found


def check_target(target: Path | None, root: Path) -> None:
    """Raises GalleryError unless duplicates can be moved there."""
    if target is None:
        raise GalleryError("no folder was given to move files to")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(root)):
        raise GalleryError(
            f"{target} is inside {root}, the gallery's folder, where the files would be found "
            f"again; choose a folder outside"
        )
    if os.path.lexists(target) and not target.is_dir():
        raise GalleryError(f"{target} is not a folder")


def _check(removal: Removal, going: set[str], root: Path, reference: bytes | None) -> None:
    """Raises _RefusedError unless the file holds what was indexed and another file that is kept
    does as well."""
    path = removal.file
    if reference is not None:
        place = os.path.realpath(path)
        safe = os.path.realpath(root / os.fsdecode(reference))
        if is_within(os.fsencode(path), os.fsencode(root / os.fsdecode(reference))) or is_within(
            os.fsencode(place), os.fsencode(safe)
        ):
            raise _RefusedError("it is in the reference folder")
    _require_whole(path, removal.digest)
    problems = []
    for kept, digest in removal.kept:
        try:
            if os.path.realpath(kept) in going:
                raise _RefusedError("it would go as well")
            if _is_same_file(kept, path):
                raise _RefusedError("it is the same file by another name")
            _require_whole(kept, digest)
            return
        except _RefusedError as error:
            problems.append(f"{kept}: {error}")
    raise _RefusedError(f"no copy is left that is kept ({'; '.join(problems) or 'none is marked'})")


def _is_same_file(one: Path, two: Path) -> bool:
    try:
        return os.path.samefile(one, two) and not _numbers_are_useless(one)
    except OSError as error:
        raise _RefusedError(error.strerror or str(error)) from error


def _numbers_are_useless(path: Path) -> bool:
    """Some mounts give all files the number 0, or that of their folder."""
    status = path.stat()
    return status.st_ino in (0, path.parent.stat().st_ino)


def _require_whole(path: Path, digest: bytes) -> None:
    """Raises _RefusedError unless it is a regular file of this content."""
    from lookalike.images import SkippedImageError, content_hash  # with all image formats

    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _RefusedError("it is not a regular file")
        if content_hash(path) != digest:
            raise _RefusedError("it no longer holds what was indexed; run: lookalike update")
    except FileNotFoundError as error:
        raise _RefusedError("it is gone") from error
    except SkippedImageError as error:
        raise _RefusedError(error.detail) from error


def _perform(
    removal: Removal,
    action: Action,
    log: Log,
    batch: str,
    root: Path,
    target: Path | None,
) -> Path | None:
    path, kept = removal.file, removal.kept[0][0]
    entry = {"batch": batch, "action": str(action), "hash": removal.digest.hex()}
    entry |= {"path": _hex(path), "kept": _hex(kept), "time": f"{time.time():.3f}"}
    if action is Action.MOVE:
        assert target is not None
        to = _vacant(target / os.path.relpath(path, root))
        log.add({**entry, "to": _hex(to)})
        _move(path, to, removal.digest)
        return to
    if action is Action.HARDLINK:
        kept = next((k for k, digest in removal.kept if digest == removal.digest), None) or path
        if kept == path:
            raise _RefusedError("only files of the same bytes can be linked")
        _require_whole(kept, removal.digest)
        log.add({**entry, "kept": _hex(kept)})
        temporary = path.with_name(f".{secrets.token_hex(8)}.link")
        try:
            os.link(kept, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path
    log.add(entry)
    if action is Action.TRASH:
        from send2trash import send2trash

        send2trash(os.fspath(path))
    else:
        path.unlink()
    return None


def _vacant(path: Path) -> Path:
    """The path, or the same with a number that makes it one of no file."""
    for number in range(2, 10_000):
        if not os.path.lexists(path):
            return path
        base = path.stem if number == 2 else path.stem.rpartition(" (")[0]
        path = path.with_name(f"{base} ({number}){path.suffix}")
    raise _RefusedError(f"{path} and 10,000 more are there already")


def _move(path: Path, to: Path, digest: bytes) -> None:
    """By a rename; to another disk by a copy that is compared before the original goes."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.stat().st_dev == to.parent.stat().st_dev:
        os.rename(path, to)
        return
    temporary = to.with_name(f".{secrets.token_hex(8)}.part")
    try:
        shutil.copy2(path, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _require_whole(temporary, digest)
        os.rename(temporary, to)
    finally:
        temporary.unlink(missing_ok=True)
    path.unlink()


# ---- the log -------------------------------------------------------------------------------------


class Log:
    """Lines of JSON that are on disk when they are added."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "ab")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _open_log(path: Path) -> Log:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        return Log(os.open(path, flags, 0o666))
    except OSError as error:
        raise GalleryError(
            f"cannot write {path} ({error.strerror}), and nothing is done that could not be undone"
        ) from error


def _hex(path: Path) -> str:
    return os.fsencode(os.path.abspath(path)).hex()


def _path(text: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(text)))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = read_regular(path, LARGEST_LOG)
    except FileNotFoundError:
        return
    except IrregularFileError as error:
        raise GalleryError(f"{path} {error.strerror}") from error
    for line in content.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            _path(entry["path"])
            yield entry


def undo(directory: Path) -> tuple[Action | None, list[Done]]:
    """Undo what the last call of `act` that was not undone yet did; the last file first.

    Returns what it was, None if there is nothing to undo, and what became of each file. A file is
    put back only where there is none now, and if it holds what it held.
    """
    log_path = directory / UNDO
    entries = list(_entries(log_path))
    undone = {entry["undone"] for entry in entries if "undone" in entry}
    batches = [e["batch"] for e in entries if "undone" not in e and e["batch"] not in undone]
    if not batches:
        return None, []
    last = [entry for entry in entries if entry.get("batch") == batches[-1]]
    found = list[Done]()
    for entry in reversed(last):
        path = _path(entry["path"])
        try:
            _undo_one(entry, path)
            found.append(Done(path, path))
        except (_RefusedError, OSError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            found.append(Done(path, problem=problem))
    with _open_log(log_path) as log:
        log.add({"undone": batches[-1], "path": last[0]["path"], "batch": batches[-1]})
    return Action(last[0]["action"]), found


def _undo_one(entry: dict[str, Any], path: Path) -> None:
    action, digest = Action(entry["action"]), bytes.fromhex(entry["hash"])
    if action is Action.HARDLINK:
        _require_whole(path, digest)
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            shutil.copy2(path, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return
    if os.path.lexists(path):
        with suppress(_RefusedError):
            _require_whole(path, digest)
            return  # it was never touched, or is back
        raise _RefusedError("another file is in its place")
    if action is Action.DELETE:
        raise _RefusedError("it was deleted for good")
    if action is Action.MOVE:
        source = _path(entry["to"])
        _require_whole(source, digest)
        _move(source, path, digest)
        return
    source, note = _in_trash(path, digest)
    _move(source, path, digest)
    note.unlink(missing_ok=True)


def trash_folder() -> Path:
    """The user's trash, by the freedesktop.org specification."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "Trash"


def _in_trash(path: Path, digest: bytes) -> tuple[Path, Path]:
    """Where a file lies in a trash of Linux, and the note on it."""
    from urllib.parse import unquote

    if sys.platform in ("darwin", "win32"):
        raise _RefusedError(TRASH_REMEDY)
    for trash, top in _trashes(path):
        for note in sorted((trash / "info").glob("*.trashinfo")):
            with suppress(OSError, _RefusedError):
                lines = note.read_text(errors="surrogateescape").splitlines()
                value = next(line[5:] for line in lines if line.startswith("Path="))
                named = Path(unquote(value, errors="surrogateescape"))
                if (named if named.is_absolute() else top / named) == path:
                    source = trash / "files" / note.stem
                    _require_whole(source, digest)
                    return source, note
    raise _RefusedError(f"it was not found in the trash; {TRASH_REMEDY}")


def _trashes(path: Path) -> Iterable[tuple[Path, Path]]:
    """Those that the file may lie in, each with the folder that its paths are relative to."""
    yield trash_folder(), Path("/")
    for top in path.parents:
        for name in (f".Trash/{os.getuid()}", f".Trash-{os.getuid()}"):
            if (top / name).is_dir():
                yield top / name, top
