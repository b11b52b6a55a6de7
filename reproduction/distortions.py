"""Altered queries for measuring robustness: kinds of distortion, each from none to strong.

Images are RGB uint8 (h, w, 3); only "crop" changes the size. The neutral level returns the image
itself, to the bit. Values are rounded once and clipped to 0 and 255.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.models.augment import GREY
from reproduction.collection import Pixels


def distort(image: Pixels, kind: str, level: float, seed: int) -> Pixels:
    """An altered copy; `seed` draws the noise, and nothing else is random."""
    if level == NEUTRAL[kind]:
        return image.copy()
    return KINDS[kind].apply(image, level, seed)


def _rotation(image: Pixels, degrees: float, _: int) -> Pixels:
    """Counterclockwise about the centre, same size, bilinear; the border is mirrored, as in
    training, since a border of one colour is an edge that methods see first.
    """
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(turned, np.uint8)


def _crop(image: Pixels, percent: float, _: int) -> Pixels:
    """The middle of the image: this share of each side, so 70 % keeps half of the area."""
    height, width = image.shape[:2]
    high, wide = _share(height, percent), _share(width, percent)
    top, left = (height - high) // 2, (width - wide) // 2
    return image[top : top + high, left : left + wide].copy()


def _brightness(image: Pixels, factor: float, _: int) -> Pixels:
    return _bytes(factor * image.astype(np.float64))


def _contrast(image: Pixels, factor: float, _: int) -> Pixels:
    """m + f (v - m), m the image's mean grey (luma of ITU-R BT.601)."""
    values = image.astype(np.float64)
    mean = values.mean(axis=(0, 1)) @ GREY
    return _bytes(mean + factor * (values - mean))


def _noise(image: Pixels, deviation: float, seed: int) -> Pixels:
    """Gaussian of this standard deviation, drawn for each pixel and channel."""
    return _bytes(image + np.random.default_rng(seed).normal(0, deviation, image.shape))


def _blur(image: Pixels, percent: float, _: int) -> Pixels:
    """Gaussian, its standard deviation a share of the longer side; the border is mirrored."""
    import cv2

    sigma = percent / 100 * max(image.shape[:2])
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8)


def _jpeg(image: Pixels, quality: float, _: int) -> Pixels:
    """Written and read by Pillow, with 4:2:0 chroma. The neutral 100 is not written at all, since
    even that quality loses something.
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=round(quality), subsampling="4:2:0")
    return np.array(Image.open(stream))


def _scale(image: Pixels, percent: float, _: int) -> Pixels:
    """Shrunk to this share of each side by area means, then bilinear to its old size."""
    import cv2

    height, width = image.shape[:2]
    small = (_share(width, percent), _share(height, percent))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    back = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.uint8)


def _share(side: int, percent: float) -> int:
    return max(1, round(side * percent / 100))


def _bytes(values: NDArray[Any]) -> Pixels:
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped


@dataclass(frozen=True)
class Kind:
    """A kind of distortion.

    Attributes:
        unit: of its levels.
        neutral: the level of no change.
        apply: image, level, seed -> altered image.
        aim: first and last level at which results are meant to hold, for the three kinds that the
            paper shows in Figure 10, without a number. Our choice: what happens to photographs by
            accident.
    """

    unit: str
    neutral: float
    apply: Callable[[Pixels, float, int], Pixels]
    aim: tuple[float, float] | None = None


KINDS = {
    "rotation": Kind("degrees", 0, _rotation, (0, 15)),
    "crop": Kind("% of each side", 100, _crop, (70, 100)),
    "brightness": Kind("factor", 1, _brightness, (0.7, 1.3)),
    "contrast": Kind("factor", 1, _contrast),
    "noise": Kind("grey levels", 0, _noise),
    "blur": Kind("% of the longer side", 0, _blur),
    "jpeg": Kind("quality", 100, _jpeg),
    "scale": Kind("% of each side", 100, _scale),
}
NEUTRAL = {name: kind.neutral for name, kind in KINDS.items()}
