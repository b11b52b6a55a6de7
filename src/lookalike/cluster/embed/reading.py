"""A chunk's images, one by one: where each is, and its pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.embed.tables import rows_of
from lookalike.cluster.job.descriptor import Chunk, TableSlice
from lookalike.cluster.job.filesystem import Files, LocalFiles, first_line, resolve
from lookalike.errors import GalleryError, LookalikeError
from lookalike.images import SkippedImageError, SkipReason, content_hash, read_picture
from lookalike.mark import is_own_sheet

__all__ = ["Item", "OwnSheetError", "Read", "items_of", "read_item"]


class OwnSheetError(LookalikeError):
    """The file is a contact sheet that lookalike has drawn, which is no picture of the user's."""


@dataclass(frozen=True)
class Item:
    """An image to read: its id and path as they will stand in the part.

    ``status()`` gives size in bytes and time of change in ns, (-1, -1) if there is no such file;
    ``source()`` the local path or the content.
    """

    id: int
    path: bytes
    status: Callable[[], tuple[int, int]]
    source: Callable[[], bytes | io.BytesIO]


@dataclass(frozen=True, eq=False)
class Read:
    """What was read: pixels RGB (size, size, 3), and what is noted of the original."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    hash: bytes
    status: tuple[int, int]


def read_item(item: Item, size: int, max_pixels: int) -> Read:
    """Raises SkippedImageError, OwnSheetError; GalleryError if a far file system fails."""
    status = item.status()  # first, so that a change while reading is found by an update
    source = item.source()
    digest = content_hash(source)
    if isinstance(source, bytes) and is_own_sheet(source):
        raise OwnSheetError
    picture = read_picture(source, size, max_pixels=max_pixels)
    return Read(picture.pixels, picture.width, picture.height, picture.format, digest, status)


def items_of(chunk: Chunk, root: str) -> Iterator[Item]:
    """The images of a chunk in order, as they are needed.

    Args:
        root: folder or URI that the paths of files are relative to.

    Raises:
        GalleryError: the root, or a table, is not there.
    """
    if chunk.kind == "table":
        slices = cast("tuple[TableSlice, ...]", chunk.items)
        named = (row for one in slices for row in rows_of(one))
        for number, (path, content) in enumerate(named, chunk.first_id):
            yield _in_memory(number, path, content)
        return
    files, base = resolve(root)
    if files.kind(base) != "folder":
        raise GalleryError(
            f"{root} is not a folder, or its disk is not mounted on this machine; every machine "
            f"that embeds needs it at this place"
        )
    for number, name in enumerate(cast("tuple[str, ...]", chunk.items), chunk.first_id):
        yield _file(number, files, f"{base}/{name}", os.fsencode(name))


def _file(number: int, files: Files, where: str, path: bytes) -> Item:
    def content() -> io.BytesIO:
        try:
            with files.open(where) as file:
                return io.BytesIO(file.read())
        except FileNotFoundError as error:
            raise SkippedImageError(SkipReason.VANISHED, "the file is gone") from error
        except OSError as error:  # the network's fault, not the picture's
            raise GalleryError(
                f"cannot read {where}: {first_line(error)}; run the command again"
            ) from error

    is_here = isinstance(files, LocalFiles)
    return Item(
        number,
        path,
        lambda: files.status(where),
        (lambda: os.fsencode(where)) if is_here else content,
    )


def _in_memory(number: int, path: bytes, content: bytes) -> Item:
    return Item(number, path, lambda: (len(content), 0), lambda: io.BytesIO(content))
