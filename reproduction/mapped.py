"""Arrays in files, larger than memory need be."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lookalike.atomic import atomic_writer

__all__ = ["open_rows", "read_count", "write_count"]


def open_rows(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...]
) -> tuple[np.memmap[Any, Any], bool]:
    """The array in a file, to read and write, and whether the file was there already, whole.

    A new file takes all of its room at once, so that a full disk is an OSError here, and not the
    end of the process when a page is written.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    there = path.exists() and path.stat().st_size == size
    if not there:
        try:
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # not on macOS
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
        except OSError as error:
            path.unlink(missing_ok=True)
            error.filename = str(path)
            raise
    return np.memmap(path, dtype, "r+", shape=shape), there


def read_count(path: Path) -> int:
    """What `write_count` noted; 0 if nothing."""
    return int(path.read_text()) if path.exists() else 0


def write_count(path: Path, count: int) -> None:
    """How far some work has come, whole at every moment."""
    with atomic_writer(path) as file:
        file.write(str(count).encode())
