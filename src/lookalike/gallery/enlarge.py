"""Images smaller than the encoder's square, enlarged to it in a quarter of Pillow's time.

The pixels are Pillow's to the bit: bilinear, rows first, in whole 1 / _ONE, rounded to 8 bits after
each of both passes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.images import DecodedImage, Note
from lookalike.images.pixels import BLANK
from lookalike.lsh.compiled import compiled

_ONE = 1 << 22
_HALF = 1 << 21

Pixels: TypeAlias = NDArray[np.uint8]
_Ends: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.uint32]]"
_Shares: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.int32]]"


def is_as_pillow() -> bool:
    """Whether `enlarge` gives the pixels of the Pillow that is installed; compiles it."""
    rng = np.random.default_rng(0)
    for height, width in ((5, 7), (11, 3)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = Image.fromarray(pixels).resize((13, 13), Image.Resampling.BILINEAR)
        if not np.array_equal(enlarge(pixels, 13), np.asarray(wanted)):
            return False
    return True


def enlarged(image: DecodedImage, size: int) -> DecodedImage:
    """As if `pixels.squeeze` had not kept its size."""
    if image.pixels.shape[:2] == (size, size):
        return image
    pixels = enlarge(image.pixels, size)
    few = pixels[:: size // 8 or 1, :: size // 8 or 1]  # enough for nearly every image
    is_blank = all(np.ptp(some, axis=(0, 1)).max() <= BLANK for some in (few, pixels))
    return replace(image, pixels=pixels, note=Note.BLANK if is_blank else image.note)


def enlarge(pixels: Pixels, size: int) -> Pixels:
    """RGB (height, width, 3), neither side above ``size`` -> (size, size, 3)."""
    height, width, channels = pixels.shape
    left_right, of_columns = _line(width, size)
    # Of each byte of a row, not of each pixel.
    left, right = (
        (channels * ends[:, np.newaxis] + np.arange(channels, dtype=np.uint32)).ravel()
        for ends in left_right
    )
    columns = left, right, *(np.repeat(shares, channels) for shares in of_columns)
    (above, below), of_rows = _line(height, size)
    between = np.empty((height, channels * size), np.uint8)
    made = np.empty((size, channels * size), np.uint8)
    rows = np.ascontiguousarray(pixels).reshape(height, channels * width)
    _interpolate(rows, columns, (above, below, *of_rows), between, made)
    return made.reshape(size, size, channels)


@cache
def _line(n: int, size: int) -> tuple[_Ends, _Shares]:
    """Of each of ``size`` pixels in the place of n <= size, the two that it lies between, and their
    shares."""
    centre = (np.arange(size) + 0.5) * (n / size)
    first = np.maximum(centre - 0.5, 0).astype(np.int64)
    second = np.minimum(first + 1, n - 1)
    shares = np.stack([1 - np.abs(first - centre + 0.5), 1 - np.abs(first - centre + 1.5)])
    shares[1, first == second] = 0
    shares = np.maximum(shares, 0)
    whole = np.trunc(_ONE * shares / shares.sum(axis=0) + 0.5).astype(np.int32)
    return (first.astype(np.uint32), second.astype(np.uint32)), (whole[0], whole[1])


@compiled()
def _interpolate(rows, columns, lines, between, made):  # type: ignore[no-untyped-def]
    left, right, of_left, of_right = columns
    above, below, of_above, of_below = lines
    width = len(left)
    for y in range(len(rows)):
        for x in range(width):
            both = rows[y, left[x]] * of_left[x] + rows[y, right[x]] * of_right[x]
            between[y, x] = (both + _HALF) >> 22
    for y in range(len(made)):
        top, bottom, of_top, of_bottom = above[y], below[y], of_above[y], of_below[y]
        for x in range(width):
            both = between[top, x] * of_top + between[bottom, x] * of_bottom
            made[y, x] = (both + _HALF) >> 22
