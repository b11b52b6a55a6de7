"""The perceptual hash against its definition, and what the check finds alike."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hostile import encode, photo
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scipy.fft import dct

from lookalike.gallery.outlines import Outlines
from lookalike.images.likeness import (
    adds_border,
    compare,
    hash_variants,
    perceptual_hash,
)


def reference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`imagehash.phash(Image.fromarray(pixels)).hash`, by the lines of that library."""
    image = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dct(dct(np.asarray(image, np.float64), axis=0), axis=1)[:8, :8]
    found: NDArray[np.bool_] = low > np.median(low)
    return found


def bits_of(value: int) -> NDArray[np.bool_]:
    octets = np.frombuffer(value.to_bytes(8, signed=True), np.uint8)
    return np.unpackbits(octets).astype(np.bool_).reshape(8, 8)


@pytest.mark.parametrize("side", [31, 32, 33, 192, 224, 256, 384])
def test_the_hash_is_that_of_imagehash(side: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    images = [photo(seed, side, side) for seed in range(4)]
    for pixels in (*images, photo(4, 96, side), noise, np.where(noise < 128, 0, 255)):
        pixels = pixels.astype(np.uint8)
        assert (bits_of(perceptual_hash(pixels)) == reference_hash(pixels)).all()


def test_hashes_of_mirrored_and_turned_images_are_derived_but_for_a_few_bits() -> None:
    for seed in range(12):
        pixels = np.asarray(Image.fromarray(photo(seed)).resize((224, 224)))
        derived = hash_variants(np.array([perceptual_hash(pixels)], np.int64))[:, 0]
        eight = [
            flipped
            for either in (pixels, pixels.transpose(1, 0, 2))
            for flipped in (either, either[:, ::-1], either[::-1], either[::-1, ::-1])
        ]
        turned = [perceptual_hash(np.ascontiguousarray(each)) % (1 << 64) for each in eight]
        assert int(derived[0]) == turned[0]
        wrong = [(int(a) ^ b).bit_count() for a, b in zip(derived, turned, strict=True)]
        assert max(wrong) <= 10
        assert len({int(value) for value in derived}) == 8


# ---- the check -----------------------------------------------------------------------------------


def scene(seed: int, *, moved: int = 0, width: int = 320, height: int = 240) -> Image.Image:
    """Many discs over a gradient, about as sharp as a photograph; one may stand elsewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([60 + 60 * x / width, 80 + 40 * y / height, 140 - 60 * x / width], axis=-1)
    for n in range(40):
        cx, cy, radius = rng.integers(width), rng.integers(height), rng.integers(6, 40)
        colour = rng.integers(20, 220, 3)
        shift = moved if n == 39 else 0
        pixels[(x - cx - shift) ** 2 + (y - cy) ** 2 < radius**2] = colour
    return Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality))).convert("RGB")


def small(image: Image.Image, share: float) -> Image.Image:
    size = round(image.width * share), round(image.height * share)
    return image.resize(size, Image.Resampling.LANCZOS)


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "quality 40": (lambda x: jpeg(x, 40), "same picture"),
    "half": (lambda x: jpeg(small(x, 0.5), 85), "same picture"),
    "quarter": (lambda x: jpeg(small(x, 0.25), 85), "same picture"),
    "grey": (lambda x: x.convert("L").convert("RGB"), "same picture"),
    "bright": (lambda x: x.point(lambda v: min(255, int(v * 1.3))), "same picture"),
    "dark": (lambda x: x.point(lambda v: v * 0.7), "same picture"),
    "mirror": (lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored or rotated"),
    "turned": (lambda x: x.transpose(Image.Transpose.ROTATE_90), "mirrored or rotated"),
    "crop": (lambda x: jpeg(x.crop((16, 12, 304, 228)), 85), "cropped"),
    "corner": (lambda x: jpeg(x.crop((0, 0, 280, 210)), 85), "cropped"),
    "small crop": (lambda x: small(x.crop((10, 30, 290, 235)), 0.6), "cropped"),
    "white border": (lambda x: ImageOps.expand(x, 8, "white"), "cropped"),
    "black border": (lambda x: ImageOps.expand(x, 8, "black"), "cropped"),
}


@pytest.mark.parametrize("side", [160, 640])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_called_what_it_is(change: str, side: int) -> None:
    alter, expected = CHANGES[change]
    for seed in range(6):
        original = scene(seed)
        altered = alter(original)
        assert compare(small_to(original, side), small_to(altered, side), side) == expected
        assert compare(small_to(altered, side), small_to(original, side), side) == expected


def outlines(*images: Image.Image) -> Outlines:
    found = Outlines(len(images))
    for at, image in enumerate(images):
        found.set(at, small_to(image, 160))
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_not_ruled_out_by_its_outline(change: str) -> None:
    originals = [scene(seed) for seed in range(6)]
    altered = [CHANGES[change][0](image) for image in originals]
    pairs = np.stack([np.arange(6), np.arange(6) + 6], axis=1)
    assert outlines(*originals, *altered).may_agree(np.concatenate([pairs, pairs[:, ::-1]])).all()


def test_most_other_images_are_ruled_out_by_their_outlines() -> None:
    pairs = np.argwhere(np.tri(20, k=-1))
    assert outlines(*(scene(seed) for seed in range(20))).may_agree(pairs).mean() < 0.02


def small_to(image: Image.Image, side: int) -> Image.Image:
    return small(image, min(1.0, side / max(image.size)))


def sky(seed: int) -> Image.Image:
    y = np.linspace(230, 120, 240)[:, np.newaxis, np.newaxis]
    noise = np.random.default_rng(seed).normal(0, 2, (240, 320, 1))
    return Image.fromarray((y * [0.6, 0.8, 1.0] + noise).clip(0, 255).astype(np.uint8))


def test_other_images_other_shots_other_colours_and_two_clear_skies_have_nothing_in_common() -> (
    None
):
    for seed in range(12):
        one = scene(seed)
        assert compare(one, scene(seed + 100), 160) is None
        assert compare(one, jpeg(scene(seed, moved=60), 90), 160) is None
    red, green, blue = scene(3).split()
    assert compare(scene(3), Image.merge("RGB", (blue, green, red)), 160) is None
    assert compare(sky(0), sky(1), 160) is None
    assert compare(sky(0), sky(0).resize((160, 120)), 160) == "same picture"


def test_screenshots_that_differ_in_a_few_letters_are_not_the_same() -> None:
    """Both without loss and of one size: what differs is not compression."""
    one = Image.new("RGB", (640, 480), "#f4f4f4")
    draw = ImageDraw.Draw(one)
    for line in range(24):
        draw.text((20, 20 * line), f"line {line} of a page of text {line * 7919 % 1000}", "black")
    two = one.copy()
    ImageDraw.Draw(two).rectangle((300, 200, 306, 208), "black")
    assert compare(one, two, 640, is_lossless=True) is None
    assert compare(one, one.copy(), 640, is_lossless=True) == "same picture"


def test_a_border_of_one_colour_is_distinguished_from_more_of_the_image() -> None:
    for seed in range(6):
        original = scene(seed)
        bordered = ImageOps.expand(original, 10, "white")
        share = adds_border(bordered, original, 320)
        assert share == pytest.approx(320 / 340, abs=0.02)
        assert adds_border(original, original.crop((16, 12, 304, 228)), 320) is None


def test_a_sky_with_stars_around_the_rest_is_not_a_border() -> None:
    night = ImageOps.expand(scene(1), 24, "black")
    ImageDraw.Draw(night).point([(5, 40), (200, 6)], "white")
    night = night.filter(ImageFilter.GaussianBlur(0.7))
    assert adds_border(night, night.crop((24, 24, 344, 264)), 368) is None
    assert compare(night, night.crop((24, 24, 344, 264)), 368) == "cropped"
