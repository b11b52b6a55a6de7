"""What becomes of a file, and how a decoding process says it: all that needs no image library."""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from lookalike.errors import LookalikeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Source: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes] | io.BytesIO"
DEFAULT_MAX_PIXELS = 200_000_000
MEMORY_REMEDY = "raise --max-pixels, which also raises the memory for one file"
LENGTHS = struct.Struct(">IQ")


class SkipReason(StrEnum):
    """Why a file gives no image."""

    EMPTY = "empty"
    TRUNCATED = "truncated"  # the data end before the image does
    DAMAGED = "damaged"  # the data are all there and cannot be decoded
    NOT_AN_IMAGE = "not-an-image"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    UNREADABLE = "unreadable"  # the operating system refuses, or it is not a regular file
    VANISHED = "vanished"
    NEEDS_EXTRA = "needs-extra"
    UNSUPPORTED = "unsupported"  # a variant of a known format that the decoder does not know


_REMEDY = {
    SkipReason.EMPTY: "copy it again from where it came from",
    SkipReason.TRUNCATED: "copy or download it again",
    SkipReason.DAMAGED: "restore it from a copy",
    SkipReason.NOT_AN_IMAGE: "remove it, or convert it to JPEG or PNG",
    SkipReason.TOO_LARGE: "raise --max-pixels to read it",
    SkipReason.TOO_SLOW: "raise --max-seconds to read it",
    SkipReason.UNREADABLE: "check what it is, its permissions and the disk",
    SkipReason.VANISHED: "update again once it is back",
    SkipReason.NEEDS_EXTRA: "pip install pi-heif",
    SkipReason.UNSUPPORTED: "convert it to JPEG or PNG",
}


class SkippedImageError(LookalikeError):
    """A file that gives no image. `str()` is "reason: detail; remedy", without the path."""

    def __init__(self, reason: SkipReason, detail: str, remedy: str = "") -> None:
        self.reason, self.detail, self.remedy = reason, detail, remedy or _REMEDY[reason]
        super().__init__(reason, detail, self.remedy)  # all three, so that it survives pickling

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}; {self.remedy}"


class Note(StrEnum):
    """What the pixels leave out of a file: a reason not to take it for another of equal pixels."""

    FRAMES = "one of several frames"
    LIGHT = "light on transparent"
    BLANK = "blank"
    PREVIEW = "preview of a raw file"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """What the encoder takes, and what the gallery remembers of the original."""

    pixels: NDArray[np.uint8]  # (size, size, 3), RGB, C-contiguous
    width: int  # of the original, upright
    height: int
    format: str  # by content: "JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "HEIF", ...
    note: Note | None = None
    taken: int = 0  # by the camera's own clock, seconds as if of UTC; 0: it does not say


@dataclass(frozen=True, eq=False)
class Look:
    """An upright RGB image for a comparison, and what `exif.shot_of` says of its file."""

    image: Image.Image
    shot: list[str]


def message(head: dict[str, Any], payload_length: int = 0) -> bytes:
    """A head, to be followed by so many bytes."""
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), payload_length) + text
