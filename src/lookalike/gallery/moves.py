"""Files moved, linked and cloned so that none is lost, whenever it is stopped."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lookalike.atomic import sync

FICLONE = 0x40049409
"""Of linux/fs.h: all bytes of one file become those of another one, copied when written to."""
CANNOT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EXDEV)


class RefusedError(Exception):
    """Why a file is left alone."""


def explain(error: Exception) -> str:
    """What is wrong, and with which file."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    name = error.filename2 or error.filename
    return error.strerror if name is None else f"{error.strerror} ({os.fsdecode(name)})"


def require_whole(path: Path, digest: bytes) -> None:
    """Raises RefusedError unless it is a regular file of this content."""
    from lookalike.images import SkippedImageError, content_hash  # with all image formats

    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            kind = "a link" if path.is_symlink() else "not a regular file"
            raise RefusedError(f"it is {kind}")
        if content_hash(path) != digest:
            raise RefusedError("it no longer holds what was indexed")
    except FileNotFoundError as error:
        raise RefusedError("it is gone") from error
    except SkippedImageError as error:
        raise RefusedError(error.detail) from error


def move(path: Path, to: Path, digest: bytes, token: str) -> None:
    """Move a file to a name that no file has; to another disk by a copy that is compared first.

    Raises:
        RefusedError: there is a file at ``to``, or the copy does not hold what it should.
        OSError: it is left where it was.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    if _rename(path, to):
        return
    with _part(to, token) as temporary:
        _copy(path, temporary, digest)
        if not _rename(temporary, to):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fspath(to))
    sync(to.parent)
    _unlink(path, to)


def link(kept: Path, path: Path, token: str) -> None:
    """``path`` becomes another name of the file ``kept``. OSError: it is what it was."""
    with _part(path, token) as temporary:
        os.link(kept, temporary)
        os.replace(temporary, path)


def clone(kept: Path, path: Path, digest: bytes, token: str) -> None:
    """``path``, of the same bytes as ``kept``, shares them with it from now on, until one of the
    files is written to.

    Raises:
        RefusedError: the file system cannot do this.
        OSError: ``path`` is what it was.
    """
    if sys.platform != "linux":
        raise RefusedError("files are cloned on Linux only; --hardlink works here")
    import fcntl

    with _part(path, token) as temporary, open(kept, "rb") as source:
        try:
            with open(temporary, "xb", opener=_private) as file:
                fcntl.ioctl(file.fileno(), FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in CANNOT_CLONE:
                raise
            raise RefusedError(
                "the file system cannot clone it (Btrfs, XFS and bcachefs can, within one disk); "
                "--hardlink works on most"
            ) from error
        _finish(path, temporary, digest)
        os.replace(temporary, path)


def separate(path: Path, digest: bytes, token: str) -> None:
    """A file that has several names becomes one of its own. OSError: it is what it was."""
    with _part(path, token) as temporary:
        _copy(path, temporary, digest)
        os.replace(temporary, path)


def restore(path: Path, mode: int, mtime_ns: int) -> None:
    """Give a file its former time and rights. OSError: it is not allowed to have them."""
    status = path.stat()
    if (status.st_mtime_ns, status.st_mode) != (mtime_ns, mode):
        os.utime(path, ns=(status.st_atime_ns, mtime_ns))
        path.chmod(stat.S_IMODE(mode))


def forget_part(path: Path, token: str) -> None:
    """Unlink what was left beside ``path`` when one of the above was killed."""
    with suppress(OSError):
        _beside(path, token).unlink()


def _beside(path: Path, token: str) -> Path:
    return path.with_name(f".{token}.part")


@contextmanager
def _part(path: Path, token: str) -> Iterator[Path]:
    """A place beside ``path`` for what is not whole yet."""
    temporary = _beside(path, token)
    try:
        yield temporary
    finally:
        forget_part(path, token)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(path: Path, temporary: Path, digest: bytes) -> None:
    with open(path, "rb") as source, open(temporary, "xb", opener=_private) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    _finish(path, temporary, digest)


def _finish(path: Path, temporary: Path, digest: bytes) -> None:
    """A copy is compared, gets the times and rights of ``path`` as far as it can have them, and is
    on the disk."""
    status = path.stat()
    with suppress(OSError):
        os.chown(temporary, status.st_uid, status.st_gid)
    with suppress(OSError):
        shutil.copystat(path, temporary)
    sync(temporary)
    require_whole(temporary, digest)


def _rename(path: Path, to: Path) -> bool:
    """Give a file another name, which must not be that of a file; False: it is on another disk."""
    try:
        os.link(path, to, follow_symlinks=False)
    except FileExistsError as error:
        raise RefusedError(f"there is another file at {to}") from error
    except OSError:  # another disk, or a file system without hard links
        if os.path.lexists(to):
            raise RefusedError(f"there is another file at {to}") from None
        try:
            os.rename(path, to)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        return True
    _unlink(path, to)
    return True


def _unlink(path: Path, copy: Path) -> None:
    """Unlink the old name; if that fails, the new one, so that nothing has happened."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if os.path.lexists(path):
            with suppress(OSError):
                copy.unlink()
        raise
