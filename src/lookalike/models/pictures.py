"""The pictures of a training: decoded once, kept as far as memory goes, and their statistics."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import TrainingError
from lookalike.images.decoder import Decoder
from lookalike.images.formats import SkippedImageError
from lookalike.models.dataset import LabelledImages, Positions, Skipped

__all__ = [
    "Pictures",
    "Statistics",
    "default_threads",
    "in_order",
    "pixel_statistics",
    "read_labelled",
]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pictures:
    """Pixels of image files, squeezed to size x size: `pictures[i]` is uint8 (size, size, 3).

    The first ones, as many as `memory` bytes hold, stay decoded; the others are decoded at each
    use. Made by `read_labelled`. Any number of threads may read.
    """

    def __init__(self, paths: tuple[Path, ...], kept: NDArray[np.uint8], size: int) -> None:
        self.paths, self.kept, self.size = paths, kept, size
        self._decoder = Decoder()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index < len(self.kept):
            own: NDArray[np.uint8] = self.kept[index]
            return own
        try:
            return self._decoder.read_picture(self.paths[index], self.size).pixels
        except SkippedImageError as error:
            raise TrainingError(
                f"{self.paths[index]} could be read when the training began and now cannot "
                f"({error}): put it back and run the same command again, which goes on"
            ) from error


def read_labelled(
    images: LabelledImages,
    size: int,
    *,
    memory: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelledImages, Pictures, tuple[Skipped, ...]]:
    """Decode every file once; those that cannot be are left out and reported.

    Returns the readable images, their pictures in the same order, and what was skipped.
    `progress(done, all)` is told after each file. `memory` is in bytes.
    """

    decoder = Decoder()

    def read(path: Path) -> NDArray[np.uint8] | SkippedImageError:
        try:
            return decoder.read_picture(path, size).pixels
        except SkippedImageError as error:
            return error

    capacity = min(len(images), memory // (3 * size * size))
    kept = np.empty((capacity, size, size, 3), np.uint8)
    good: list[int] = []
    skipped = []
    for number, result in enumerate(in_order(read, images.paths, threads)):
        if isinstance(result, SkippedImageError):
            skipped.append(Skipped(images.paths[number], str(result)))
        else:
            if len(good) < capacity:
                kept[len(good)] = result
            good.append(number)
        if progress is not None:
            progress(number + 1, len(images))
    readable = images.take(np.array(good, np.int64))
    return readable, Pictures(readable.paths, kept[: len(good)], size), tuple(skipped)


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int = 64
) -> Iterator[Result]:
    """function(item) for each item, in their order, worked out by threads at most `ahead` early.

    What the function raises is raised in that item's turn. Leaving early waits only for the calls
    that have begun.
    """
    source = iter(items)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "lookalike-train")
    try:
        for item in source:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def default_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Statistics:
    """Of each channel over all pixels of all pictures, in 0..255."""

    mean: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @property
    def std(self) -> tuple[float, float, float]:
        """Divisor of Eq. 2: max - min. A channel of one value only divides by 255.

        Eq. 1 then Eq. 2 is (x - mean) / (max - min), for a difference does not feel the mean's
        removal; with this as its `std` a model file says exactly that.
        """
        red, green, blue = (
            high - low or 255.0 for low, high in zip(self.low, self.high, strict=True)
        )
        return red, green, blue


def pixel_statistics(pictures: Pictures, positions: Positions, threads: int) -> Statistics:
    """Of some of the pictures, exact: integer sums."""

    def one(index: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
        pixels = pictures[index].reshape(-1, 3)
        return pixels.sum(axis=0, dtype=np.int64), pixels.min(axis=0), pixels.max(axis=0)

    if not len(positions):
        raise ValueError("statistics of no pictures")
    total = np.zeros(3, np.int64)
    low, high = np.full(3, 255, np.uint8), np.zeros(3, np.uint8)
    for sums, least, most in in_order(one, positions.tolist(), threads):
        total += sums
        low, high = np.minimum(low, least), np.maximum(high, most)
    mean = total / (len(positions) * pictures.size**2)
    return Statistics(_triple(mean), _triple(low), _triple(high))


def _triple(values: NDArray[np.generic]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values.tolist())
    return red, green, blue
