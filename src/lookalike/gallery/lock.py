"""One writer at a time: an advisory lock on a file, which the system frees when its holder dies."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from lookalike.atomic import open_locked, read_regular
from lookalike.errors import GalleryDamagedError, GalleryLockedError
from lookalike.gallery.hits import check_number
from lookalike.gallery.places import repair_command

POLL_SECONDS = 0.1


def writer_lock(path: Path, wait: float = 0.0) -> AbstractContextManager[None]:
    """Hold the lock file ``path`` for the block, waiting at most ``wait`` seconds for it.

    Raises:
        GalleryDamagedError: it is a link, a pipe or a folder.
        GalleryLockedError: another process (or another handle in this one) holds it; gives its pid.
    """

    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise GalleryDamagedError(
                f"{path} is not a regular file; run: {repair_command(path.parent)}"
            )
    except FileNotFoundError:
        pass

    def refusal(holder: str) -> GalleryLockedError:
        return GalleryLockedError(
            f"the gallery in {path.parent} is being written by process {holder}; wait until it is "
            f"done (--wait SECONDS), or stop it"
        )

    return exclusive(path, refusal, wait)


@contextmanager
def exclusive(path: Path, refusal: Callable[[str], Exception], wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` for the block, waiting at most ``wait`` seconds for it.

    Raises:
        refusal(pid): another process (or another handle in this one) holds it; the pid may be
            "unknown".
        IrregularFileError: ``path`` is a link, pipe or folder.
    """
    check_number("wait", wait)
    deadline = time.monotonic() + wait
    while (descriptor := open_locked(path)) is None:
        if time.monotonic() >= deadline:
            raise refusal(_holder(path))
        time.sleep(POLL_SECONDS)
    try:
        if os.fstat(descriptor).st_nlink <= 1:  # else it may be a user's file under another name
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        if (pid := read_regular(path, 32).decode("ascii").strip()).isdecimal():
            return pid
    return "unknown"
