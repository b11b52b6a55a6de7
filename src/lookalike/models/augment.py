"""Augmentation: random scaling, rotation, cropping, noise, contrast; brightness, colour and flips.

An image's transform is drawn from (seed, epoch, index) alone, whatever thread does it and in
whatever order. Every parameter is drawn whether its method is on or off, so switching one method
leaves the others' draws as they were. Positions go through one affine map, colours through one
matrix, each with a single rounding; beyond its border the image is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.models.settings import AugmentSettings

Pixels = NDArray[np.uint8]
GREY = np.array([0.299, 0.587, 0.114])
"""Luma of ITU-R BT.601, as Pillow's mode L."""
BORDER = 0.25
"""Mirrored around an image before it is turned or shrunk, as a share of its sides."""


@dataclass(frozen=True)
class Transform:
    """What is done to one image; the defaults do nothing.

    Attributes:
        zoom: above 1 enlarges what is shown.
        degrees: turned counterclockwise by this.
        window: left, top, width and height of what is kept, as shares of the image.
        mirrored, upside_down: flips, of what is kept.
        contrast, brightness, colour: factors.
        noise: standard deviation in grey levels.
        noise_seed: of the noise.
    """

    zoom: float = 1.0
    degrees: float = 0.0
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False
    upside_down: bool = False
    contrast: float = 1.0
    brightness: float = 1.0
    colour: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0


def draw_transform(settings: AugmentSettings, seed: int, epoch: int, index: int) -> Transform:
    """The transform of image `index` in `epoch`."""
    generator = np.random.default_rng([seed, epoch, index])
    u = generator.random(12).tolist()
    width, height = 1 - settings.crop * u[2], 1 - settings.crop * u[3]
    return Transform(
        zoom=_factor(settings.scale, u[0]),
        degrees=settings.rotation * (2 * u[1] - 1),
        window=((1 - width) * u[4], (1 - height) * u[5], width, height),
        mirrored=u[6] < settings.flip,
        upside_down=u[7] < settings.flip_vertical,
        contrast=_factor(settings.contrast, u[8]),
        brightness=_factor(settings.brightness, u[9]),
        colour=_factor(settings.colour, u[10]),
        noise=settings.noise * u[11],
        noise_seed=int(generator.integers(1 << 62)),
    )


def _factor(strength: float, u: float) -> float:
    return float((1 + strength) ** (2 * u - 1))


def augment(
    pixels: Pixels, size: int, settings: AugmentSettings, seed: int, epoch: int, index: int
) -> Pixels:
    """RGB uint8 (h, w, 3) -> (size, size, 3), by the transform of (seed, epoch, index)."""
    return apply(pixels, draw_transform(settings, seed, epoch, index), (size, size))


def apply(pixels: Pixels, transform: Transform, size: tuple[int, int]) -> Pixels:
    """RGB uint8 (h, w, 3) -> (height, width, 3) with `size` = (width, height); a new array."""
    image = _moved(pixels, transform, size)
    factors = transform.contrast, transform.brightness, transform.colour
    if factors != (1, 1, 1):
        image = image.convert("RGB", _colour_matrix(image, *factors))
    result = np.array(image)
    if transform.noise:
        levels = _normal_quantiles() * np.float32(transform.noise)
        random = np.random.default_rng(transform.noise_seed).bytes(result.size)
        noise = np.rint(levels).astype(np.int16)[np.frombuffer(random, np.uint8)]
        noise = noise.reshape(result.shape)
        noise += result
        np.clip(noise, 0, 255, out=noise)
        result = noise.astype(np.uint8)
    return result


@cache
def _normal_quantiles() -> NDArray[np.float32]:
    """256 equally likely values of unit variance, Gaussian in shape: one random byte draws one."""
    values = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
    levels: NDArray[np.float32] = (values / values.std()).astype(np.float32)
    return levels


def _moved(pixels: Pixels, transform: Transform, size: tuple[int, int]) -> Image.Image:
    """Zoom, turn, crop and flip in one affine map from places of the result to the image's."""
    height, width = pixels.shape[:2]
    matrix = _matrix(transform, (width, height), size)
    if matrix == (width / size[0], 0, 0, 0, height / size[1], 0):
        image = Image.fromarray(pixels)
        return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    a, b, c, d, e, f = matrix
    corners = [(x, y) for x in (0, size[0]) for y in (0, size[1])]
    across = [a * x + b * y + c for x, y in corners]
    down = [d * x + e * y + f for x, y in corners]
    inside = min(across) > -1e-6 and max(across) < width + 1e-6
    if not (inside and min(down) > -1e-6 and max(down) < height + 1e-6):
        right, below = math.ceil(BORDER * width), math.ceil(BORDER * height)
        pixels = np.pad(pixels, ((below, below), (right, right), (0, 0)), "symmetric")
        c, f = c + right, f + below
    return Image.fromarray(pixels).transform(
        size,
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BILINEAR,
        fillcolor=(128, 128, 128),
    )


def _matrix(
    transform: Transform, source: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float, float, float]:
    """a, b, c, d, e, f: (x, y) of the result, pixels, is (ax + by + c, dx + ey + f) of the source.

    With u, v from 0 to 1 over the result: left + u * width of the window, from the centre of the
    source, turned and divided by the zoom.
    """
    (width, height), (left, top, wide, high) = source, transform.window
    if transform.mirrored:
        left, wide = left + wide, -wide
    if transform.upside_down:
        top, high = top + high, -high
    angle = math.radians(transform.degrees)
    cosine, sine = math.cos(angle) / transform.zoom, math.sin(angle) / transform.zoom
    a, b = cosine * wide * width / size[0], -sine * high * height / size[1]
    d, e = sine * wide * width / size[0], cosine * high * height / size[1]
    x, y = (left - 0.5) * width, (top - 0.5) * height
    c, f = cosine * x - sine * y + width / 2, sine * x + cosine * y + height / 2
    return a, b, c, d, e, f


def _colour_matrix(
    image: Image.Image, contrast: float, brightness: float, colour: float
) -> tuple[float, ...]:
    """3 x 4, row by row: saturation, then contrast about the mean grey, then brightness."""
    mean = float(np.asarray(image.reduce(8)).mean(axis=(0, 1)) @ GREY)
    saturation = colour * np.eye(3) + (1 - colour) * GREY
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    rows = np.hstack([brightness * contrast * saturation, offset])
    return tuple(rows.ravel().tolist())


# ---- the paper's Figure 3 ------------------------------------------------------------------------

EXAMPLES: tuple[tuple[str, Callable[[AugmentSettings], dict[str, Any]]], ...] = (
    ("scaling", lambda s: {"zoom": 1 + s.scale}),
    ("rotation", lambda s: {"degrees": s.rotation}),
    ("cropping", lambda s: {"window": (s.crop, 0.0, 1 - s.crop, 1 - s.crop)}),
    ("noise", lambda s: {"noise": s.noise}),
    ("contrast", lambda s: {"contrast": 1 + s.contrast}),
    ("brightness", lambda s: {"brightness": 1 + s.brightness}),
    ("colour", lambda s: {"colour": 1 + s.colour}),
    ("flip", lambda s: {"mirrored": s.flip > 0}),
    ("vertical flip", lambda s: {"upside_down": s.flip_vertical > 0}),
)


def examples(pixels: Pixels, settings: AugmentSettings, seed: int = 0) -> list[tuple[str, Pixels]]:
    """Name and image, RGB uint8 (h, w, 3) as `pixels`: the original, then each method that is on at
    its full strength, then three random draws of all together.
    """
    size = pixels.shape[1], pixels.shape[0]
    drawn = {name: Transform(**change(settings)) for name, change in EXAMPLES}
    drawn = {name: transform for name, transform in drawn.items() if transform != Transform()}
    for number in range(3):
        drawn[f"all, draw {number + 1}"] = draw_transform(settings, seed, 0, number)
    return [("original", pixels), *((name, apply(pixels, t, size)) for name, t in drawn.items())]
