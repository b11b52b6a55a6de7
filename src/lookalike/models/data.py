"""Training data: class folders, decoded images, what is held out, the order of an epoch.

A training folder holds one folder for each class, and that one its images: FOLDER/CLASS/IMAGE.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import TrainingError, named
from lookalike.evaluation.protocol import draw_split
from lookalike.images import SkippedImageError, looks_like_image
from lookalike.images.decoder import Decoder
from lookalike.models.settings import Triple, triple

Positions: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Image files with their classes; `labels` int64 (n,) are positions in `classes`."""

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Positions

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Positions) -> LabelledImages:
        """Some of the images, in that order, with the same classes."""
        paths = tuple(self.paths[i] for i in positions.tolist())
        return LabelledImages(self.classes, paths, self.labels[positions])

    def only(self, labels: Positions) -> LabelledImages:
        """The images of some classes, which are renumbered in their old order."""
        kept = np.unique(labels)
        chosen = self.take(np.flatnonzero(np.isin(self.labels, kept)))
        classes = tuple(self.classes[i] for i in kept.tolist())
        return LabelledImages(classes, chosen.paths, np.searchsorted(kept, chosen.labels))


def class_folders(folder: Path) -> tuple[LabelledImages, tuple[Skipped, ...]]:
    """The image files of FOLDER/CLASS/IMAGE, judged by name alone, in the order of their names.

    Hidden files and folders are passed over; images beside the class folders and folders inside
    them are reported. TrainingError if it is not a folder, or an empty class is in it.
    """
    try:
        entries = _listing(folder)
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be read as a folder ({error.strerror}): give one that holds a "
            "folder of images for each class"
        ) from error
    skipped = [
        Skipped(path, "it is in no class folder: move it into one")
        for path in entries
        if not path.is_dir() and looks_like_image(path.name)
    ]
    classes = [path for path in entries if path.is_dir()]
    paths: list[Path] = []
    labels: list[int] = []
    empty = []
    for number, home in enumerate(classes):
        try:
            inside = _listing(home)
        except OSError as error:
            raise TrainingError(f"class folder {home} cannot be read ({error.strerror})") from error
        skipped += [
            Skipped(path, "it is a folder inside a class: only images directly in it are read")
            for path in inside
            if path.is_dir()
        ]
        own = [path for path in inside if not path.is_dir() and looks_like_image(path.name)]
        if not own:
            empty.append(home.name)
        paths += own
        labels += [number] * len(own)
    if empty:
        raise TrainingError(
            f"{_classes(empty)} no images: put some into each folder, or remove the folder"
        )
    names = tuple(path.name for path in classes)
    return LabelledImages(names, tuple(paths), np.array(labels, np.int64)), tuple(skipped)


def _listing(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _classes(names: Sequence[str]) -> str:
    shown = named([repr(name) for name in names])
    return f"class {shown} has" if len(names) == 1 else f"classes {shown} have"


def check_classes(images: LabelledImages, skipped: Sequence[Skipped], needed: int = 2) -> None:
    """TrainingError unless there are two classes with at least `needed` images each."""
    counts = np.bincount(images.labels, minlength=len(images.classes))
    lost = ""
    if skipped:
        lost = f" ({len(skipped)} skipped, such as {skipped[0].path}: {skipped[0].reason})"
    if len(images.classes) < 2:
        found = f"only one class, {images.classes[0]!r}," if images.classes else "no class folder"
        raise TrainingError(
            f"{found} was found{lost}: training compares classes, so give a folder that holds at "
            "least two folders of images"
        )
    for limit, what, remedy in (
        (1, "no readable image", "replace the files, or remove the folder"),
        (2, "one image only, so that no other can be found by it", "add images, or remove it"),
        (needed, f"fewer than {needed} images", "add images, or hold out fewer for validation"),
    ):
        short = [name for name, n in zip(images.classes, counts, strict=True) if n < limit]
        if short:
            raise TrainingError(f"{_classes(short)} {what}{lost}: {remedy}")


# ---- order ---------------------------------------------------------------------------------------


def validation_split(
    labels: Positions, seed: int, share: float, per_class: int | None = None
) -> tuple[Positions, Positions]:
    """Positions to train on and to validate on, both ascending.

    Each class gives `per_class` images, or its `share` rounded, at least one if the share is not
    zero, and keeps at least one.
    """

    def held_of(count: int) -> int:
        wanted = per_class
        if wanted is None:
            wanted = 0 if share == 0 else max(1, round(share * count))
        return min(wanted, count - 1)

    held, rest = draw_split(labels, seed, held_of)
    return rest, held


def balanced_sample(labels: Positions, seed: int, count: int) -> Positions:
    """Positions, ascending, of `count` random images, as many of each class as can be.

    One of each class if these are more than `count`; all if there are not as many.
    """
    order = np.random.default_rng(seed).permutation(len(labels)).astype(np.int64)
    turn = np.empty(len(labels), np.int64)  # of an image among those of its class
    for label in np.unique(labels).tolist():
        own = labels[order] == label
        turn[own] = np.arange(np.count_nonzero(own))
    count = max(count, len(np.unique(labels)))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def epoch_batches(
    labels: Positions, seed: int, epoch: int, batch_size: int, group: int = 1
) -> list[Positions]:
    """Positions of each batch of an epoch; every image comes once.

    With a `group` above 1, images of a class stay together in groups of that many, so that a
    batch has positive pairs for a metric loss. A last batch of a single image joins the one before:
    batch norm and pairs need two.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(labels)).astype(np.int64)
    if group > 1:
        groups = []
        for label in np.unique(labels).tolist():
            own = order[labels[order] == label]
            groups += [own[i : i + group] for i in range(0, len(own), group)]
        order = np.concatenate([groups[i] for i in generator.permutation(len(groups))])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return batches


Item = TypeVar("Item")
Result = TypeVar("Result")


class SquareImages:
    """Pixels of image files, squeezed to size x size: `squares[i]` is uint8 (size, size, 3).

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
            return self._decoder.read_image(self.paths[index], self.size).pixels
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
) -> tuple[LabelledImages, SquareImages, tuple[Skipped, ...]]:
    """Decode every file once; those that cannot be are left out and reported.

    Returns the readable images, their pixels in the same order, and what was skipped.
    `progress(done, all)` is called after each file. `memory` is in bytes.
    """

    decoder = Decoder()

    def read(path: Path) -> NDArray[np.uint8] | SkippedImageError:
        try:
            return decoder.read_image(path, size).pixels
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
    return readable, SquareImages(readable.paths, kept[: len(good)], size), tuple(skipped)


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


@dataclass(frozen=True)
class Statistics:
    """Of each channel over all pixels of all images, in 0..255."""

    mean: Triple
    low: Triple
    high: Triple

    @property
    def std(self) -> Triple:
        """Divisor of Eq. 2: max - min. A channel of one value only divides by 255.

        Eq. 1 then Eq. 2 is (x - mean) / (max - min), for a difference does not feel the mean's
        removal; with this as its `std` a model file says exactly that.
        """
        ranges = zip(self.low, self.high, strict=True)
        return triple(high - low or 255.0 for low, high in ranges)


def pixel_statistics(squares: SquareImages, positions: Positions, threads: int) -> Statistics:
    """Of some of the images, at least one; exact: integer sums."""

    def one(index: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
        pixels = squares[index].reshape(-1, 3)
        return pixels.sum(axis=0, dtype=np.int64), pixels.min(axis=0), pixels.max(axis=0)

    total = np.zeros(3, np.int64)
    low, high = np.full(3, 255, np.uint8), np.zeros(3, np.uint8)
    for sums, least, most in in_order(one, positions.tolist(), threads):
        total += sums
        low, high = np.minimum(low, least), np.maximum(high, most)
    mean = total / (len(positions) * squares.size**2)
    return Statistics(triple(mean), triple(low), triple(high))
