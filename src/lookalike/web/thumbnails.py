"""Small images, made once and kept in the gallery's directory, up to a number of bytes."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lookalike.atomic import open_regular, read_regular
from lookalike.gallery.places import THUMBNAIL, THUMBNAILS, is_real_folder
from lookalike.gallery.rows import ImageRow
from lookalike.web.errors import ApiError
from lookalike.web.originals import read_original
from lookalike.web.workers import Workers

QUALITY = 80
VERSION = 1
"""Of how they are made; part of their names."""


class Thumbnails:
    """WebP files named by the content that they show, so that a moved image keeps its own, and a
    changed one gets another."""

    def __init__(self, root: Path, directory: Path, limit: int, workers: Workers) -> None:
        """``root``, ``directory``: the gallery's folder and its own; ``limit``: bytes of all."""
        self._root = root
        self._kept = BoundedFolder(directory / THUMBNAILS, limit, THUMBNAIL)
        self._decoders = workers.own_images
        self._files = workers.files
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
        with suppress(OSError):  # a disk that is full, gone, or not to be written: made again then
            await self._files.run(self._kept.write, f"{name}.webp", made)
        return made


def _hash(row: ImageRow) -> str:
    if row.hash is None:
        raise ApiError("not_found", "this image has no content", "update the gallery")
    return row.hash.hex()


def _is_whole(content: bytes) -> bool:
    """Whether it is a WebP file as long as it says; a crash may leave half of one."""
    return content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 == len(content)


TICK = 86_400.0
"""Seconds within which two uses of a file count as one, which is its modification time."""
LEFT = 0.9
"""Share of the limit that pruning leaves, so that it is not needed at every write."""
TEMPORARY = re.compile(r"\.[0-9a-z_]{8}\.tmp")
LARGEST = 64 << 20
"""Bytes of a file that is read."""


class BoundedFolder:
    """At most ``limit`` bytes of files; those that were not used longest go first.

    For any number of threads, and several processes: each counts when it begins to write and when
    it prunes, so together they may be above the limit by what the others have written since.

    The folder may have been copied from anywhere: neither it nor anything in it is followed if it
    is a link, and files of other names than its own are neither counted nor deleted.
    """

    def __init__(self, folder: Path, limit: int, own: str) -> None:
        """``own``: regular expression of the names of its files, of two characters or more."""
        self._folder = folder
        self._limit = limit
        self._own = re.compile(own)
        self._held: int | None = None
        self._counting = threading.Lock()

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it does not exist, or is larger than the folder may be."""
        path = self._folder / name[:2] / name
        try:
            if not (is_real_folder(self._folder) and is_real_folder(path.parent)):
                return None
            content = read_regular(path, min(self._limit, LARGEST))
            if time.time() - path.lstat().st_mtime > TICK:
                os.utime(path)
        except OSError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all; several may write the same. OSError if the disk does not take it."""
        part = self._folder / name[:2]
        for folder in (self._folder, part):
            with suppress(FileExistsError):
                folder.mkdir()
            if not is_real_folder(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        temporary = part / f".{secrets.token_hex(4)}.tmp"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_regular(temporary, flags, 0o600), "wb") as file:
                file.write(content)
            os.replace(temporary, part / name)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        with self._counting:
            if self._held is not None:
                self._held += len(content)
            if self._held is None or self._held > self._limit:
                self._held = self._prune()

    def _prune(self) -> int:
        """Delete what is too much; returns the bytes that are left."""
        found = sorted(self._files())
        held = sum(size for _, size, _ in found)
        enough = held if held <= self._limit else LEFT * self._limit
        for _, size, path in found:
            if held <= enough:
                break
            with suppress(OSError):  # another process was faster?
                path.unlink()
            held -= size
        return held

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Its files, without those that are being written, but with those that a crash cut: last
        use in ns, bytes, path."""
        fresh = 1e9 * (time.time() - TICK)
        for path in self._folder.glob("??/*"):
            written = self._own.fullmatch(path.name) and path.name[:2] == path.parent.name
            if not written and not TEMPORARY.fullmatch(path.name):
                continue
            with suppress(OSError):
                status = path.lstat()
                is_own = stat.S_ISREG(status.st_mode) and is_real_folder(path.parent)
                if is_own and (written or status.st_mtime_ns <= fresh):
                    yield status.st_mtime_ns, status.st_size, path
