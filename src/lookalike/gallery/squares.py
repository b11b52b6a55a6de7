"""The encoder's squares in compiled code, to the bit as Pillow and NumPy make them, in a quarter of
the time: smaller images enlarged, levels for the perceptual hash, and what the network takes.

Pillow resizes rows first, by weights in whole 1 / _ONE, and rounds to 8 bits after each pass.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.images import DecodedImage, Note
from lookalike.images.likeness import SIDE, lanczos, reduced
from lookalike.images.pixels import BLANK
from lookalike.lsh.compiled import compiled

_ONE = 1 << 22
_HALF = 1 << 21

Pixels: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
_Ends: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.uint32]]"
_Shares: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.int32]]"


def is_as_pillow() -> bool:
    """Whether all this gives what the Pillow that is installed does; compiles it."""
    rng = np.random.default_rng(0)
    for height, width in ((5, 7), (11, 3)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)
        square = enlarge(pixels, 64)
        if not np.array_equal(square, np.asarray(wanted)):
            return False
        if not np.array_equal(levels(square), reduced(square)):
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
    height, width, _ = pixels.shape
    (above, below), of_rows = _line(height, size)
    between = np.empty((height, 3 * size), np.uint8)
    made = np.empty((size, 3 * size), np.uint8)
    rows = np.ascontiguousarray(pixels).reshape(height, 3 * width)
    _interpolate(rows, _bytes(width, size), (above, below, *of_rows), between, made)
    return made.reshape(size, size, 3)


def levels(square: Pixels) -> NDArray[np.float64]:
    """As `likeness.reduced`, of RGB (n, n, 3)."""
    size = len(square)
    across = np.empty((SIDE, size), np.int32)
    made = np.empty((SIDE, SIDE), np.int32)
    first, weights = _taps(size)
    _filter(_grey(square.reshape(size, 3 * size)), first, weights, across)
    _filter(across, first, weights, made)
    return made.astype(np.float64)


@cache
def _taps(size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The first of ``size`` levels that each of SIDE is made of, and their weights (SIDE, n)."""
    weights = lanczos(size)
    used = weights != 0
    first = used.argmax(axis=0)
    count = int((size - used[::-1].argmax(axis=0) - first).max())
    first = np.minimum(first, size - count)
    rows = first[:, np.newaxis] + np.arange(count)
    return first, weights[rows, np.arange(SIDE)[:, np.newaxis]].astype(np.int32)


def scale(image: Pixels, factor: Floats, offset: Floats, planes: Floats) -> None:
    """As `runtimes.scale`."""
    size = len(image)
    _scale(np.ascontiguousarray(image).reshape(size, 3 * size), factor, offset, planes)


@cache
def _bytes(width: int, size: int) -> tuple[NDArray[Any], ...]:
    """`_line` of each byte of a row, not of each pixel: both places, both shares."""
    ends, shares = _line(width, size)
    places = (3 * end[:, np.newaxis] + np.arange(3, dtype=np.uint32) for end in ends)
    return *(place.ravel() for place in places), *(np.repeat(share, 3) for share in shares)


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


@compiled()
def _grey(rows):  # type: ignore[no-untyped-def]
    height, width = rows.shape[0], rows.shape[1] // 3
    made = np.empty((height, width), np.int32)
    for y in range(height):
        row = rows[y]
        for x in range(width):
            at = np.uint32(3 * x)
            both = 19595 * row[at] + 38470 * row[at + np.uint32(1)]
            made[y, x] = (both + 7471 * row[at + np.uint32(2)] + 32768) >> 16
    return made


@compiled()
def _filter(lines, first, weights, made):  # type: ignore[no-untyped-def]
    """Weighted sums of each line, as a column."""
    taps = weights.shape[1]
    for y in range(len(lines)):
        for i in range(len(first)):
            part = lines[y, first[i] : first[i] + taps]
            total = np.int32(_HALF)
            for k in range(taps):
                total = np.int32(total + np.int32(part[k] * weights[i, k]))
            made[i, y] = min(max(total >> 22, 0), 255)


@compiled()
def _scale(rows, factor, offset, planes):  # type: ignore[no-untyped-def]
    for y in range(len(rows)):
        row = rows[y]
        red, green, blue = planes[0, y], planes[1, y], planes[2, y]
        for x in range(len(red)):
            at = np.uint32(3 * x)
            red[x] = np.float32(row[at]) * factor[0] + offset[0]
            green[x] = np.float32(row[at + np.uint32(1)]) * factor[1] + offset[1]
            blue[x] = np.float32(row[at + np.uint32(2)]) * factor[2] + offset[2]
