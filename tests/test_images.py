"""Decoding against NumPy oracles, and every way in which a file can fail to be an image."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from hostile import encode, photo, png, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from lookalike.images import (
    Note,
    SkippedImageError,
    SkipReason,
    content_hash,
    looks_like_image,
    read_image,
    read_rgb,
)
from lookalike.images import pixels as pixels_module

Array = NDArray[Any]
RGB = photo(0)  # 48 x 64 x 3


def rgb_of(data: bytes) -> Array:
    """(h, w, 3) int64, at full size."""
    return np.asarray(read_rgb(io.BytesIO(data))).astype(np.int64)


def reason_of(source: Any, **options: Any) -> SkippedImageError:
    with pytest.raises(SkippedImageError) as caught:
        read_image(source, 32, **options)
    return caught.value


def hash_reason_of(source: Any) -> SkipReason:
    with pytest.raises(SkippedImageError) as caught:
        content_hash(source)
    return caught.value.reason


def as_rgb(grey: Array) -> Array:
    return np.dstack([grey] * 3).astype(np.int64)


def on_white(colour: Array, alpha: Array) -> Array:
    """round(a c + (1 - a) 255) for alpha of 0..255 as (h, w)."""
    a = alpha[..., None] / 255
    return np.floor(a * colour + (1 - a) * 255 + 0.5).astype(np.int64)


def squeezed(rgb: Array, height: int, width: int) -> Array:
    """Antialiased bilinear interpolation by its definition: a triangle as wide as the scale."""

    def weights(length: int, size: int) -> Array:
        scale = length / size
        support = max(scale, 1.0)
        centres = (np.arange(size)[:, None] + 0.5) * scale
        w = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centres) / support)
        result: Array = w / w.sum(axis=1, keepdims=True)
        return result

    rows, columns = weights(rgb.shape[0], height), weights(rgb.shape[1], width)
    result: Array = np.einsum(
        "ih,hwc,jw->ijc", rows, rgb.astype(np.float64), columns, optimize=True
    )
    return result


# Formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "lost"),
    [
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True, "exact": True}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate", "strip_size": 512}, 0),
        ("TIFF", {"compression": "packbits"}, 0),
        ("TIFF", {"big_tiff": True}, 0),
        # what these qualities lose on smooth colours
        ("JPEG", {"quality": 95, "subsampling": 0}, 3),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 3),
        ("WEBP", {"quality": 95}, 3),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 3),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 3),
    ],
)
def test_a_format_gives_back_the_pixels(kind: str, options: dict[str, Any], lost: float) -> None:
    data = encode(RGB, kind, **options)
    assert np.abs(rgb_of(data) - RGB).mean() <= lost
    image = read_image(io.BytesIO(data), 48)
    assert (image.width, image.height, image.format) == (64, 48, kind)


@pytest.mark.skipif(not hostile.HAS_HEIF, reason="needs pi-heif")
@pytest.mark.parametrize(("data", "quarter_turns"), [(hostile.HEIC, 0), (hostile.HEIC_TURNED, 3)])
def test_heic_gives_nearly_the_pixels_and_is_turned_once(data: bytes, quarter_turns: int) -> None:
    y, x = np.mgrid[0:24, 0:32]
    expected = np.rot90(np.dstack([x * 8, y * 10, (x + y) * 4]), quarter_turns)
    assert np.abs(rgb_of(data) - expected).mean() < 2  # quality 60
    image = read_image(io.BytesIO(data), 8)
    assert (image.height, image.width, image.format) == (*expected.shape[:2], "HEIF")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encode(first, kind, save_all=True, append_images=[second])
    assert np.abs(rgb_of(data) - (255, 0, 0)).max() <= 3  # JPEG and AVIF round colours
    if kind == "MPO":  # the second image is a gain map or a preview
        textured = encode(RGB, kind, save_all=True, append_images=[second])
        assert read_image(io.BytesIO(textured), 16).note is None


FRAMED = ["GIF", "PNG", "WEBP", "TIFF", "AVIF"]


def frames(kind: str, *images: Any) -> bytes:
    first, *others = [Image.fromarray(np.asarray(image)) for image in images]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return encode(first, kind, save_all=True, append_images=others, **options)


def blank(level: int) -> Array:
    return np.full((48, 64, 3), level, np.uint8)


@pytest.mark.parametrize("kind", FRAMED)
def test_a_blank_first_frame_gives_way_to_the_first_that_is_not(kind: str) -> None:
    other = photo(5)
    data = frames(kind, blank(0), blank(0) + 3, RGB, other)
    expected = RGB if kind != "GIF" else np.asarray(Image.fromarray(RGB).quantize().convert("RGB"))
    assert np.abs(rgb_of(data) - expected).mean() < 6  # GIF and AVIF lose colours
    image = read_image(io.BytesIO(data), 32)
    assert image.note is Note.FRAMES
    plain = read_image(io.BytesIO(encode(RGB, "PNG")), 32)
    assert np.abs(image.pixels.astype(int) - plain.pixels).mean() < 6
    nothing = frames(kind, blank(255), blank(0))
    assert np.array_equal(rgb_of(nothing), blank(255))
    assert read_image(io.BytesIO(nothing), 32).note is Note.BLANK


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_what_is_damaged_behind_the_first_frame_does_not_spoil_it(kind: str) -> None:
    for first in (RGB, blank(0)):
        whole = frames(kind, first, photo(5), photo(6))
        broken = bytearray(whole)
        at = 2 * len(whole) // 3
        broken[at : at + 200] = b"\xff" * 200
        try:
            rgb = rgb_of(bytes(broken))
        except SkippedImageError:
            continue  # a plugin that looks at all frames first
        if first is RGB:
            assert np.abs(rgb - rgb_of(whole)).max() == 0


def test_later_frames_count_towards_the_limit_of_pixels() -> None:
    data = frames("GIF", blank(0), *[blank(level) for level in (1, 2, 3)], RGB)
    area = 48 * 64
    shown = read_image(io.BytesIO(data), 16, max_pixels=4 * area).pixels
    assert shown.std() > 5
    assert read_image(io.BytesIO(data), 16, max_pixels=3 * area).pixels.std() == 0


def test_an_image_of_one_colour_is_noted_as_blank_and_one_with_a_faint_shape_is_not() -> None:
    for level in (0, 100, 255):
        assert read_image(io.BytesIO(encode(blank(level), "PNG")), 32).note is Note.BLANK
    faint = blank(200)
    faint[10:30, 20:40] -= 12
    for kind in ("PNG", "JPEG"):
        assert read_image(io.BytesIO(encode(faint, kind)), 32).note is None
    assert read_image(io.BytesIO(encode(RGB, "JPEG")), 32).note is None


# Modes --------------------------------------------------------------------------------------------

GREY = RGB[..., 0]
ALPHA = np.broadcast_to(np.arange(64, dtype=np.uint8) * 4, (48, 64))


def modes() -> Iterator[tuple[str, bytes, Array]]:
    """A file of each mode of up to 8 bits, and the RGB that it stands for."""
    palette = np.random.default_rng(3).integers(0, 256, (256, 3), dtype=np.uint8)
    indexed = Image.fromarray(GREY)
    indexed.putpalette(palette.tobytes())
    bits = Image.fromarray(GREY > 127)
    assert (bits.mode, indexed.mode) == ("1", "P")
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        yield "grey", encode(GREY, kind), as_rgb(GREY)
        yield "one bit", encode(bits, kind), as_rgb(np.where(GREY > 127, 255, 0))
        yield "palette", encode(indexed, kind), palette[GREY]
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        yield "alpha", encode(np.dstack([RGB, ALPHA]), kind, **options), on_white(RGB, ALPHA)
    alpha = np.arange(256)[::-1]
    data = encode(indexed, "PNG", transparency=bytes(alpha.tolist()))
    yield "transparent palette", data, on_white(palette[GREY], alpha[GREY])
    key = int(GREY[5, 7])
    is_key = np.equal(GREY, key)[..., None]
    gif = encode(indexed, "GIF", transparency=key)
    yield "transparent index", gif, np.where(is_key, 255, palette[GREY])
    yield "key grey", encode(GREY, "PNG", transparency=key), np.where(is_key, 255, as_rgb(GREY))
    colour = RGB[5, 7]
    data = encode(RGB, "PNG", transparency=tuple(colour.tolist()))
    yield "key colour", data, np.where((colour == RGB).all(axis=-1, keepdims=True), 255, RGB)


def test_modes_of_8_bits_become_rgb_and_what_is_transparent_is_laid_on_white() -> None:
    for name, data, expected in modes():
        np.testing.assert_array_equal(rgb_of(data), expected, err_msg=name)


SHAPE = np.zeros((48, 64), np.uint8)
SHAPE[10:30, 5:50] = 255


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_what_white_would_hide_is_laid_on_black(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(np.dstack([blank(255), SHAPE]), kind, **options)
    np.testing.assert_array_equal(rgb_of(data), as_rgb(SHAPE))
    image = read_image(io.BytesIO(data), 32)
    assert image.note is Note.LIGHT
    assert image.pixels.std() > 50


@pytest.mark.parametrize(
    ("level", "alpha"),
    [
        (0, SHAPE),
        (200, SHAPE),  # grey on white is seen
        (255, np.full_like(SHAPE, 255)),  # nothing is transparent
        (255, np.zeros_like(SHAPE)),  # nothing is seen
        (0, SHAPE // 16),  # faint, and fainter on black
    ],
)
def test_white_stays_where_it_hides_nothing_or_black_would_hide_more(
    level: int, alpha: Array
) -> None:
    data = encode(np.dstack([blank(level), alpha]), "PNG")
    np.testing.assert_array_equal(rgb_of(data), on_white(blank(level), alpha))


RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


UNIT = RAMP / 65535


def greys() -> Iterator[tuple[str, bytes, Array]]:
    """Grey files of more than 8 bits, and the levels that the rules give."""
    whole = np.rint(UNIT * 255)
    yield "16 bits, PNG", encode(RAMP, "PNG"), whole
    yield "16 bits, TIFF", encode(RAMP, "TIFF"), whole
    big = encode(Image.fromarray(RAMP.astype(">u2")), "TIFF")
    assert Image.open(io.BytesIO(big)).mode == "I;16B"
    yield "big-endian", big, whole
    yield "32 bits", encode(RAMP.astype(np.int32), "TIFF"), whole
    yield "signed", encode(RAMP.astype(np.int32) - 1000, "TIFF"), whole  # stretched
    for bits in (8, 10, 12, 14, 16):
        full = 2**bits - 1
        values = np.rint(GREY / 255 * full).astype(np.uint16)
        values[0, 0] = full
        for kind in ("PNG", "TIFF"):
            yield f"{bits} in 16 bits", encode(values, kind), np.rint(values / full * 255)
    low, high = int(GREY.min()), int(GREY.max())
    stretched = np.rint((GREY.astype(float) - low) / (high - low) * 255)
    narrow = GREY * 8.0 + 28_000  # of a radiometric camera: hundredths of a Kelvin around 300
    for dtype in (np.uint16, np.int32, np.float32):
        yield f"narrow {dtype}", encode(narrow.astype(dtype), "TIFF"), stretched
    yield "narrow, PNG", encode(narrow.astype(np.uint16), "PNG"), stretched
    for outlier in (1e30, -1e30, 65_535.0):  # far from all others, which it does not flatten
        unit = (GREY / 255).astype(np.float32)
        unit[3, 4] = outlier
        expected = np.clip(np.rint(unit.astype(np.float64) * 255), 0, 255)
        yield f"outlier {outlier}", encode(unit, "TIFF"), expected
    for level, grey in ((0, 0), (30_000, 117), (65_535, 255), (1000, 249)):
        constant = np.full((4, 4), level, np.uint16)
        yield f"constant {level}", encode(constant, "PNG"), np.full((4, 4), grey)
    half = (UNIT * 0.5).astype(np.float32)
    yield "floats in 0..1", encode(half, "TIFF"), np.rint(half.astype(np.float64) * 255)
    yield "other floats", encode(RAMP.astype(np.float32) * 3 - 70000, "TIFF"), whole
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    expected = np.where(np.isfinite(values), 128, 0)  # rint(127.5) is even
    yield "not finite", encode(values, "TIFF"), expected
    for value in (np.nan, 7):
        constant = np.full((4, 4), value, np.float32)
        yield f"all {value}", encode(constant, "TIFF"), np.zeros((4, 4))


def test_grey_of_more_than_8_bits_is_scaled_by_the_rules() -> None:
    for name, data, expected in greys():
        np.testing.assert_array_equal(rgb_of(data), as_rgb(expected), err_msg=name)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_rgb_stored_in_16_bits_fills_the_scale_by_its_upper_bytes(bits: int) -> None:
    deep = np.random.default_rng(5).integers(0, 2**bits, (48, 64, 3), dtype=np.uint16)
    rows = [row.astype(">u2").tobytes() for row in deep]
    expected = np.rint((deep >> 8) / ((2**bits - 1) >> 8) * 255)
    np.testing.assert_array_equal(rgb_of(png((64, 48), 16, 2, rows)), expected)
    data = tiff((64, 48), 16, 3, 2, deep.astype("<u2").tobytes())
    np.testing.assert_array_equal(rgb_of(data), expected)


def test_a_dark_image_of_8_bits_stays_dark() -> None:
    np.testing.assert_array_equal(rgb_of(encode(RGB // 16, "PNG")), RGB // 16)
    for compression in ("raw", "tiff_lzw"):
        for extra in range(16, 20):  # the pixels begin at offsets with a 16 in them as well
            data = encode(RGB // 16, "TIFF", compression=compression, description="x" * extra * 80)
            np.testing.assert_array_equal(rgb_of(data), RGB // 16)


def test_strips_give_the_very_pixels_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    rgb = rng.integers(0, 256, (301, 403, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (301, 403), dtype=np.uint8)
    deep = rng.integers(0, 65_536, (301, 403), dtype=np.uint16)
    for data in (
        encode(np.dstack([rgb, alpha]), "PNG"),
        encode(Image.fromarray(rgb).quantize(32), "PNG"),
        encode(Image.fromarray(rgb).convert("CMYK"), "TIFF"),
        encode(deep, "PNG"),
        encode(Image.fromarray(deep.astype(">u2")), "TIFF"),
        encode(deep.astype(np.float32) / 65_535, "TIFF"),
        encode(deep.astype(np.int32) - 40_000, "TIFF"),
        encode(rgb[..., 0] > 99, "PNG"),
    ):
        for size in (16, 23):
            with monkeypatch.context() as patched:
                whole = read_image(io.BytesIO(data), size)
                patched.setattr(pixels_module, "_STRIP", 5000)
                strips = read_image(io.BytesIO(data), size)
            np.testing.assert_array_equal(strips.pixels, whole.pixels)


def inked(inks: Array) -> Image.Image:
    return Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes())


def test_cmyk_and_ycck_follow_the_formula_and_are_not_read_as_negatives() -> None:
    inks = np.dstack([photo(7), photo(8)[..., :1]])
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(rgb_of(encode(inked(inks), "TIFF")) - expected).max() <= 1  # two roundings
    data = encode(inked(inks), "JPEG", quality=100, subsampling=0)
    assert np.abs(rgb_of(data) - expected).max() <= 6  # quality 100 loses a level or two
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    # Pillow writes 255 - v and calls it CMYK (transform 0 in APP14); YCCK is transform 2
    stored = np.dstack([255 - luma, inks[..., 3:]])
    ycck = bytearray(encode(inked(stored), "JPEG", quality=100, subsampling=0))
    ycck[ycck.index(b"Adobe") + 11] = 2
    assert np.abs(rgb_of(bytes(ycck)) - expected).max() <= 8  # two colour conversions


# Orientation --------------------------------------------------------------------------------------

UPRIGHT: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "LZW", "JPEG", "AVIF"])
@pytest.mark.parametrize("tag", UPRIGHT)
def test_every_exif_orientation_is_turned_upright(kind: str, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    options: dict[str, Any] = {"exif": exif.tobytes()}
    if kind == "WEBP":
        options["lossless"] = True
    if kind == "LZW":
        options["compression"] = "tiff_lzw"
    data = encode(RGB, "TIFF" if kind == "LZW" else kind, **options)
    expected = UPRIGHT[tag](RGB)
    tolerance = {"JPEG": 4, "AVIF": 6}.get(kind, 0)  # mean, default quality
    assert np.abs(rgb_of(data) - expected).mean() <= tolerance
    image = read_image(io.BytesIO(data), 24)
    assert (image.height, image.width) == expected.shape[:2]
    assert np.abs(image.pixels - squeezed(expected, 24, 24)).mean() <= tolerance + 1


def test_damaged_exif_does_not_lose_the_image() -> None:
    for damage in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40, b"Exif\0\0nonsense"):
        data = encode(RGB, "JPEG", exif=damage, quality=95)
        assert np.abs(rgb_of(data) - RGB).mean() < 3  # and no warning, which pytest makes an error


# Size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "size"), [(128, 192, 192), (128, 192, 64), (10, 7, 9)])
def test_squeezing_is_antialiased_bilinear(height: int, width: int, size: int) -> None:
    rgb = np.random.default_rng(9).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = read_image(io.BytesIO(encode(rgb, "PNG")), size).pixels
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (
        np.abs(pixels - squeezed(rgb, size, size)).max() <= 1.01
    )  # two roundings, rows and columns


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_fast_path_stays_within_two_levels_of_the_full_one(kind: str) -> None:
    from skimage.data import astronaut

    small = Image.fromarray(astronaut())  # type: ignore[no-untyped-call]
    large = small.resize((2600, 1900), Image.Resampling.BICUBIC)
    data = encode(large, kind, **({"quality": 92} if kind == "JPEG" else {"compress_level": 1}))
    full = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    difference = np.abs(read_image(io.BytesIO(data), 192).pixels - squeezed(full, 192, 192))
    assert difference.mean() < 1
    assert np.percentile(difference, 99.9) < 8


def test_a_bounded_image_keeps_its_aspect_ratio_and_is_never_enlarged() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(photo(1, 300, 1000), "JPEG", exif=exif.tobytes())
    assert read_rgb(io.BytesIO(data), longest_side=100).size == (30, 100)
    assert read_rgb(io.BytesIO(data), longest_side=4000).size == (300, 1000)
    bounded = read_rgb(io.BytesIO(encode(RGB, "PNG")), longest_side=32)
    assert np.abs(np.asarray(bounded) - squeezed(RGB, 24, 32)).max() <= 1.01
    assert bounded.info == {}
    assert read_rgb(io.BytesIO(encode(photo(1, 1, 400), "PNG")), longest_side=10).size == (10, 1)


# Names and sources --------------------------------------------------------------------------------


CANDIDATES = ["a.jpg", "A.JPEG", "b.Png", "c.webp", "d.avif", "e.gif", "f.tif", "g.TIFF", "h.bmp"]
CANDIDATES += ["i.heic", "j.HIF", "k.heif", "l.mpo", "-rf.jpg", "new\nline.jpg", "two.dots.png"]
CANDIDATES += ["not utf-8 \udcff.jpg", "\ud800.jpg"]
OTHERS = ["a.svg", "a.txt", "jpg", "a.jpg.part", "a.jpg~", "a.mp3", "a.pdf", "", "a."]
OTHERS += [".hidden.jpg", "._a.jpg", ".jpg", ".DS_Store", "Thumbs.db", "desktop.ini"]


def test_names_of_images_are_candidates_and_others_are_not() -> None:
    for names, expected in ((CANDIDATES, True), (OTHERS, False)):
        for name in names:
            assert looks_like_image(name) == expected, ascii(name)
            assert looks_like_image(name.encode("utf-8", "surrogatepass")) == expected


def test_every_good_file_is_read_by_any_kind_of_source(tmp_path: Path) -> None:
    files = hostile.make_good_files(tmp_path)
    assert len(files) >= 40
    for path in files:
        assert looks_like_image(path.name)
        by_path = read_image(path, 16)
        with io.BytesIO(path.read_bytes()) as content:
            content.seek(5)
            sources: list[Any] = [str(path), os.fsencode(path), content]
            for source in sources:
                np.testing.assert_array_equal(read_image(source, 16).pixels, by_path.pixels)
            assert content.tell() == 5  # the caller's stream stays where it was
        assert by_path.pixels.std() > 5  # not a blank


# Refusals -----------------------------------------------------------------------------------------


def test_every_hostile_file_is_skipped_for_its_reason(tmp_path: Path) -> None:
    expected = hostile.make_hostile_files(tmp_path)
    assert len(expected) >= 40
    wrong = {}
    for path, reason in expected.items():
        error = reason_of(path)
        assert str(error) == f"{error.reason.value}: {error.detail}; {error.remedy}"
        assert error.detail
        assert error.remedy
        if error.reason is not reason:
            wrong[path.name] = (reason, str(error))
    assert wrong == {}


def small_files() -> dict[str, bytes]:
    files = {
        "JPEG": encode(RGB, "JPEG"),
        "progressive": encode(RGB, "JPEG", progressive=True),
        "PNG": encode(RGB, "PNG"),
        "palette": encode(Image.fromarray(RGB).quantize(16), "PNG"),
        "VP8": encode(RGB, "WEBP"),
        "VP8L": encode(RGB, "WEBP", lossless=True),
        "VP8X": encode(np.dstack([RGB, ALPHA]), "WEBP"),
        "AVIF": encode(RGB, "AVIF"),
        "GIF": encode(RGB, "GIF"),
        "BMP": encode(RGB, "BMP"),
        "TIFF": encode(RGB, "TIFF"),
        "LZW": encode(RGB, "TIFF", compression="tiff_lzw"),
        "deflate": encode(RGB, "TIFF", compression="tiff_adobe_deflate"),
        "JPEG in TIFF": encode(RGB, "TIFF", compression="jpeg"),
    }
    return files | ({"HEIF": hostile.HEIC_TURNED} if hostile.HAS_HEIF else {})


FILES = small_files()


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_no_truncated_file_is_read(
    name: str, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # as others may have set it
    data = FILES[name]
    # What follows is not the image: the trailer of GIF; checksums and IEND of PNG, some 20 bytes.
    tail = 24 if data.startswith(b"\x89PNG") else 12
    for length in {*range(1, 64), *np.linspace(64, len(data) - tail, 60, dtype=int).tolist()}:
        error = reason_of(io.BytesIO(data[:length]))
        allowed = (SkipReason.TRUNCATED, SkipReason.NOT_AN_IMAGE)[: 1 if length > 12 else 2]
        assert error.reason in allowed, f"{name}[:{length}] {error}"


def test_pixels_of_a_kind_that_pillow_does_not_know_are_not_blamed_on_a_codec() -> None:
    error = reason_of(io.BytesIO(tiff((8, 8), 5, 1, 1, bytes(64))))
    assert (error.reason, error.detail) == (SkipReason.UNSUPPORTED, "unknown pixel mode")


def test_a_png_that_lacks_only_what_follows_its_pixels_is_read_whole() -> None:
    for name in ("PNG", "palette"):
        data = FILES[name]
        whole = rgb_of(data)
        for missing in (*range(1, 17), 12 + 4 + 3):
            np.testing.assert_array_equal(rgb_of(data[:-missing]), whole)
        late = data[:-12] + b"\0\0\1\0tEXtcut short"  # a chunk behind the pixels that ends early
        np.testing.assert_array_equal(rgb_of(late), whole)


def test_a_file_over_the_limit_is_refused_with_both_numbers_before_decoding_and_one_at_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    for name in ("JPEG", "PNG", "VP8", "VP8L", "VP8X", "AVIF", "GIF", "BMP", "TIFF", "LZW"):
        error = reason_of(io.BytesIO(FILES[name]), max_pixels=48 * 64 - 1)
        assert error.reason is SkipReason.TOO_LARGE
        assert error.detail == "64 x 48 = 3,072 pixels, the limit is 3,071"
        assert "--max-pixels" in error.remedy

    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # is neither asked nor moved
    for name in ("JPEG", "PNG", "GIF", "BMP"):
        assert read_image(io.BytesIO(FILES[name]), 8, max_pixels=48 * 64).width == 64
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_has_no_content_has_neither_pixels_nor_hash_but_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty.png").touch()
    sources: list[tuple[Any, SkipReason]] = [
        (tmp_path / "gone.jpg", SkipReason.VANISHED),
        (tmp_path / "file" / "under a file.jpg", SkipReason.VANISHED),
        (tmp_path / "empty.png", SkipReason.EMPTY),
        (io.BytesIO(), SkipReason.EMPTY),
        (tmp_path, SkipReason.UNREADABLE),
        ("nul\0byte.jpg", SkipReason.UNREADABLE),
        ("x" * 5000 + ".jpg", SkipReason.UNREADABLE),
        ("\ud800.jpg", SkipReason.UNREADABLE),
    ]
    for source, reason in sources:
        assert (reason_of(source).reason, hash_reason_of(source)) == (reason, reason), source

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    error = reason_of(tmp_path / "file")
    assert error.reason is SkipReason.UNREADABLE
    assert error.detail == "it cannot be read (Permission denied)"
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    if os.path.exists("/dev/zero"):
        assert reason_of("/dev/zero").reason is SkipReason.UNREADABLE


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), SkipReason.UNREADABLE),
        (MemoryError(), SkipReason.TOO_LARGE),
        (OSError("out of memory when reading image file"), SkipReason.TOO_LARGE),
        (Image.DecompressionBombError("Image size exceeds limit"), SkipReason.TOO_LARGE),
        (SyntaxError("broken PNG file"), SkipReason.DAMAGED),
        (IndexError("list index out of range"), SkipReason.DAMAGED),
        (TypeError("ord() expected a character"), SkipReason.DAMAGED),
        (RuntimeError("line\nbreak"), SkipReason.DAMAGED),
        (EOFError(), SkipReason.TRUNCATED),
    ],
)
def test_whatever_a_plugin_raises_becomes_a_skip(
    error: Exception, reason: SkipReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    skipped = reason_of(io.BytesIO(FILES["PNG"]))
    assert skipped.reason is reason
    assert "\n" not in str(skipped)
    if isinstance(error, TypeError | IndexError):  # of Python, and of no use outside it
        assert skipped.detail == "its data cannot be decoded"
    assert skipped.__cause__ is error


# Content ------------------------------------------------------------------------------------------


def test_the_content_hash_is_blake2b_of_16_bytes_for_any_kind_of_source(tmp_path: Path) -> None:
    block = bytes(1 << 18)  # what hashlib reads at a time
    for data in (b"abc", FILES["PNG"], block, block * 3 + b"rest"):
        expected = hashlib.blake2b(data, digest_size=16).digest()
        path = tmp_path / "no image, and not asked.txt"
        path.write_bytes(data)
        content = io.BytesIO(data)
        content.seek(2)
        for source in (path, str(path), os.fsencode(path), content):
            assert content_hash(source) == expected
        assert content.tell() == 2
    known = "cf4ab791c62b8d2b2109c90275287816"  # b2sum -l 128
    assert content_hash(io.BytesIO(b"abc")).hex() == known


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_put_in_the_files_place_does_not_hang_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pipe = tmp_path / "was a file.jpg", tmp_path / "pipe"
    path.write_bytes(FILES["JPEG"])
    os.mkfifo(pipe)
    stat_of = os.stat

    def swap(name: Any) -> os.stat_result:
        status = stat_of(name)
        pipe.replace(path)
        return status

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", swap)
        with pytest.raises(SkippedImageError) as caught:
            content_hash(path)
    assert caught.value.reason is SkipReason.UNREADABLE
    assert "not a regular file" in caught.value.detail


def test_a_skip_survives_pickling() -> None:
    error = reason_of(io.BytesIO(b""))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.reason) == (str(error), SkipReason.EMPTY)


# Anything at all ----------------------------------------------------------------------------------


def reads_or_skips(data: bytes) -> None:
    try:
        image = read_image(io.BytesIO(data), 8, max_pixels=1_000_000)
    except SkippedImageError:
        return
    assert image.pixels.shape == (8, 8, 3)
    assert image.width * image.height <= 1_000_000


@functools.cache
def signatures() -> list[bytes]:
    return sorted({data[:length] for data in FILES.values() for length in (4, 16, 40)})


bounded = settings(max_examples=200, derandomize=True, deadline=None, database=None)


@bounded
@given(st.data())
def test_random_bytes_are_read_or_skipped(draw: st.DataObject) -> None:
    start = draw.draw(st.sampled_from([b"", *signatures()]))
    reads_or_skips(start + draw.draw(st.binary(max_size=400)))


@bounded
@given(st.data())
def test_a_changed_byte_and_a_cut_are_read_or_skipped(draw: st.DataObject) -> None:
    data = bytearray(FILES[draw.draw(st.sampled_from(sorted(FILES)))])
    last = draw.draw(st.sampled_from([60, 300, len(data) - 1]))
    data[draw.draw(st.integers(0, min(last, len(data) - 1)))] = draw.draw(st.integers(0, 255))
    reads_or_skips(bytes(data))
    reads_or_skips(bytes(data[: draw.draw(st.integers(0, len(data)))]))
