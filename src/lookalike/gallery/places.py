"""Where a gallery's files are, and the sentences about them that several modules need."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lookalike.atomic import NO_SPACE, open_regular
from lookalike.errors import GalleryError

FOLDER = ".lookalike"
TABLE = "gallery.sqlite"
INDEX = "index"
IDENTITY = "gallery.json"
NEIGHBOURS = "neighbours.lka"
"""The neighbour graph; it may be deleted, the next update makes another."""
MAP = "map.lka"
"""Where images lie on the page's map; made again by the server when it is missing."""
COMPARED = "compared.lka"
"""Which contents `duplicates` has compared, and how they are alike; it may be deleted."""
LOCK = "lock"
UNDO = "undo.jsonl"
"""What was done with duplicates, one line of JSON each."""
THUMBNAILS = "thumbnails"
THUMBNAIL = r"[0-9a-f]{32}-[0-9]+-[0-9]+\.webp"
"""Names of files in a folder of thumbnails, in parts named by their first two characters."""
APPLICATION_ID = 0x4C4B4C4B
"""Of the table, in SQLite's header."""
# Suffixes of folders: a rebuild is made beside the gallery, which then steps aside for it.
INCOMING = ".rebuild"
OUTGOING = ".old"
FULL = (
    "the disk of {} is full; free some space and run the command again, everything committed "
    "before is kept"
)


GONE = "{} is gone, its disk perhaps as well; run the command again once it is back"


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written there. SQLite reports a quota like a failing disk."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        return error.errno in NO_SPACE
    return False


def has_gallery(directory: Path) -> bool:
    """Whether these are a gallery's own files, in whatever state."""
    return any((directory / name).exists() for name in (TABLE, IDENTITY))


@contextmanager
def explain_unreadable(directory: Path) -> Iterator[None]:
    """Turn the refusal to let this user read a gallery's files into an error with a remedy."""
    try:
        yield
    except PermissionError as error:
        raise GalleryError(
            f"cannot read {error.filename or directory} ({error.strerror}): the gallery in "
            f"{directory} belongs to another user; get the right to read it from its owner, or "
            f"make one of your own with --gallery DIR"
        ) from error


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether it is the folder, or below it; b"" is the folder of all."""
    return not folder or path == folder or path.startswith(folder + b"/")


_TABLES = r"\.?(gallery|repaired|imported)\.sqlite(\.new|\.tmp|\.damaged)?(-journal|-wal|-shm)?"
_ARRAYS = r"(hasher|segment|removed)-[0-9a-f]{16}\.lka"
_OWN = re.compile(
    rf"{_TABLES}|gallery\.json|\.gallery\.json\.tmp|lock|undo\.jsonl|exclude|\.exclude\.tmp"
    rf"|\.?(neighbours|map|compared)\.lka(\.tmp|\.damaged)?"
    rf"|index/({_ARRAYS}|manifest\.json|\.({_ARRAYS}|manifest\.json)\.tmp)"
    rf"|{THUMBNAILS}/[0-9a-f]{{2}}/({THUMBNAIL}|\.[0-9a-z_]{{8}}\.tmp)"
)
_OWN_FOLDER = re.compile(rf"{INDEX}|{THUMBNAILS}(/[0-9a-f]{{2}})?")
"""Paths of a gallery's files and folders in its directory."""


def require_own(directory: Path) -> None:
    """Raises GalleryError if a folder that was named for a gallery holds something else, which a
    rebuild would move away with it; hidden files do not count."""
    is_usual = directory.name == FOLDER or not directory.is_dir()
    found = [] if is_usual else sorted(os.listdir(directory))
    others = [
        name
        for name in found
        if name == FOLDER
        or not (name.startswith(".") or _OWN.fullmatch(name) or _OWN_FOLDER.fullmatch(name))
    ]
    if others and others != ["lost+found"]:
        raise GalleryError(
            f"{directory} cannot be the directory of a gallery, as it holds other files "
            f"({others[0]}, for instance); name a new or an empty one, or index the images in it: "
            f"lookalike index {shlex.quote(os.fspath(directory))}"
        )


def delete_gallery(directory: Path, keep: str = "") -> None:
    """Delete what has the name of a gallery's own file there, and folders that are empty then.

    Whatever else there is stays. Links are deleted but not followed; if ``directory`` is one, or is
    missing, nothing happens.

    Args:
        keep: name of a file that stays.
    """
    if not is_real_folder(directory):
        return
    for folder, folders, files in os.walk(directory, topdown=False):
        for name in (*files, *folders):
            there = Path(folder, name)
            path = there.relative_to(directory).as_posix()
            with suppress(OSError):  # it is of another kind, not empty, or gone
                if _OWN_FOLDER.fullmatch(path) and is_real_folder(there):
                    there.rmdir()
                elif path != keep and (_OWN.fullmatch(path) or _OWN_FOLDER.fullmatch(path)):
                    there.unlink()
    with suppress(OSError):
        os.rmdir(directory)


def is_real_folder(path: Path) -> bool:
    """Whether it is a folder and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def is_gallery(directory: bytes) -> bool:
    """Whether these are a gallery's own files by what they hold, whatever the directory's name."""
    start = rb'\s*\{\s*"format":\s*\d+,\s*"crc32":\s*\d+,\s*"gallery":'
    if re.match(start, _head(os.path.join(directory, IDENTITY.encode()))):
        return True
    # Not opened unless it must be: closing it frees the locks that this process has on it.
    head = _head(os.path.join(directory, TABLE.encode()))
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4)


def _head(path: bytes) -> bytes:
    """The first 100 bytes of a regular file; b"" of anything else."""
    with suppress(OSError), open(open_regular(Path(os.fsdecode(path))), "rb") as file:
        return file.read(100)
    return b""


def places(folder: Path, directory: Path | None) -> tuple[Path, Path]:
    """The images' folder and the gallery's directory, from the names alone.

    Args:
        folder: the images' folder, or a gallery's own directory.
        directory: where the gallery's files are, None: to be found out.
    """
    folder = folder.absolute()
    directory = None if directory is None else directory.absolute()
    if has_gallery(folder) and directory in (None, folder):
        return folder.parent, folder
    if directory is not None:
        return folder, directory
    return folder, folder / FOLDER


def nearest_above(start: Path) -> Path | None:
    """The first folder with a gallery among ``start`` and the folders above it."""
    for folder in (start.absolute(), *start.absolute().parents):
        if any(has_gallery(folder / name) for name in (FOLDER, FOLDER + OUTGOING)):
            return folder
    return None


def find_nearest(*starts: Path) -> Path:
    """The first folder with a gallery among each of ``starts`` and the folders above it.

    Raises:
        GalleryError: there is none.
    """
    for start in starts:
        if (folder := nearest_above(start)) is not None:
            return folder
    raise GalleryError(
        f"there is no gallery in {starts[0].absolute()} or above; make one with 'lookalike index "
        f"FOLDER', or name it with --gallery"
    )


def command(words: str, directory: Path) -> str:
    """A command for the gallery in ``directory``, which may be run in any folder."""
    return f"lookalike {words} --gallery {shlex.quote(os.fspath(directory))}"


def repair_command(directory: Path) -> str:
    return command("verify --repair", directory)


def stored_root(root: Path, directory: Path) -> list[str] | None:
    """What a gallery notes of where its images are: the path and that from its directory, in
    hexadecimal since names need not be text. None if it is in their folder and moves with it.
    """
    if directory.parent == root:
        return None
    return [os.fsencode(path).hex() for path in (root, os.path.relpath(root, directory))]


def root_from(stored: list[str] | None, directory: Path, given: Path) -> Path:
    """The images' folder, which may have moved alone or together with the gallery.

    Args:
        stored: what `stored_root` gave.
        given: the folder asked for, or the gallery's directory.

    Raises:
        GalleryError: the gallery belongs to another folder, which is still there.
    """
    if stored is None:
        known = directory.parent
    else:
        absolute, relative = (Path(os.fsdecode(bytes.fromhex(text))) for text in stored)
        together = Path(os.path.abspath(directory / relative))
        known = absolute if os.path.isdir(absolute) or not os.path.isdir(together) else together
    asked, place = given.absolute(), os.path.realpath(given)
    if place == os.path.realpath(directory):
        return known
    if os.path.isdir(known) and place != os.path.realpath(known):
        raise GalleryError(
            f"the gallery in {directory} belongs to {known}, not to {asked}; choose another "
            f"--gallery for {asked}"
        )
    return known if stored is None else asked
