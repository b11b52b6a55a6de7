"""Small pictures, made once and kept in the gallery's directory."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from lookalike.gallery.places import THUMBNAIL, THUMBNAILS
from lookalike.gallery.rows import ImageRow
from lookalike.web.bounded_folder import BoundedFolder
from lookalike.web.decoders import Decoders
from lookalike.web.errors import ApiError
from lookalike.web.originals import read_original
from lookalike.web.pool import WorkerPool

__all__ = ["SIZES", "Thumbnails"]

SIZES = (128, 256, 512)
QUALITY = 80
VERSION = 1
"""Of how they are made; part of their names."""


class Thumbnails:
    """WebP files named by the content that they show, so that a moved image keeps its own, and a
    changed one gets another."""

    def __init__(
        self, root: Path, directory: Path, limit: int, decoders: Decoders, files: WorkerPool
    ) -> None:
        """``limit``: bytes of all; ``files``: threads that read and write; ``decoders``: of the
        gallery's own files."""
        self._root = root
        self._kept = BoundedFolder(directory / THUMBNAILS, limit, THUMBNAIL)
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
        known = await self._files.run(self._kept.read, f"{name}.webp")
        if known is not None and _is_whole(known):
            return known
        task = self._being_made.get(name)
        if task is None:  # else it is being made for another request
            task = asyncio.create_task(self._make(row, size, name))
            self._being_made[name] = task
            task.add_done_callback(lambda _: self._being_made.pop(name, None))
        return await asyncio.shield(task)

    async def _make(self, row: ImageRow, size: int, name: str) -> bytes:
        content = await self._files.run(read_original, self._root, row)
        made = await self._decoders.webp(content, side=size, quality=QUALITY)
        with suppress(OSError):  # a disk that is full, or not to be written: made again next time
            await self._files.run(self._kept.write, f"{name}.webp", made)
        return made


def _hash(row: ImageRow) -> str:
    if row.hash is None:
        raise ApiError("not_found", "this image has no content", "update the gallery")
    return row.hash.hex()


def _is_whole(content: bytes) -> bool:
    """Whether it is a WebP file as long as it says; a crash may leave half of one."""
    return content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 == len(content)
