"""Whether two images show the same picture: a perceptual hash that finds candidates, and a check of
every part of both that decides.

The hash is that of the library imagehash (`phash`): the luminance in 32 x 32 pixels, its discrete
cosine transform (DCT-II), of which the 8 x 8 lowest frequencies are compared with their median. It
is taken of the square that the encoder gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 64
SIDE = 32
LOW = 8
_ONE = 1 << 22
"""What Pillow's filters of 8 bits add up to."""

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]


Agreement = Literal["same picture", "mirrored or rotated", "cropped"]


# ---- the hash ------------------------------------------------------------------------------------


@cache
def _cosines() -> NDArray[np.float64]:
    """The rows of the DCT-II that are kept, (LOW, SIDE)."""
    k, n = np.arange(LOW)[:, np.newaxis], np.arange(SIDE)
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE))


@cache
def lanczos(size: int) -> NDArray[np.float64]:
    """Pillow's Lanczos filter from ``size`` pixels to SIDE, (size, SIDE), as whole 1 / _ONE."""
    scale = size / SIDE
    x = np.arange(size)[:, np.newaxis] + 0.5 - (np.arange(SIDE) + 0.5) * scale
    x /= max(scale, 1)
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    weights /= weights.sum(axis=0)
    return np.asarray(np.trunc(_ONE * weights + np.copysign(0.5, weights)))


@cache
def _parts(size: int) -> list[tuple[slice, NDArray[np.float64]]]:
    """The filter in parts: of each LOW pixels, which ones they are made of, and their weights."""
    parts = []
    for columns in np.split(lanczos(size), SIDE // LOW, axis=1):
        used = np.flatnonzero(columns.any(axis=1))
        rows = slice(used[0], used[-1] + 1)
        parts.append((rows, np.ascontiguousarray(columns[rows])))
    return parts


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey levels (SIDE, SIDE) of RGB pixels (height, width, 3), as Pillow makes them."""
    grey = Image.fromarray(pixels).convert("L")
    if grey.width != grey.height:  # Pillow may begin with the columns
        return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    levels = np.asarray(grey, np.float64)
    for _ in range(2):  # rows, then columns; products take a third of Pillow's time
        sums = [levels[:, rows] @ weights for rows, weights in _parts(grey.width)]
        levels = np.clip(np.floor(np.concatenate(sums, axis=1) / _ONE + 0.5), 0, 255).T
    return levels


def perceptual_hash(
    pixels: NDArray[np.uint8],
    reduced: Callable[[NDArray[np.uint8]], NDArray[np.float64]] = reduced,
) -> int:
    """Of RGB pixels (height, width, 3): 64 bits, as a signed integer.

    Its bytes, most significant first, are those of `imagehash.phash`.
    """
    low = _cosines() @ reduced(pixels) @ _cosines().T
    middle = np.sort(low, axis=None)[HASH_BITS // 2 - 1 : HASH_BITS // 2 + 1]
    bits = np.packbits(low > middle.mean())  # the median, five times as fast
    return int.from_bytes(bits.tobytes(), signed=True)


def hash_variants(hashes: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hashes (n,) of the images as they are, mirrored and turned: (8, n), themselves first.

    Mirroring changes the sign of every second frequency, transposing exchanges the axes. Bits of
    frequencies between the median and its negative come out wrong; they are few.
    """
    octets = hashes.astype(">i8").view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(octets, axis=1).reshape(-1, LOW, LOW).astype(np.bool_)
    odd = np.arange(LOW) % 2 == 1
    found = []
    for turned in (bits, bits.transpose(0, 2, 1)):
        for down in (False, True):
            for across in (False, True):
                flipped = (odd[:, np.newaxis] & down) ^ (odd[np.newaxis, :] & across)
                packed = np.packbits((turned ^ flipped).reshape(-1, HASH_BITS), axis=1)
                found.append(np.ascontiguousarray(packed).view(">u8")[:, 0].astype(np.uint64))
    return np.stack(found)


# ---- the check -----------------------------------------------------------------------------------

TURNS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)
EDGE = 2
"""Pixels along the sides of a part into which a resized image mixes what is beside it."""
SMALLEST = 8
"""Pixels along a side of what is compared."""
DARK, LIGHT = 4, 250
"""Values beyond which a channel may have been cut off."""
LEAST_SLOPE = 0.2
"""Of a change of brightness and contrast."""
NOISE, OF_CONTRAST = 11.0, 0.63
"""What compression and resizing may change: grey levels, and a share of the local contrast."""
SAME_DETAIL = 0.75
"""Smallest correlation of what is fine."""
OF_LOSSLESS = 0.3
"""Share of that which may differ where nothing was compressed or resized."""
NOISE_OF_COLOUR = 32.0
GREY = 2.5
"""Mean distance of the channels from the luminance, in levels, below which an image is grey."""
ASPECT = 0.04
"""By how much the shapes of two whole images may differ."""
BORDER = 6.0
"""Levels by which rows and columns of a border differ from one colour, in the mean."""
SEARCHED = 64
"""Longest side, in pixels, at which a part is looked for."""
SMALLEST_PART = 0.7
"""Of the longest that would fit."""
SCALE_STEP = 0.97
PROMISING = 0.8
"""Correlation from which a part that was found is aligned."""
ROUNDS = 12
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


COMPARISON = 1
"""Of `compare`: another number whenever it answers otherwise, since galleries keep its answers."""


def compare(
    a: Image.Image, b: Image.Image, side: int, *, is_lossless: bool = False
) -> Agreement | None:
    """What two upright RGB images have in common, None if they show different images.

    They show the same picture if every part agrees after one change of brightness, contrast and
    saturation for the whole, but for what compression and resizing do. A cropped one may have been
    resized, not turned; one with a border both.

    Args:
        side: longest side at which they are compared, in pixels.
        is_lossless: both are of one size and not of a lossy format, so that a small difference is
            one of the images: that of two screenshots perhaps.
    """
    noise = OF_LOSSLESS if is_lossless else 1.0
    for turn, turned in _likely_turns(a, _whole(a), b):
        if _agree(a, _whole(a), turned, side, 1, noise):
            return "same picture" if turn is None else "mirrored or rotated"
    inner, other = within_border(a), within_border(b)
    if inner != _whole(a) or other != _whole(b):
        for one, two in ((inner, other), (inner, _whole(b)), (_whole(a), other)):
            part = b if two == _whole(b) else b.crop(two)
            for _, turned in _likely_turns(a, one, part):
                box = _aligned(a, one, turned, side)
                if box and _agree(a, box, turned, side, EDGE):
                    return "cropped"
    for large, small in ((a, b), (b, a)):
        box = _found(large, small, side)
        if box and _shapes_agree(box, _whole(small)) and _agree(large, box, small, side, EDGE):
            return "cropped"
    return None


def _likely_turns(
    a: Image.Image, box: Box, b: Image.Image
) -> Iterator[tuple[Image.Transpose | None, Image.Image]]:
    """The positions of ``b`` in which it roughly shows what the part of ``a`` within ``box`` does,
    and ``b`` so."""
    outline = _outline(a, box)
    for turn in TURNS:
        turned = b if turn is None else b.transpose(turn)
        whole = _whole(turned)
        if (
            _shapes_agree(box, whole)
            and _correlation(outline, _outline(turned, whole)) >= PROMISING
        ):
            yield turn, turned


def _outline(image: Image.Image, box: Box) -> Floats:
    return _fitted(image.convert("L"), box, (SIDE, SIDE))


def _correlation(one: Floats, two: Floats) -> float:
    a, b = one - one.mean(), two - two.mean()
    return float((a * b).sum()) / max(1e-3, float(np.sqrt((a * a).sum() * (b * b).sum())))


def _whole(image: Image.Image) -> Box:
    return 0.0, 0.0, float(image.width), float(image.height)


def _shapes_agree(one: Box, two: Box) -> bool:
    """But for rounding, which counts more for small images."""
    (w, h), (v, u) = _sides(one), _sides(two)
    return abs(w * u - h * v) <= ASPECT * w * u + max(w, h, v, u)


def _sides(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _fitted(image: Image.Image, box: Box, size: tuple[int, int]) -> Floats:
    made = image.resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(made, np.float32)


def _grid(box: Box, small: Image.Image, side: int) -> tuple[int, int]:
    """The size, (width, height), at which a part and an image are compared: larger than neither."""
    w, h = small.size
    scale = min(1.0, side / max(w, h), _sides(box)[0] / w)
    return max(SMALLEST, round(w * scale)), max(SMALLEST, round(h * scale))


def _agree(
    a: Image.Image, box: Box, b: Image.Image, side: int, edge: int, noise: float = 1.0
) -> bool:
    """Whether the part of ``a`` within ``box`` shows what all of ``b`` shows, but for ``edge``
    pixels along its sides."""
    size = _grid(box, b, side)
    one, two = _fitted(a, box, size), _fitted(b, _whole(b), size)
    if min(size) > SMALLEST + 2 * edge:
        one, two = (x[edge:-edge, edge:-edge] for x in (one, two))
    if any(np.abs(x - (x @ _LUMINANCE)[..., np.newaxis]).mean() < GREY for x in (one, two)):
        one, two = ((x @ _LUMINANCE)[..., np.newaxis] for x in (one, two))
    # Where one was made so bright that it was cut off, only it can be predicted from the other.
    return _predicts(one, two, noise) or (
        bool(((one >= LIGHT) | (one <= DARK)).any()) and _predicts(two, one, noise)
    )


def _predicts(source: Floats, target: Floats, noise: float) -> bool:
    """Whether one change of tone makes all of ``target`` of ``source``, (h, w, 1 or 3)."""
    toned = _with_tone_of(target, source)
    if toned is None:
        return False
    if source.shape[2] == 1:
        ours, theirs = toned[..., 0], target[..., 0]
    else:
        ours, theirs = toned @ _LUMINANCE, target @ _LUMINANCE
    if _correlation(_detail(ours), _detail(theirs)) < SAME_DETAIL:
        return False
    differ = np.abs(_mean_around(ours - theirs, 1))
    contrast = np.minimum(_contrast_around(ours), _contrast_around(theirs))
    if (differ > noise * (NOISE + OF_CONTRAST * contrast)).any():
        return False
    if source.shape[2] == 1:
        return True
    # Red and blue less luminance.
    ours, theirs = (
        x[..., [0, 2]] - y[..., np.newaxis] for x, y in ((toned, ours), (target, theirs))
    )
    gain = float((ours * theirs).sum() / max(1e-6, float((ours * ours).sum())))
    differ = min(2.5, max(0.4, gain)) * ours - theirs
    differ -= np.clip(np.median(differ, axis=(0, 1)), -12, 12)
    return all(
        bool((np.abs(_mean_around(differ[..., k], 3)) <= NOISE_OF_COLOUR).all()) for k in (0, 1)
    )


def _with_tone_of(target: Floats, source: Floats) -> Floats | None:
    """The polynomial c0 + c1 x + c2 x^2 of ``source`` that is closest to ``target``; None if it
    does not rise with x."""
    kept = (source > DARK) & (source < LIGHT) & (target > DARK) & (target < LIGHT)
    if np.count_nonzero(kept) < SMALLEST**2:
        kept[:] = True
    x, y = source[kept].astype(np.float64) / 255, target[kept].astype(np.float64) / 255
    powers = np.stack([np.ones_like(x), x, x * x])
    gram = powers @ powers.T
    gram[2, 2] += 1e-3 * len(x)  # rather straight than bent
    c = np.linalg.lstsq(gram, powers @ y, rcond=None)[0]
    if min(c[1] + 2 * c[2] * np.quantile(x, q) for q in (0.02, 0.98)) < LEAST_SLOPE:
        return None
    scaled = source / 255
    toned: Floats = 255 * (c[0] + c[1] * scaled + c[2] * scaled * scaled).astype(np.float32)
    return toned.clip(0, 255)


def _mean_around(values: Floats, radius: int) -> Floats:
    """Means over squares of 2 radius + 1 pixels, (h, w)."""
    size = 2 * radius + 1
    sums = _running_sums(np.pad(values, radius, mode="edge"))
    corners = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return (corners / size**2).astype(np.float32)


def _detail(values: Floats) -> Floats:
    """What is finer than 7 pixels: two clear skies differ in nothing else."""
    return values - _mean_around(values, 3)


def _contrast_around(values: Floats) -> Floats:
    """Standard deviations over squares of 7 pixels."""
    mean = _mean_around(values, 3)
    return np.sqrt(np.maximum(_mean_around(values * values, 3) - mean * mean, 0))


def within_border(image: Image.Image) -> Box:
    """What is left of an image without borders of one colour, at most a quarter of each side: left,
    top, right and bottom in pixels."""
    grey = np.asarray(image.convert("L"), np.float32)

    def depth(lines: Floats) -> int:
        """How many of the first lines are of one colour; one more, which a smaller size blurs."""
        away = np.abs(lines[: len(lines) // 4] - np.median(lines[0]))
        plain = (away.mean(axis=1) <= BORDER) & (away.max(axis=1) <= 4 * BORDER)
        count = len(plain) if plain.all() else int(np.argmin(plain))
        return count + 1 if 0 < count < len(plain) else 0

    top, bottom, left, right = map(depth, (grey, grey[::-1], grey.T, grey.T[::-1]))
    return float(left), float(top), float(image.width - right), float(image.height - bottom)


def adds_border(a: Image.Image, b: Image.Image, side: int) -> float | None:
    """Of images of which ``b`` is a part of ``a``: the width of that part, as a share of that of
    ``a``, if the rest of ``a`` is a border of one colour; else None."""
    box = _found(a, b, side)
    if box is None:
        return None
    grey = np.asarray(a.convert("L"), np.float32)
    left, top, right, bottom = (round(x) for x in box)
    strips = (
        grey[: max(0, top - EDGE)],
        grey[bottom + EDGE :],
        grey[:, : max(0, left - EDGE)],
        grey[:, right + EDGE :],
    )
    away = [np.abs(strip - np.median(strip)).max() for strip in strips if strip.size]
    return _sides(box)[0] / a.width if away and max(away) <= 4 * BORDER else None


def _found(large: Image.Image, small: Image.Image, side: int) -> Box | None:
    """Where all of ``small`` is in ``large``: the best of normalised cross-correlations at several
    sizes, aligned. None if it is not."""
    scale = min(1.0, SEARCHED / max(large.size))
    size = (max(SMALLEST, round(large.width * scale)), max(SMALLEST, round(large.height * scale)))
    image = _fitted(large.convert("L"), _whole(large), size)
    grey = small.convert("L")
    fit = min(size[0] / small.width, size[1] / small.height)
    best, box = PROMISING, None
    spectrum, sums = np.fft.rfft2(image), (_running_sums(image), _running_sums(image * image))
    share = 1.0
    while share >= SMALLEST_PART:
        w, h = (max(SMALLEST, round(n * fit * share)) for n in small.size)
        if w <= size[0] and h <= size[1]:
            part = _fitted(grey, _whole(small), (w, h))
            score, x, y = _best_place(image.shape, spectrum, sums, part)
            if score > best:
                across, down = large.width / size[0], large.height / size[1]
                best, box = score, (x * across, y * down, (x + w) * across, (y + h) * down)
        share *= SCALE_STEP
    for at in (SEARCHED, side):
        box = box and _aligned(large, box, small, at)
    return box


def _running_sums(values: Floats) -> NDArray[np.float64]:
    return np.pad(np.cumsum(np.cumsum(values, 0, np.float64), 1), ((1, 0), (1, 0)))


def _best_place(
    shape: tuple[int, ...],
    spectrum: NDArray[np.complexfloating],
    sums: tuple[NDArray[np.float64], NDArray[np.float64]],
    part: Floats,
) -> tuple[float, int, int]:
    """Where in an image of that shape ``part`` correlates most: the correlation, x and y.

    Args:
        spectrum: of the image.
        sums: running ones of its values and of their squares.
    """
    h, w = part.shape
    part = part - part.mean()
    norm = float(np.sqrt((part * part).sum()))
    product = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(part, shape)), shape)
    product = product[: shape[0] - h + 1, : shape[1] - w + 1]
    values, squares = (x[h:, w:] - x[:-h, w:] - x[h:, :-w] + x[:-h, :-w] for x in sums)
    spread = squares - values**2 / (h * w)
    scores = product / np.maximum(norm * np.sqrt(np.maximum(spread, 0)), 1e-3 * h * w)
    y, x = np.unravel_index(np.argmax(scores), scores.shape)
    return float(scores[y, x]), int(x), int(y)


def _aligned(a: Image.Image, box: Box, b: Image.Image, side: int) -> Box | None:
    """``box`` moved and scaled so that it shows best what ``b`` shows, by the method of Lucas and
    Kanade; None if it leaves ``a``."""
    grey, theirs = a.convert("L"), b.convert("L")
    size = _grid(box, b, side)
    target = _fitted(theirs, _whole(b), size)
    target = target - target.mean()
    y, x = np.mgrid[-0.5 : 0.5 : size[1] * 1j, -0.5 : 0.5 : size[0] * 1j].astype(np.float32)
    for _ in range(ROUNDS):
        found = _fitted(grey, box, size)
        found = found - found.mean()
        energy = float((found * found).sum())
        found = found * (float((found * target).sum()) / max(energy, 1e-6))
        down, across = np.gradient(found)
        wider, higher = across * x * size[0], down * y * size[1]
        slopes = np.stack([each.ravel() for each in (across, down, wider, higher)])
        gram = slopes @ slopes.T
        gram += 1e-6 * np.trace(gram) * np.eye(4)
        step = np.linalg.solve(gram, slopes @ (target - found).ravel())
        dx, dy, dw, dh = (float(value) for value in step)
        w, h = _sides(box)
        dx, dy, dw, dh = dx * w / size[0], dy * h / size[1], dw * w / 2, dh * h / 2
        box = (
            max(0.0, box[0] + dx - dw),
            max(0.0, box[1] + dy - dh),
            min(float(a.width), box[2] + dx + dw),
            min(float(a.height), box[3] + dy + dh),
        )
        if min(_sides(box)) < SMALLEST / 2:
            return None
        if max(abs(dx), abs(dw), abs(dy), abs(dh)) < 2e-4 * max(w, h):
            break
    return box
