"""What becomes of pixels: orientation, colour, size, and which frame of several is taken.

JPEG (and MPO), PNG, WebP, AVIF, GIF, TIFF and BMP are read by Pillow, HEIC/HEIF by
pi-heif. The content decides the format, never the name. Of animations and multi-page files the
first frame is read; if it is blank, the first later one that is not, among as many pixels as one
image may have. Everything here may run in any number of threads at once.

How each kind of pixel becomes RGB of 8 bits:
    alpha (of a channel, palette or key colour)    c' = round(a c + (1 - a) 255), that is, on white;
                                                   on black where white would hide all that is seen
    CMYK, YCCK (Adobe's inverted ones too)         R = (255 - C)(255 - K) / 255; G and B alike
    grey integers within 0..65535 of over 8 bits   round(255 v / s), s = 2^b - 1 for the fewest
                                                   b of 8, 10, 12, 14, 16 bits that hold them
    float within 0..1                              round(255 v)
    grey that fills less than 1/8 of that scale,   l..h stretched to 0..255; not a number is 0
    and any other (signed, 32 bits, float)
    RGB of 16 bits                                 the upper byte of each sample; times 255 / 3, 15
                                                   or 63 if 10, 12 or 14 bits hold all
l and h are the least and greatest value, or the percentiles 0.1 and 99.9 where the few pixels
beyond those take more than half of the range.
ICC profiles are ignored: an image in a wide gamut is read as if it were sRGB.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

from PIL import ExifTags, Image, ImageFile

from lookalike.images.containers import extensions, unpack
from lookalike.images.exif import shot_of, taken_of
from lookalike.images.formats import (
    Reader,
    Size,
    check_pixels,
    check_strips,
    explain,
    open_source,
    pillow_kept_quiet,
    plugin_of,
    unreadable,
)
from lookalike.images.outcome import (
    DEFAULT_MAX_PIXELS,
    DecodedImage,
    Note,
    SkippedImageError,
    SkipReason,
    Source,
)

_EXTENSIONS = tuple(
    b".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .gif .tif .tiff .bmp "
    b".heic .heif .hif".split()
)
_ALL_EXTENSIONS = _EXTENSIONS + extensions()
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
_GAP = 3.0
"""Pillow's reducing_gap: reduced by whole factors to three times the wanted size, then resized."""
_STRIP = 1 << 22
"""Pixels that are converted at once, so that other modes need no second image in RGB."""
_SAMPLE = 1 << 22
"""Grey values, evenly spread, of which percentiles are taken."""
_FULL_SCALES = (255, 1023, 4095, 16383, 65535)
_LOOK = 256
"""Longest side at which contrast is judged, in pixels."""
BLANK = 8
_FAINT = 32
"""Levels of 255 between the darkest and brightest value of a channel."""

Box: TypeAlias = tuple[float, float, float, float]
Conversion: TypeAlias = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, eq=False)
class Upright:
    """An upright RGB image, and what a `DecodedImage` says of the original."""

    image: Image.Image
    width: int
    height: int
    format: str
    note: Note | None
    taken: int
    shot: list[str]


def looks_like_image(name: bytes | str) -> bool:
    """Whether a file of this name (not path) is worth opening: a known extension, not hidden.

    Names with a leading dot, "._x.jpg" of macOS among them, are hidden.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return not raw.startswith(b".") and raw.lower().endswith(_ALL_EXTENSIONS)


def read_image(source: Source, size: int, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decode, turn upright, and squeeze to (size, size) by antialiased bilinear interpolation.

    The aspect ratio is not kept, as in the paper (192 x 128 becomes 192 x 192). `source` is a path
    (str, bytes or PathLike; used as it is) or the file's content as a BytesIO. Large JPEGs are
    decoded at 1/2, 1/4 or 1/8 of their size, never below twice `size` on either side.

    Raises SkippedImageError, whatever is wrong with the file. TIFF and WebP are also refused over
    Pillow's own limit of twice Image.MAX_IMAGE_PIXELS, 179 million pixels unless changed, as a
    `Decoder` does.
    """
    import numpy as np

    made = squeeze(source, size, max_pixels=max_pixels)
    pixels = np.array(made.image)
    return DecodedImage(pixels, made.width, made.height, made.format, made.note, made.taken)


def squeeze(
    source: Source, size: int, *, max_pixels: int = DEFAULT_MAX_PIXELS, keep_small: bool = False
) -> Upright:
    """As `read_image`, without NumPy.

    ``keep_small``: what is opaque RGB, upright, of one frame, and has no side above ``size`` keeps
    its own size, if a square of ``size`` is looked at as it is; whether it is blank is left open.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be 1 or more")
    decoded = _decode(source, max_pixels, lambda _: (size, size), keep_small)
    if decoded.image.size != (size, size):
        return decoded
    return replace(decoded, note=Note.BLANK) if _is_blank(decoded.image) else decoded


def read_rgb(
    source: Source, *, max_pixels: int = DEFAULT_MAX_PIXELS, longest_side: int | None = None
) -> Image.Image:
    """The upright RGB image for people to look at, aspect ratio kept, without any metadata.

    `longest_side` bounds it in pixels; it never enlarges. Raises SkippedImageError.
    """
    return look_at(source, max_pixels=max_pixels, longest_side=longest_side).image


def look_at(
    source: Source, *, max_pixels: int = DEFAULT_MAX_PIXELS, longest_side: int | None = None
) -> Upright:
    """As `read_rgb`."""

    def fit(size: Size) -> Size:
        scale = min(1.0, (longest_side or max(size)) / max(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    return _decode(source, max_pixels, fit)


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


# ---- one file ------------------------------------------------------------------------------------


def _decode(
    source: Source, max_pixels: int, fit: Callable[[Size], Size], keep_small: bool = False
) -> Upright:
    """`fit` maps the stored size to the wanted one; `keep_small` as in `squeeze`.

    Plugins are called directly, not through Image.open: that one loads every plugin and applies
    Image.MAX_IMAGE_PIXELS, a global of the process, where ours is an argument.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(source))
        stack.enter_context(pillow_kept_quiet())
        image = inner = None
        try:
            if (inner := unpack(stream, max_pixels)) is not None:
                stream = stack.enter_context(open_source(io.BytesIO(inner[0])))
            plugin = plugin_of(stream, max_pixels)
            image = plugin(stream)
            check_pixels(image.size, max_pixels)
            rgb, size, note = _frame(image, stream, fit, keep_small)
            if _has_frames(image):
                note = Note.FRAMES
                if _is_blank(rgb):
                    rgb, size = _later_frame(image, stream, fit, max_pixels) or (rgb, size)
            taken, shot = taken_of(image), shot_of(image)
        except SkippedImageError:
            raise
        except Exception as error:  # plugins raise whatever damaged bytes lead them to
            raise explain(error, stream, image) from error
    rgb.info = {}
    kind, note = (image.format or "", note) if inner is None else inner[1:]
    return Upright(rgb, *size, kind, note, taken, shot)


def _frame(
    image: ImageFile.ImageFile,
    stream: Reader,
    fit: Callable[[Size], Size],
    keep_small: bool = False,
) -> tuple[Image.Image, Size, Note | None]:
    """The current frame, resized and upright, and its upright size as it was stored."""
    size = image.size
    check_strips(image, stream)
    is_deep = any(";16" in _raw_mode(tile[3]) for tile in image.tile[:1])
    wanted = fit(size)
    drafted = image.draft(None, (2 * wanted[0], 2 * wanted[1]))  # of JPEG alone; lazy
    stream.strict = True
    image.load()
    stream.strict = False
    turn = _orientation(image)
    if keep_small and max(image.size) <= min(wanted) <= _LOOK and turn not in _TRANSPOSE:
        is_opaque = image.mode == "RGB" and not image.has_transparency_data
        wanted = image.size if is_opaque and not _has_frames(image) else wanted
    rgb, note = _resized(image, wanted, drafted[1] if drafted else None, is_deep)
    if turn in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[turn])
    elif rgb is image:  # a plain image, not one tied to a closed file
        rgb = rgb.copy()
    return rgb, size[::-1] if turn >= 5 else size, note


def _raw_mode(arguments: Any) -> str:
    """How samples lie in the file, of a tile's arguments to its decoder."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what is damaged behind the first frame does not spoil it
        return False


def _later_frame(
    image: ImageFile.ImageFile, stream: Reader, fit: Callable[[Size], Size], budget: int
) -> tuple[Image.Image, Size] | None:
    """The next frame that is not blank; None if there is none within `budget` pixels."""
    try:
        for number in count(image.tell() + 1):
            image.seek(number)
            budget -= image.width * image.height
            if budget < 0:
                return None
            rgb, size, _ = _frame(image, stream, fit)
            if not _is_blank(rgb):
                return rgb, size
    except Exception:  # no more frames, or no whole one
        pass
    return None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, 1..8; TIFF and HEIF plugins have done it by loading."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata do not spoil the pixels
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


# ---- colour and size, by the rules at the head of this file --------------------------------------


def _resized(
    image: Image.Image, size: Size, box: Box | None, is_deep: bool
) -> tuple[Image.Image, Note | None]:
    """RGB of this size. ``box``: what of a drafted image is in use; ``is_deep``: samples had 16
    bits."""
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        detail = f"its pixels are {image.mode}, not grey, palette, RGB or CMYK"
        raise SkippedImageError(SkipReason.UNSUPPORTED, detail)
    if image.mode not in _GREY_MODES and image.has_transparency_data:
        white = _rendered(image, _laid_on("white"), size, box)
        if (contrast := _contrast(white)) < _FAINT:
            black = _rendered(image, _laid_on("black"), size, box)
            if _contrast(black) > contrast:
                return black, Note.LIGHT
        return white, None
    return _rendered(image, _to_rgb(image, is_deep), size, box), None


def _to_rgb(image: Image.Image, is_deep: bool) -> Conversion:
    """Of an opaque image."""
    if image.mode in _GREY_MODES:
        return _grey_to_rgb(image)
    if image.mode != "RGB":
        return lambda strip: strip.convert("RGB")
    if is_deep and (full := _fewer_bits(image)):
        return lambda strip: strip.point(_lookup(full))
    return lambda strip: strip


def _rendered(image: Image.Image, convert: Conversion, size: Size, box: Box | None) -> Image.Image:
    """`convert(image)` resized, the same to the bit when that is done strip by strip."""
    width, height = image.size
    across = int(width / size[0] / _GAP) or 1
    down = int(height / size[1] / _GAP) or 1
    if box is not None or width * height <= _STRIP or across == down == 1:
        rgb = convert(image)
        if rgb.size != size:
            rgb = rgb.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=_GAP)
        return rgb
    small = Image.new("RGB", (math.ceil(width / across), math.ceil(height / down)))
    for top, strip in _strips(image, down):
        small.paste(convert(strip).reduce((across, down)), (0, top // down))
    whole = (0, 0, width / across, height / down)
    return small.resize(size, Image.Resampling.BILINEAR, box=whole)


def _strips(image: Image.Image, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """The image from top to bottom, a multiple of so many rows at a time, each with its first."""
    width, height = image.size
    rows = max(1, _STRIP // width // multiple) * multiple
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _laid_on(colour: str) -> Conversion:
    def convert(strip: Image.Image) -> Image.Image:
        if strip.mode == "La":
            strip = strip.convert("LA")
        strip = strip.convert("RGBA")
        ground = Image.new("RGB", strip.size, colour)
        ground.paste(strip, mask=strip.getchannel("A"))
        return ground

    return convert


def _contrast(rgb: Image.Image) -> int:
    """Levels between the darkest and the brightest value of a channel, the most of the three."""
    return _spread(_looked_at(rgb))


def _is_blank(rgb: Image.Image) -> bool:
    small = _looked_at(rgb)
    few = small.resize((8, 8), Image.Resampling.NEAREST)  # enough for nearly every image
    return _spread(few) <= BLANK and _spread(small) <= BLANK


def _looked_at(rgb: Image.Image) -> Image.Image:
    if max(rgb.size) <= _LOOK:
        return rgb
    scale = _LOOK / max(rgb.size)
    width, height = (max(1, round(side * scale)) for side in rgb.size)
    return rgb.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=_GAP)


def _spread(rgb: Image.Image) -> int:
    return max(high - low for low, high in _extrema(rgb))


def _extrema(rgb: Image.Image) -> list[tuple[int, int]]:
    found: Any = rgb.getextrema()
    return list(found)


def _fewer_bits(image: Image.Image) -> int | None:
    """The greatest upper byte of 10, 12 or 14 bits, if those hold all; None: it takes all 16."""
    most = max(high for _, high in _extrema(image))
    return next((full >> 8 for full in _FULL_SCALES[1:-1] if most <= full >> 8), None)


def _lookup(full: int) -> list[int]:
    return [min(255, round(255 * value / full)) for value in range(256)] * 3


def _grey_to_rgb(image: Image.Image) -> Conversion:
    """Of a grey image of more than 8 bits."""
    import numpy as np

    is_float = image.mode == "F"
    step = math.ceil(math.sqrt(image.width * image.height / _SAMPLE)) or 1
    least, most = math.inf, -math.inf
    samples = []
    for _, strip in _strips(image, step):
        values = np.asarray(strip)
        sample = values[::step, ::step]
        if is_float:
            values, sample = values[np.isfinite(values)], sample[np.isfinite(sample)]
        if values.size:
            least, most = min(least, float(values.min())), max(most, float(values.max()))
        samples.append(sample.ravel())
    known = np.concatenate(samples)
    if least > most:  # not a number at all
        least = most = 0.0
    if known.size and most > least:
        low, high = (float(value) for value in np.percentile(known, (0.1, 99.9)))
        if high > low and most - least > 2 * (high - low):  # a few pixels are far from all others
            least, most = low, high
    scales = (1,) if is_float else _FULL_SCALES
    full = next((scale for scale in scales if least >= 0 and most <= scale), None)
    if full is not None and (most == least or most - least >= full / 8):
        least, most = 0.0, float(full)
    factor = 255 / (most - least) if most > least else 0.0

    def convert(strip: Image.Image) -> Image.Image:
        grey = np.asarray(strip)
        scaled = grey.astype(np.float64)
        if is_float:
            scaled[~np.isfinite(grey)] = least
        scaled -= least
        scaled *= factor
        np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
        if is_float:
            scaled[~np.isfinite(grey)] = 0
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")

    return convert
