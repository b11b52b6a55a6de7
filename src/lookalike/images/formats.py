"""Image files as untrusted bytes: opened safely, given to the plugin of their content, explained.

The rules of what becomes of the pixels are in pixels.py. Everything here may run in any number of
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
from typing import Any, TypeAlias, cast

from PIL import AvifImagePlugin as Avif
from PIL import BmpImagePlugin as Bmp
from PIL import GifImagePlugin as Gif
from PIL import Image, ImageFile
from PIL import JpegImagePlugin as Jpeg
from PIL import PngImagePlugin as Png
from PIL import TiffImagePlugin as Tiff
from PIL import WebPImagePlugin as WebP

from lookalike.images.outcome import MEMORY_REMEDY, SkippedImageError, SkipReason, Source

Size: TypeAlias = tuple[int, int]

_HEIF_BRANDS = frozenset(
    b"heic heix heim heis hevc hevx hevm hevs mif1 msf1 "
    b"avci avcs jpeg jpgs j2ki j2is vvic vvis".split()
)
_HEIF_CODECS = (b"avc1", b"evc1", b"j2k1", b"jpeg", b"unci", b"vvc1")
"""Item types of HEIF that the plugin may lack."""
_WEBP_IN_TIFF = 50001
"""A compression that Pillow knows and the libtiff in its wheels lacks. To try would end the process
before Pillow 13."""
_MAX_BOXES = 4096
"""Boxes of AVIF or HEIF before the index and the data; real files have a dozen."""
_OWN_WORDS = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)
"""What plugins raise with a sentence for people; others quote Python at most."""


class Reader(io.BufferedReader):
    """A stream that notices when it is asked for more than there is.

    `strict` makes reading at the end an error. Pillow would hand out grey pixels there if any
    code in the process has set ImageFile.LOAD_TRUNCATED_IMAGES.
    """

    length = 0
    starved = False  # a field, not just the last of several blocks, was cut short
    strict = False
    codecs: frozenset[bytes] = frozenset()  # item types of HEIF and AVIF

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
        detail = "it is a directory, pipe, socket or device, not a regular file"
        raise SkippedImageError(SkipReason.UNREADABLE, detail)


def plugin_of(stream: Reader, max_pixels: int) -> Callable[[Reader], ImageFile.ImageFile]:
    """The Pillow plugin for this content; container formats are checked for their full length."""
    stream.seek(0)
    head = stream.read(64)
    stream.starved = False
    plugin = next((each for start, each in _PLUGINS.items() if head.startswith(start)), None)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
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
        detail = f"it starts with {head[:8].hex(' ')}, which is not a known format"
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
    for _ in range(_MAX_BOXES):
        if seen >= {b"meta", b"mdat"}:
            break
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
            stream.codecs = _item_types(stream.read(size))
        at += size
        seen.add(head[4:8])
    else:
        detail = f"its first {_MAX_BOXES:,} boxes do not hold an image"
        raise SkippedImageError(SkipReason.DAMAGED, detail)
    stream.starved = False


def _item_types(meta: bytes) -> frozenset[bytes]:
    """The types of the items that a meta box lists.

    Raises SkippedImageError for types and names that are not text: pi_heif 1.4 reads through a null
    pointer then.
    """
    types = set[bytes]()
    for kind, at, end in _boxes(meta, 12, len(meta)):  # size, kind, version and flags
        if kind != b"iinf":
            continue
        wide = meta[at : at + 1] != b"\0"  # the count's 4 bytes, or 2
        for inner, start, stop in _boxes(meta, at + (8 if wide else 6), end):
            if inner == b"infe" and meta[start : start + 1] in (b"\2", b"\3"):
                # flags, item number (wider in version 3), protection
                text = start + (8 if meta[start] == 2 else 10)
                try:
                    meta[text:stop].decode()
                except UnicodeDecodeError as error:
                    detail = "its index names an item in bytes that are not text"
                    raise SkippedImageError(SkipReason.DAMAGED, detail) from error
                types.add(meta[text : text + 4])
    return frozenset(types)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and end of the body) of the boxes one after another; up to the first bad one."""
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4]) or end - at
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        if size < head or at + size > end:
            return
        yield data[at + 4 : at + 8], at + head, at + size
        at += size


class _PngFile(Png.PngImageFile):
    """Complete pixels are a whole image, whatever is missing behind them."""

    def load_end(self) -> None:
        stream = self.fp
        if isinstance(stream, Reader):
            stream.strict = False
        try:
            super().load_end()
        except OSError as error:
            if error.errno is not None:
                raise


_PLUGINS: dict[bytes | tuple[bytes, ...], Any] = {
    b"\xff\xd8\xff": Jpeg.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": _PngFile,
    (b"GIF87a", b"GIF89a"): Gif.GifImageFile,
    b"BM": Bmp.BmpImageFile,
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"): Tiff.TiffImageFile,
}
"""By how their files begin; see `plugin_of` for others."""


def check_strips(image: Image.Image, stream: Reader) -> None:
    """Compressed TIFF: libtiff may fill in for strips that lie beyond the end of the file."""
    if isinstance(image, Tiff.TiffImageFile) and image.info.get("compression") != "raw":
        if stream.starved:
            raise EOFError("image file is truncated")
        for offsets, counts in ((273, 279), (324, 325)):  # of strips, of tiles
            pairs = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
            _check_length(max((offset + count for offset, count in pairs), default=0), stream)


def memory_limit() -> int | None:
    """Bytes that this process may allocate, if it is one that is bounded for decoding."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def explain(error: Exception, stream: Reader, image: Image.Image | None) -> SkippedImageError:
    """What a plugin's exception means for the user. ``image``: as far as it has been opened."""
    cause = " ".join(str(error).split())[:150]
    limit = memory_limit()
    if isinstance(error, MemoryError) or re.search(
        "(?i)out of memory|memory allocation|insufficient memory", cause
    ):
        within = "" if limit is None else f" within {limit / 2**30:.1f} GiB of memory"
        detail = f"it cannot be decoded{within}"
        return SkippedImageError(SkipReason.TOO_LARGE, detail, MEMORY_REMEDY)
    if isinstance(error, Image.DecompressionBombError):
        return SkippedImageError(SkipReason.TOO_LARGE, cause, "save it smaller, or as JPEG or PNG")
    if "too large" in cause:
        detail = f"its metadata unpack to more than they should ({cause})"
        return SkippedImageError(SkipReason.TOO_LARGE, detail, "save it again without metadata")
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
        return unreadable(error)
    if codec := _missing_codec(error, stream, image):
        detail = f"its pixels are coded with {codec}, which the decoder cannot read"
        return SkippedImageError(SkipReason.UNSUPPORTED, detail)
    if stream.starved or isinstance(error, EOFError) or "truncated" in cause.lower():
        detail = f"the image goes on after the end of the file at {stream.length:,} bytes"
        return SkippedImageError(SkipReason.TRUNCATED, detail)
    if re.search(r"(?i)unsupported|not (supported|installed)|unknown pixel mode", cause):
        return SkippedImageError(SkipReason.UNSUPPORTED, cause)
    if limit is not None and image is not None and 12 * image.width * image.height > limit:
        # C libraries report a refused allocation as an error like any other.
        detail = f"its data are damaged, or need more than {limit / 2**30:.1f} GiB of memory"
        return SkippedImageError(SkipReason.TOO_LARGE, detail, MEMORY_REMEDY)
    said = isinstance(error, _OWN_WORDS) and error.__cause__ is None and re.search("[a-z]", cause)
    detail = "its data cannot be decoded" + (f" ({cause})" if said else "")
    return SkippedImageError(SkipReason.DAMAGED, detail)


def _missing_codec(error: Exception, stream: Reader, image: Image.Image | None) -> str | None:
    """The codec of a TIFF or HEIF whose pixels are in one that the library was built without."""
    if isinstance(image, Tiff.TiffImageFile):
        return "WebP" if image.tag_v2.get(Tiff.COMPRESSION) == _WEBP_IN_TIFF else None
    if image is None and isinstance(error.__cause__, KeyError):  # Pillow's look-up of the number
        number = error.__cause__.args[0]
        return f"compression {number}" if _is_tiff(stream) and isinstance(number, int) else None
    if stream.codecs.isdisjoint({b"hvc1", b"av01"}):
        return next((kind.decode() for kind in _HEIF_CODECS if kind in stream.codecs), None)
    return None


def _is_tiff(stream: Reader) -> bool:
    if stream.closed:
        return False
    stream.seek(0)
    return stream.read(2) in (b"II", b"MM")


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
