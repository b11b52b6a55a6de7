"""Image files to RGB arrays: formats, orientation, limits, and the reason when a file is skipped.

JPEG (and MPO), PNG, WebP, AVIF, GIF, TIFF and BMP are read by Pillow, HEIC/HEIF by the extra
`heif`. The content decides the format, never the name. Of animations and multi-page files the
first frame is read. Everything here may run in any number of threads at once.

How each kind of pixel becomes RGB of 8 bits:
    alpha (of a channel, palette or key colour)    c' = round(a c + (1 - a) 255), that is, on white
    CMYK, YCCK (Adobe's inverted ones too)         R = (255 - C)(255 - K) / 255; G and B alike
    grey integers within 0..65535 of over 8 bits   round(v / 257)
    float within 0..1                              round(255 v)
    any other grey (signed, 32 bits, float)        min..max stretched to 0..255; not a number is 0
    RGB of 16 bits                                 the upper byte of each sample
ICC profiles are ignored: a picture in a wide gamut is read as if it were sRGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from lookalike.imagefile import (
    Size,
    SkippedImageError,
    SkipReason,
    Source,
    check_pixels,
    check_strips,
    explain,
    open_source,
    pillow_kept_quiet,
    plugin_of,
    unreadable,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Picture",
    "SkipReason",
    "SkippedImageError",
    "content_hash",
    "looks_like_image",
    "read_picture",
    "read_rgb",
]

DEFAULT_MAX_PIXELS = 200_000_000

_EXTENSIONS = tuple(
    b".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .gif .tif .tiff .bmp "
    b".heic .heif .hif".split()
)
_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_COLOUR_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA"})
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """What the encoder takes, and what the gallery remembers of the original."""

    pixels: NDArray[np.uint8]  # (size, size, 3), RGB, C-contiguous
    width: int  # of the original, upright
    height: int
    format: str  # by content: "JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP" or "HEIF"


def looks_like_image(name: bytes | str) -> bool:
    """Whether a file of this name (not path) is worth opening: a known extension, not hidden.

    Names with a leading dot, "._x.jpg" of macOS among them, are hidden.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return not raw.startswith(b".") and raw.lower().endswith(_EXTENSIONS)


def read_picture(source: Source, size: int, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode, turn upright, and squeeze to (size, size) by antialiased bilinear interpolation.

    The aspect ratio is not kept, as in the paper (192 x 128 becomes 192 x 192). `source` is a path
    (str, bytes or PathLike; used as it is) or the file's content as a BytesIO. Large JPEGs are
    decoded at 1/2, 1/4 or 1/8 of their size, never below twice `size` on either side.

    Raises SkippedImageError, whatever is wrong with the file. TIFF and WebP are also refused over
    Pillow's own limit of twice Image.MAX_IMAGE_PIXELS, 179 million pixels unless changed.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be 1 or more")
    image, (width, height), kind = _decode(source, max_pixels, lambda _: (size, size))
    return Picture(np.array(image), width, height, kind)


def read_rgb(
    source: Source, *, max_pixels: int = DEFAULT_MAX_PIXELS, longest_side: int | None = None
) -> Image.Image:
    """The upright RGB image for people to look at, aspect ratio kept, without any metadata.

    `longest_side` bounds it in pixels; it never enlarges. Raises SkippedImageError.
    """

    def fit(size: Size) -> Size:
        scale = min(1.0, (longest_side or max(size)) / max(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    return _decode(source, max_pixels, fit)[0]


def content_hash(source: Source) -> bytes:
    """BLAKE2b of the file's content, 16 bytes, read in pieces; the name plays no part.

    Raises SkippedImageError if there is no content: the reasons EMPTY, UNREADABLE and VANISHED.
    """
    try:
        with open_source(source) as stream:
            stream.seek(0)
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError as error:
        raise unreadable(error) from error


def _decode(
    source: Source, max_pixels: int, fit: Callable[[Size], Size]
) -> tuple[Image.Image, Size, str]:
    """The upright image, the original's upright (width, height), and the format.

    `fit` maps the stored size to the wanted one. Plugins are called directly, not through
    Image.open: that one loads every plugin and applies Image.MAX_IMAGE_PIXELS, a global of the
    process, where ours is an argument.
    """
    with open_source(source) as stream, pillow_kept_quiet():
        try:
            plugin = plugin_of(stream, max_pixels)
            image = plugin(stream)
            size, kind = image.size, image.format or ""
            check_pixels(size, max_pixels)
            check_strips(image, stream)
            width, height = fit(size)
            drafted = image.draft(None, (2 * width, 2 * height))  # of JPEG alone; lazy
            stream.strict = True
            image.load()
            stream.strict = False
            turn = _orientation(image)
            box = drafted[1] if drafted else (0, 0, *image.size)
            rgb = _to_rgb(image)
            if rgb.size != (width, height):
                rgb = rgb.resize(
                    (width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0
                )
            if turn in _TRANSPOSE:
                rgb = rgb.transpose(_TRANSPOSE[turn])
            elif rgb is image:  # a plain image, not one tied to a closed file
                rgb = rgb.copy()
        except SkippedImageError:
            raise
        except Exception as error:  # plugins raise whatever damaged bytes lead them to
            raise explain(error, stream) from error
    rgb.info = {}
    return rgb, size[::-1] if turn >= 5 else size, kind


def _to_rgb(image: Image.Image) -> Image.Image:
    """By the rules at the head of this file."""
    if image.mode in _GREY_MODES:
        return Image.fromarray(_grey_to_bytes(np.asarray(image))).convert("RGB")
    if image.mode not in _COLOUR_MODES:
        detail = f"its pixels are {image.mode}, not grey, palette, RGB or CMYK"
        raise SkippedImageError(SkipReason.UNSUPPORTED, detail)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_bytes(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w) of any number type -> (h, w) uint8, by the rules at the head of this file."""
    is_float = grey.dtype.kind == "f"
    known = grey[np.isfinite(grey)] if is_float else grey
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if low >= 0 and high <= 65535 and not is_float:
        return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    scaled = grey.astype(np.float64)
    if low < 0 or high > 1:
        scaled = (scaled - low) / ((high - low) or 1.0)
    scaled[~np.isfinite(scaled)] = 0
    bytes_: NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
    return bytes_


def _orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, 1..8; TIFF and HEIF plugins have done it by loading."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata do not spoil the pixels
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1
