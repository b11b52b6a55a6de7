"""One writer at a time: an advisory lock that the system frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lookalike.errors import GalleryLockedError

__all__ = ["writer_lock"]

POLL_SECONDS = 0.1


@contextmanager
def writer_lock(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` for the block, waiting at most ``wait`` seconds for it.

    Raises:
        GalleryLockedError: another process (or another handle in this one) holds it; gives its pid.
    """
    deadline = time.monotonic() + wait
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise GalleryLockedError(
                f"the gallery in {path.parent} is being written by process {_holder(path)}; wait "
                f"until it is done (--wait SECONDS), or stop it"
            )
        time.sleep(POLL_SECONDS)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been replaced with its gallery (by a rebuild) since it was opened.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text("ascii").strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
