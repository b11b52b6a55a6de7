"""How files are alike, and which of several that show the same picture is to be kept."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lookalike.gallery.filter import glob_matcher
from lookalike.gallery.places import is_within
from lookalike.gallery.rows import ImageRow

COPY = re.compile(
    r"^(copy|kopie|copie|copia)\b|[ _-](copy|kopie|copie|copia)( ?\(?\d*\)?)?$|\(\d+\)$"
    r"|^img-\d{8}-wa\d+|^(whatsapp|signal|telegram|fb_img|received_|photo_\d{4}-)",
    re.IGNORECASE,
)
"""Names, without their extension, of copies and of what messengers have compressed."""


class Kind(StrEnum):
    """How a file is like another one."""

    BYTES = "same bytes"
    PIXELS = "same pixels"
    IMAGE = "same picture"
    TURNED = "mirrored or rotated"
    CROPPED = "cropped"
    SHOT = "another shot"


KINDS, UNLIKE = tuple(Kind), -1
COPIES = frozenset(Kind) - {Kind.SHOT}
"""Of what shows the same picture, so that one file is enough."""


LOSSLESS = frozenset({"PNG", "BMP", "GIF", "TIFF"})
TIMES_NS = 2 * 10**9
"""How precisely zip and FAT keep the time of a file."""


class KeepOrder(StrEnum):
    """What is better, before all that decides else."""

    ORIGINAL = "original"
    LARGEST = "largest"
    SMALLEST = "smallest"
    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True)
class KeepRule:
    """Which file is better: one below ``folders`` (relative to the gallery's, the first best), one
    that fits ``names`` (shell patterns), then by ``order``. What is equal by these, and all with
    the order ORIGINAL, is decided by most pixels; colours; a camera's name in the file; a name that
    is not that of a copy or a messenger's; a lossless format; the oldest; most bytes; the first by
    path.

    Pixels come before a camera's name, since programs leave it in what they make smaller. Age comes
    before bytes: a copy is written after its original, and may have more of them."""

    order: KeepOrder = KeepOrder.ORIGINAL
    folders: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()

    def wish(self, row: ImageRow) -> tuple[int, ...]:
        """What the user asks for, of the better file lower."""
        pixels = (row.width or 0) * (row.height or 0)
        folder = next((n for n, x in enumerate(self.folders) if is_within(row.path, x)), 1 << 30)
        name = next((n for n, x in enumerate(self.names) if glob_matcher(x)(row.path)), 1 << 30)
        chosen = {
            KeepOrder.ORIGINAL: (),
            KeepOrder.LARGEST: (-pixels, -row.size),
            KeepOrder.SMALLEST: (pixels, row.size),
            KeepOrder.OLDEST: (row.mtime_ns,),
            KeepOrder.NEWEST: (-row.mtime_ns,),
        }[self.order]
        return folder, name, *chosen

    def rank(self, row: ImageRow, has_camera: bool, is_grey: bool) -> tuple[Any, ...]:
        """All that counts, of the better file lower; ``has_camera``: a camera's name is in it."""
        pixels = (row.width or 0) * (row.height or 0)
        stem = os.path.splitext(os.path.basename(os.fsdecode(row.path)))[0]
        is_copy = COPY.search(stem) is not None
        is_lossy = row.format not in LOSSLESS
        look = is_grey, not has_camera, is_copy, is_lossy
        times = row.mtime_ns // TIMES_NS, -row.size, row.mtime_ns
        return *self.wish(row), -pixels, *look, *times, row.path


ORIGINAL = KeepRule()
