"""Which candidates cannot be copies, by the luminance of both in 16 x 16 pixels.

It asks for less than `likeness.compare` does, of much smaller images: that two agree roughly as
wholes, without their borders perhaps and in one of eight positions, or one with a part of the
other. Of the pairs that `compare` calls alike in the measurements none is below 0.89; a hundredth
of its time leaves it about a tenth of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.images.likeness import SCALE_STEP, SMALLEST_PART, Box, within_border
from lookalike.lsh.compiled import compiled

SIDE = 16
LIKELY = 0.82
"""Smallest correlation of what may be alike."""
SHORTEST = 4
"""Pixels along a side of a part."""
Floats = NDArray[np.float32]


def _shrinking() -> Floats:
    """Matrices (SIDE + 1, SIDE, SIDE): the first n rows of the nth average over n equal parts."""
    found = np.zeros((SIDE + 1, SIDE, SIDE), np.float32)
    pixels = np.arange(SIDE)
    for n in range(1, SIDE + 1):
        ends = np.arange(n + 1)[:, np.newaxis] * SIDE / n
        overlap = np.minimum(ends[1:], pixels + 1) - np.maximum(ends[:-1], pixels)
        found[n, :n] = np.maximum(overlap, 0) * n / SIDE
    return found


SHRINKING = _shrinking()


class Outlines:
    """Those of ``n`` images, all of one colour until they are set."""

    def __init__(self, n: int) -> None:
        self._sizes = np.ones((n, 2), np.float32)
        self._whole = np.zeros((n, SIDE, SIDE), np.uint8)
        self._within: dict[int, NDArray[np.uint8]] = {}

    def set(self, at: int, image: Image.Image) -> None:
        """Any number of threads may set images, each another ``at``."""
        grey = image.convert("L")
        self._sizes[at] = image.size
        self._whole[at] = _small(grey)
        box = within_border(image)
        if box != (0, 0, *image.size):
            self._within[at] = _small(grey, box)

    def may_agree(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the images of each of (m, 2) pairs may be alike: (m,)."""
        inner, rows = np.arange(len(self._whole)), sorted(self._within)
        inner[rows] = len(self._whole) + np.arange(len(rows))
        within = np.array([self._within[at] for at in rows], np.uint8)
        found = np.empty(len(pairs), np.bool_)
        _judge(
            self._whole, within.reshape(-1, SIDE, SIDE), inner, self._sizes, pairs, SHRINKING, found
        )
        return found


def _small(grey: Image.Image, box: Box | None = None) -> NDArray[np.uint8]:
    made = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(made)


@compiled()
def _judge(
    whole: NDArray[np.uint8],
    within: NDArray[np.uint8],
    inner: NDArray[np.int64],
    sizes: Floats,
    pairs: NDArray[np.int64],
    shrinking: Floats,
    out: NDArray[np.bool_],
) -> None:
    """``inner``: of each image where it is without its border, counted through both."""
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        one, two = _centred(whole[a]), _centred(whole[b])
        likely = _agree(one, two)
        if inner[a] != a:
            cut = _centred(within[inner[a] - whole.shape[0]])
            likely = likely or _agree(cut, two)
            if inner[b] != b:
                likely = likely or _agree(cut, _centred(within[inner[b] - whole.shape[0]]))
        if inner[b] != b and not likely:
            likely = _agree(one, _centred(within[inner[b] - whole.shape[0]]))
        out[p] = (
            likely
            or _holds(one, sizes[a], two, sizes[b], shrinking)
            or _holds(two, sizes[b], one, sizes[a], shrinking)
        )


@compiled()
def _centred(image: NDArray[np.uint8]) -> Any:
    values = image.astype(np.float32)
    return values - np.float32(values.mean())


@compiled()
def _agree(one: Floats, two: Floats) -> Any:
    """Whether the first correlates with one of the eight positions of the second."""
    sums = np.zeros(8, np.float32)
    last = SIDE - 1
    ones, twos = np.float32(1e-3), np.float32(1e-3)
    for y in range(SIDE):
        for x in range(SIDE):
            value = one[y, x]
            ones += value * value
            twos += two[y, x] * two[y, x]
            sums[0] += value * two[y, x]
            sums[1] += value * two[y, last - x]
            sums[2] += value * two[last - y, x]
            sums[3] += value * two[last - y, last - x]
            sums[4] += value * two[x, y]
            sums[5] += value * two[x, last - y]
            sums[6] += value * two[last - x, y]
            sums[7] += value * two[last - x, last - y]
    return sums.max() >= LIKELY * np.sqrt(ones * twos)


@compiled()
def _holds(large: Floats, size: Floats, small: Floats, of_small: Floats, shrinking: Floats) -> Any:
    """Whether a part of ``large`` correlates with all of ``small``, by the sizes of both images."""
    squares = np.zeros((SIDE + 1, SIDE + 1), np.float32)
    sums = np.zeros((SIDE + 1, SIDE + 1), np.float32)
    for y in range(SIDE):
        value, square = np.float32(0), np.float32(0)
        for x in range(SIDE):
            value += large[y, x]
            square += large[y, x] * large[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + value
            squares[y + 1, x + 1] = squares[y, x + 1] + square
    fit = min(size[0] / of_small[0], size[1] / of_small[1])
    across, down = SIDE * fit * of_small[0] / size[0], SIDE * fit * of_small[1] / size[1]
    share, last_w, last_h = 1.0, 0, 0
    while share >= SMALLEST_PART:
        w = max(SHORTEST, round(across * share))
        h = max(SHORTEST, round(down * share))
        share *= SCALE_STEP
        if w == last_w and h == last_h:
            continue
        last_w, last_h = w, h
        part = _shrunk(small, w, h, shrinking)
        norm = (part * part).sum()
        for y in range(SIDE - h + 1):
            for x in range(SIDE - w + 1):
                total = sums[y + h, x + w] - sums[y, x + w] - sums[y + h, x] + sums[y, x]
                spread = squares[y + h, x + w] - squares[y, x + w] - squares[y + h, x]
                spread = max(0.0, spread + squares[y, x] - total * total / (h * w))
                product = np.float32(0)
                for i in range(h):
                    for j in range(w):
                        product += part[i, j] * large[y + i, x + j]
                if product >= LIKELY * max(np.sqrt(norm * spread), 1e-3 * h * w):
                    return True
    return False


@compiled()
def _shrunk(image: Floats, width: int, height: int, shrinking: Floats) -> Any:
    """All of an image in so many pixels, (height, width), less their mean."""
    rows = np.zeros((height, SIDE), np.float32)
    for i in range(height):
        for j in range(SIDE):
            weight = shrinking[height, i, j]
            if weight > 0:
                for x in range(SIDE):
                    rows[i, x] += weight * image[j, x]
    made = np.zeros((height, width), np.float32)
    for x in range(width):
        for j in range(SIDE):
            weight = shrinking[width, x, j]
            if weight > 0:
                for i in range(height):
                    made[i, x] += weight * rows[i, j]
    return made - np.float32(made.mean())
