"""What robustness is measured with: ways to spoil a query, each at levels from none to much.

Pictures in and out are RGB uint8 (h, w, 3); only "crop" changes the size. The level of NEUTRAL
gives back the picture itself, to the bit. How each kind is made:
    rotation    counterclockwise about the centre, same size, bilinear; the border is mirrored, as
                in training, for a border of one colour is an edge that methods see first
    crop        the middle of the picture: this share of each side, so 70 % keeps half of the area
    brightness  round(f v)
    contrast    round(m + f (v - m)), m the picture's mean grey (luma of ITU-R BT.601)
    noise       Gaussian of this standard deviation, drawn for each pixel and channel
    blur        Gaussian, its standard deviation a share of the longer side; the border is mirrored
    jpeg        written and read by Pillow, with 4:2:0 chroma; 100 means not written at all, for
                even that quality loses something
    scale       shrunk to this share of each side by area means, then bilinear to its old size
All values are rounded once and cut off at 0 and 255.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.models.augment import GREY
from reproduction.collection import Picture

__all__ = ["AIMS", "DISTORTIONS", "NEUTRAL", "UNITS", "distort"]

DISTORTIONS: dict[str, tuple[float, ...]] = {
    "rotation": (0, 5, 10, 15, 30, 45, 60, 90, 120, 150, 180),
    "crop": (100, 90, 80, 70, 60, 50, 40),
    "brightness": (0.4, 0.55, 0.7, 0.85, 1, 1.15, 1.3, 1.55, 1.8),
    "contrast": (0.25, 0.4, 0.55, 0.7, 0.85, 1, 1.15, 1.3, 1.55, 1.8),
    "noise": (0, 5, 10, 20, 30, 45, 60),
    "blur": (0, 0.25, 0.5, 1, 1.5, 2, 3),
    "jpeg": (100, 95, 75, 50, 30, 20, 10, 5),
    "scale": (100, 75, 50, 35, 25, 15, 10),
}
"""Levels of each kind."""
UNITS = {
    "rotation": "degrees",
    "crop": "% of each side",
    "brightness": "factor",
    "contrast": "factor",
    "noise": "grey levels",
    "blur": "% of the longer side",
    "jpeg": "quality",
    "scale": "% of each side",
}
NEUTRAL: dict[str, float] = {
    "rotation": 0,
    "crop": 100,
    "brightness": 1,
    "contrast": 1,
    "noise": 0,
    "blur": 0,
    "jpeg": 100,
    "scale": 100,
}
"""The level of no change."""
AIMS: dict[str, tuple[float, float]] = {
    "rotation": (0, 15),
    "crop": (70, 100),
    "brightness": (0.7, 1.3),
}
"""First and last level at which results are meant to hold; the paper's three, which it shows in
Figure 10 without a number. Our choice of numbers: what happens to photographs by accident."""
RANGES: dict[str, tuple[float, float]] = {
    "rotation": (-360, 360),
    "crop": (1, 100),
    "brightness": (0, 10),
    "contrast": (0, 10),
    "noise": (0, 255),
    "blur": (0, 100),
    "jpeg": (1, 100),
    "scale": (1, 100),
}

Numbers: TypeAlias = NDArray[Any]


def distort(picture: Picture, kind: str, level: float, seed: int) -> Picture:
    """A new picture, spoilt; `seed` alone draws the noise, and nothing else is random.

    Levels need not be those of DISTORTIONS. ValueError for an unknown kind or a level that the
    kind cannot have.
    """
    if kind not in DISTORTIONS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(DISTORTIONS)}")
    low, high = RANGES[kind]
    if not low <= level <= high:
        raise ValueError(f"level is {level!r}; that of {kind} must be from {low:g} to {high:g}")
    if level == NEUTRAL[kind]:
        return picture.copy()
    return _MAKERS[kind](picture, level, seed)


def _rotation(picture: Picture, degrees: float, _: int) -> Picture:
    import cv2

    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(
        picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(turned, np.uint8)


def _crop(picture: Picture, percent: float, _: int) -> Picture:
    height, width = picture.shape[:2]
    high, wide = _share(height, percent), _share(width, percent)
    top, left = (height - high) // 2, (width - wide) // 2
    return picture[top : top + high, left : left + wide].copy()


def _brightness(picture: Picture, factor: float, _: int) -> Picture:
    return _bytes(factor * picture.astype(np.float64))


def _contrast(picture: Picture, factor: float, _: int) -> Picture:
    values = picture.astype(np.float64)
    mean = values.mean(axis=(0, 1)) @ GREY
    return _bytes(mean + factor * (values - mean))


def _noise(picture: Picture, deviation: float, seed: int) -> Picture:
    return _bytes(picture + np.random.default_rng(seed).normal(0, deviation, picture.shape))


def _blur(picture: Picture, percent: float, _: int) -> Picture:
    import cv2

    sigma = percent / 100 * max(picture.shape[:2])
    blurred = cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8)


def _jpeg(picture: Picture, quality: float, _: int) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=round(quality), subsampling="4:2:0")
    return np.array(Image.open(stream))


def _scale(picture: Picture, percent: float, _: int) -> Picture:
    import cv2

    height, width = picture.shape[:2]
    small = (_share(width, percent), _share(height, percent))
    shrunk = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    back = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.uint8)


def _share(side: int, percent: float) -> int:
    return max(1, round(side * percent / 100))


def _bytes(values: Numbers) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_MAKERS: dict[str, Callable[[Picture, float, int], Picture]] = {
    "rotation": _rotation,
    "crop": _crop,
    "brightness": _brightness,
    "contrast": _contrast,
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "scale": _scale,
}
