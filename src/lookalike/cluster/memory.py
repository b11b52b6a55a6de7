"""Memory of a process that maps its data: what it has used for a moment goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

__all__ = ["in_use", "keep_little"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of mallopt(3)
LARGE = 256 << 10


def keep_little() -> None:
    """Freed arrays are not kept for later, by each of many threads. Call it once, early."""
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(M_ARENA_MAX, 2)


def in_use() -> tuple[int, int]:
    """Bytes of this process in memory that are its own, and that are pages of mapped files."""
    found = {"RssAnon": 0, "RssFile": 0}
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    return found["RssAnon"], found["RssFile"]
