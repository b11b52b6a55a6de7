"""One writer of a gallery at a time."""

from __future__ import annotations

import stat
from contextlib import AbstractContextManager
from pathlib import Path

from lookalike.errors import GalleryDamagedError, GalleryLockedError
from lookalike.gallery.places import repair_command
from lookalike.lock import exclusive

__all__ = ["writer_lock"]


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
