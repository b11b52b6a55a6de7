"""Files that are whole at every moment, and regular files opened without following links."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an OSError: a disk or quota is full."""


SAFE = sum(
    getattr(os, name, 0)  # those that the system has
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_NOINHERIT")
)
LOCKED_BYTE = 1 << 30
"""Of a file on Windows, where a lock is of bytes that no one else may read: far behind its end."""


class IrregularFileError(OSError):
    """A link, folder, pipe or device where one of lookalike's own files should be, or a file that
    is too large for what it should be."""


def cache_directory() -> Path:
    """For what can be made or downloaded again: $XDG_CACHE_HOME/lookalike, ~/.cache/lookalike."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "lookalike"


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of a regular file. No link is followed and no pipe is waited for.

    Raises:
        IrregularFileError: it is something else.
        OSError: as `os.open`.
    """
    try:
        descriptor = os.open(path, flags | SAFE, mode)
    except OSError as error:
        # A link; a socket, or a pipe that is to be written and that has no reader; a folder.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            raise _irregular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def _irregular(path: Path) -> IrregularFileError:
    return IrregularFileError(errno.EINVAL, "is not a regular file", os.fspath(path))


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; raises as `open_regular`."""
    with open(open_regular(path), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise IrregularFileError(
            errno.EFBIG, f"is larger than the {limit:,} bytes that it may have", os.fspath(path)
        )
    return content


def file_sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal. OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def attempts() -> Iterator[bool]:
    """For reading several files while a writer may replace them: False for each attempt that may
    be followed by another, True for the last.
    """
    yield from (False, False, False, False, True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file beside ``path`` that takes its place when the block ends: ``path`` is the
    old file or the whole new one, even after a power cut. A link in its place is replaced, never
    followed. For one writer at a time.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.close(open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as of a full disk
            error.filename = os.fspath(path)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; on Windows files alone, which
    must be open for writing then."""
    is_posix = hasattr(os, "O_DIRECTORY")
    if not is_posix and path.is_dir():
        return
    access = os.O_RDONLY if is_posix else os.O_RDWR
    descriptor = os.open(path, access | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process, or another handle, has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path) -> int | None:
    """A descriptor of the file ``path``, made if there is none, that holds its lock until it is
    closed; None if another process, or another handle, holds it. Raises as `open_regular`.
    """
    while True:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            # It may have been moved or replaced since it was opened.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Write the file ``path`` as `replacing` does."""
    with replacing(path) as temporary, temporary.open("r+b") as file:
        yield file
