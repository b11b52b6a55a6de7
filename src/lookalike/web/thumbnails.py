"""Small pictures, made once and kept in the gallery's directory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from lookalike.gallery.store import ImageRow
from lookalike.web.decoders import Decoders
from lookalike.web.errors import ApiError
from lookalike.web.originals import read_original
from lookalike.web.pool import WorkerPool

__all__ = ["SIZES", "Thumbnails"]

SIZES = (128, 256, 512)
FOLDER = "thumbnails"
QUALITY = 80
VERSION = 1
"""Of how they are made; part of their names."""


class Thumbnails:
    """WebP files named by the content that they show, so that a moved image keeps its own, and a
    changed one gets another."""

    def __init__(self, root: Path, directory: Path, decoders: Decoders, files: WorkerPool) -> None:
        """``files``: threads that read and write; ``decoders``: of the gallery's own files."""
        self._root = root
        self._folder = directory / FOLDER
        self._decoders = decoders
        self._files = files
        self._being_made: dict[str, asyncio.Task[bytes]] = {}

    def name(self, row: ImageRow, size: int) -> str:
        """Equal names have equal bytes."""
        return f"{_hash(row)}-{size}-{VERSION}"

    async def get(self, row: ImageRow, size: int) -> bytes:
        """The file's bytes; its longest side is ``size`` pixels, if the image has as many.

        Raises:
            ApiError: not_found or conflict if it has to be made and its image is gone or another;
                busy; timeout.
            SkippedImageError: the image can no longer be decoded.
        """
        name = self.name(row, size)
        known = await self._files.run(_read, self._path(name))
        if known is not None:
            return known
        task = self._being_made.get(name)
        if task is None:  # else somebody else asked for it, too
            task = asyncio.create_task(self._make(row, size, name))
            self._being_made[name] = task
            task.add_done_callback(lambda _: self._being_made.pop(name, None))
        return await asyncio.shield(task)

    async def _make(self, row: ImageRow, size: int, name: str) -> bytes:
        content = await self._files.run(read_original, self._root, row)
        made = await self._decoders.webp(content, side=size, quality=QUALITY)
        with suppress(OSError):  # a disk that is full, or not to be written: made again next time
            await self._files.run(_write, self._path(name), made)
        return made

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.webp"


def _hash(row: ImageRow) -> str:
    if row.hash is None:
        raise ApiError("not_found", "this image has no content", "update the gallery")
    return row.hash.hex()


def _read(path: Path) -> bytes | None:
    """None if there is none, or half of one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    whole = content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 == len(content)
    return content if whole else None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all; several processes may write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
