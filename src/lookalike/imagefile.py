"""Image files as untrusted bytes: opened safely, given to the plugin of their content, explained.

The rules of what becomes of the pixels are in images.py. Everything here may run in any number of
threads at once.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, TypeAlias, cast

from PIL import AvifImagePlugin as Avif
from PIL import BmpImagePlugin as Bmp
from PIL import GifImagePlugin as Gif
from PIL import Image, ImageFile
from PIL import JpegImagePlugin as Jpeg
from PIL import PngImagePlugin as Png
from PIL import TiffImagePlugin as Tiff
from PIL import WebPImagePlugin as WebP

from lookalike.errors import LookalikeError

__all__ = [
    "Reader",
    "Size",
    "SkipReason",
    "SkippedImageError",
    "Source",
    "check_pixels",
    "check_strips",
    "explain",
    "open_source",
    "pillow_kept_quiet",
    "plugin_of",
    "unreadable",
]

Source: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes] | io.BytesIO"
Size: TypeAlias = tuple[int, int]

_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())


class SkipReason(StrEnum):
    """Why a file gives no picture."""

    EMPTY = "empty"
    TRUNCATED = "truncated"  # the data end before the picture does
    DAMAGED = "damaged"  # the data are all there and cannot be decoded
    NOT_AN_IMAGE = "not-an-image"
    TOO_LARGE = "too-large"
    UNREADABLE = "unreadable"  # the operating system refuses, or it is no regular file
    VANISHED = "vanished"
    NEEDS_EXTRA = "needs-extra"
    UNSUPPORTED = "unsupported"  # a variant of a known format that the decoder does not know


_REMEDY = {
    SkipReason.EMPTY: "copy it again from where it came from",
    SkipReason.TRUNCATED: "copy or download it again",
    SkipReason.DAMAGED: "restore it from a copy",
    SkipReason.NOT_AN_IMAGE: "remove it, or convert it to JPEG or PNG",
    SkipReason.TOO_LARGE: "raise --max-pixels to read it",
    SkipReason.UNREADABLE: "check what it is, its permissions and the disk",
    SkipReason.VANISHED: "update again once it is back",
    SkipReason.NEEDS_EXTRA: "pip install 'lookalike[heif]'",
    SkipReason.UNSUPPORTED: "convert it to JPEG or PNG",
}


class SkippedImageError(LookalikeError):
    """A file that gives no picture. `str()` is "reason: detail; remedy", without the path."""

    def __init__(self, reason: SkipReason, detail: str, remedy: str = "") -> None:
        self.reason, self.detail, self.remedy = reason, detail, remedy or _REMEDY[reason]
        super().__init__(reason, detail, self.remedy)  # all three, so that it survives pickling

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}; {self.remedy}"


class Reader(io.BufferedReader):
    """A stream that notices when it is asked for more than there is.

    `strict` makes reading at the end an error. Pillow would hand out grey pixels there if somebody
    in the process has set ImageFile.LOAD_TRUNCATED_IMAGES.
    """

    length = 0
    starved = False  # a field, not just the last of several blocks, was cut short
    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size and len(data) < size and (size < ImageFile.MAXBLOCK or not data):
            self.starved = True
            if self.strict and not data:
                raise EOFError("image file is truncated")
        return data


@contextmanager
def open_source(source: Source) -> Iterator[Reader]:
    """Only regular files are opened: a pipe or device could block for ever, or do something."""
    if isinstance(source, io.BytesIO):  # a second one on the same bytes: the caller's stays as is
        stream = Reader(cast("io.RawIOBase", io.BytesIO(source.getvalue())))
    else:
        names = ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK")  # those that the system has
        flags = sum(getattr(os, name, 0) for name in names)
        try:
            _require_regular(os.stat(source))
            stream = Reader(io.FileIO(os.open(source, os.O_RDONLY | flags)))
        except (FileNotFoundError, NotADirectoryError) as error:
            detail = "the file is gone, or a link points to nothing"
            raise SkippedImageError(SkipReason.VANISHED, detail) from error
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise unreadable(error) from error
    with stream:
        if not isinstance(source, io.BytesIO):
            _require_regular(os.fstat(stream.fileno()))  # it may have been swapped meanwhile
        stream.length = stream.seek(0, os.SEEK_END)
        if stream.length == 0:
            raise SkippedImageError(SkipReason.EMPTY, "the file has 0 bytes")
        yield stream


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        detail = "it is a directory, pipe, socket or device, no regular file"
        raise SkippedImageError(SkipReason.UNREADABLE, detail)


def plugin_of(stream: Reader, max_pixels: int) -> Callable[[Reader], ImageFile.ImageFile]:
    """The Pillow plugin for this content; container formats are checked for their full length."""
    stream.seek(0)
    head = stream.read(64)
    stream.starved = False
    plugin: Any = None
    if head.startswith(b"\xff\xd8\xff"):
        plugin = Jpeg.JpegImageFile
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        plugin = Png.PngImageFile
    elif head.startswith((b"GIF87a", b"GIF89a")):
        plugin = Gif.GifImageFile
    elif head.startswith(b"BM"):
        plugin = Bmp.BmpImageFile
    elif head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        plugin = Tiff.TiffImageFile
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        _check_length(8 + int.from_bytes(head[4:8], "little"), stream)
        check_pixels(_webp_size(head), max_pixels)  # the plugin allocates them when it is made
        plugin = WebP.WebPImageFile
    elif head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(64, int.from_bytes(head[:4])), 4)}
        if brands & {b"avif", b"avis"}:
            plugin = Avif.AvifImageFile
        elif brands & _HEIF_BRANDS:
            plugin = _heif_plugin()
        if plugin:
            _check_boxes(stream)
    if plugin is None:
        detail = f"it starts with {head[:8].hex(' ')}, which is none of the known formats"
        raise SkippedImageError(SkipReason.NOT_AN_IMAGE, detail)
    stream.seek(0)
    return cast("Callable[[Reader], ImageFile.ImageFile]", plugin)


def _heif_plugin() -> Any:
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        detail = "HEIC/HEIF needs the package pi-heif"
        raise SkippedImageError(SkipReason.NEEDS_EXTRA, detail) from error
    return HeifImageFile


def _webp_size(head: bytes) -> Size:
    """Canvas (width, height) of the first chunk: VP8X, VP8L (lossless) or VP8 (lossy)."""
    number = int.from_bytes
    if head[12:16] == b"VP8X":
        return number(head[24:27], "little") + 1, number(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = number(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(head[26:28], "little") & 0x3FFF, number(head[28:30], "little") & 0x3FFF


def check_pixels(size: Size, limit: int) -> None:
    if (pixels := size[0] * size[1]) > limit:
        detail = f"{size[0]} x {size[1]} = {pixels:,} pixels, the limit is {limit:,}"
        raise SkippedImageError(SkipReason.TOO_LARGE, detail)


def _check_length(declared: int, stream: Reader) -> None:
    if declared > stream.length:
        detail = f"it has {stream.length:,} bytes of at least {declared:,}"
        raise SkippedImageError(SkipReason.TRUNCATED, detail)


def _check_boxes(stream: Reader) -> None:
    """Walk an AVIF or HEIF file's boxes until its index (meta) and its data (mdat) are seen."""
    at, seen = 0, set[bytes]()
    while not seen >= {b"meta", b"mdat"}:
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            stream.starved = True  # no data box: if decoding fails, this is why
            return
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(head[8:16])
        if size < 8:  # 0: up to the end of the file; others are nonsense, for the decoder to refuse
            break
        _check_length(at + size, stream)
        if head[4:8] == b"meta":
            stream.seek(at)
            _check_item_names(stream.read(size))
        at += size
        seen.add(head[4:8])
    stream.starved = False


def _check_item_names(meta: bytes) -> None:
    """Item types and names that are no text: pi_heif 1.4 reads through a null pointer then."""
    for match in re.finditer(b"(?s)(....)infe([\2\3])", meta):
        end = match.start() + int.from_bytes(match[1])
        text = match.end() + (7 if match[2] == b"\2" else 9)  # flags, item number, protection
        try:
            meta[text:end].decode()
        except UnicodeDecodeError as error:
            detail = "its index names an item in bytes that are no text"
            raise SkippedImageError(SkipReason.DAMAGED, detail) from error


def check_strips(image: Image.Image, stream: Reader) -> None:
    """Compressed TIFF: libtiff may fill in for strips that lie beyond the end of the file."""
    if isinstance(image, Tiff.TiffImageFile) and image.info.get("compression") != "raw":
        if stream.starved:
            raise EOFError("image file is truncated")
        for offsets, counts in ((273, 279), (324, 325)):  # of strips, of tiles
            pairs = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
            _check_length(max((offset + count for offset, count in pairs), default=0), stream)


def explain(error: Exception, stream: Reader) -> SkippedImageError:
    """What a plugin's exception means for the user."""
    cause = " ".join(str(error).split())[:150] or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in cause:
        detail = "there is not enough memory to decode it"
        return SkippedImageError(SkipReason.TOO_LARGE, detail, "use fewer threads")
    if isinstance(error, Image.DecompressionBombError):
        return SkippedImageError(SkipReason.TOO_LARGE, cause, "save it smaller, or as JPEG or PNG")
    if "too large" in cause:
        detail = f"its metadata unpack to more than they should ({cause})"
        return SkippedImageError(SkipReason.TOO_LARGE, detail, "save it again without metadata")
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
        return unreadable(error)
    if stream.starved or isinstance(error, EOFError) or "truncated" in cause.lower():
        detail = f"the picture goes on after the end of the file at {stream.length:,} bytes"
        return SkippedImageError(SkipReason.TRUNCATED, detail)
    if re.search(r"(?i)unsupported|not (supported|installed)|unknown pixel mode", cause):
        return SkippedImageError(SkipReason.UNSUPPORTED, cause)
    return SkippedImageError(SkipReason.DAMAGED, f"its data cannot be decoded ({cause})")


def unreadable(error: OSError | ValueError) -> SkippedImageError:
    cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SkippedImageError(SkipReason.UNREADABLE, f"it cannot be read ({cause})")


# One filter, of Pillow's modules alone, shared by all decoding threads: the first puts it in, the
# last takes it out. warnings.catch_warnings would restore one thread's snapshot under another's
# feet. Damaged metadata make Pillow warn, and under -W error that would lose the photograph.
_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_filter_lock = threading.Lock()
_filter_users = 0


@contextmanager
def pillow_kept_quiet() -> Iterator[None]:
    global _filter_users
    with _filter_lock:
        _filter_users += 1
        filters = cast("list[Any]", warnings.filters)
        if _FILTER not in filters:
            filters.insert(0, _FILTER)
    try:
        yield
    finally:
        with _filter_lock:
            _filter_users -= 1
            if _filter_users == 0:
                with suppress(ValueError):
                    cast("list[Any]", warnings.filters).remove(_FILTER)
