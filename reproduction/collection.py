"""Labelled images in memory, and samples of them that methods learn from and search."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import TrainingError
from lookalike.images import SkippedImageError, read_rgb
from lookalike.models.data import (
    LabelledImages,
    Skipped,
    check_classes,
    class_folders,
    in_order,
)
from lookalike.threads import cores

Pixels: TypeAlias = NDArray[np.uint8]
"""An image, RGB (h, w, 3)."""
Positions: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Described = TypeVar("Described")


def digest(about: object, size: int, rows: Positions | None = None) -> str:
    """Of a JSON value and positions, `size` bytes in hexadecimal: part of the names of files, so
    that those that were computed in different ways differ.
    """
    state = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=size)
    if rows is not None:
        state.update(np.ascontiguousarray(rows).tobytes())
    return state.hexdigest()


LONGEST_SIDE = 384
"""Of an image in memory, as in the Corel originals; larger ones are reduced to it."""


def read_pixels(path: Path) -> Pixels:
    """The file, decoded. SkippedImageError if that fails."""
    return np.asarray(read_rgb(path, longest_side=LONGEST_SIDE))


class Collection:
    """The images of a folder of class folders. Row i is the i-th readable one.

    `remembered` keeps what a slow function returned for each image.
    """

    def __init__(
        self, name: str, images: LabelledImages, pixels: list[Pixels], skipped: tuple[Skipped, ...]
    ) -> None:
        self.name, self.images, self.pixels, self.skipped = name, images, pixels, skipped
        self._remembered: dict[str, dict[int, Any]] = {}

    @classmethod
    def read(cls, folder: Path, name: str = "") -> Collection:
        """All readable images of FOLDER/CLASS/IMAGE, in the order of their names.

        Without a name it has the folder's: for "." that of the current one, for a link the link's.
        TrainingError for fewer than two classes.
        """
        listed, skipped = class_folders(folder)
        pixels, rows = [], []
        for row, path in enumerate(listed.paths):
            try:
                pixels.append(read_pixels(path))
                rows.append(row)
            except SkippedImageError as error:
                skipped += (Skipped(path, str(error)),)
        images = listed.take(np.array(rows, np.int64))
        try:
            check_classes(images, skipped)
        except TrainingError as error:
            raise TrainingError(f"{folder}: {error}") from error
        return cls(name or os.path.basename(os.path.abspath(folder)), images, pixels, skipped)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def labels(self) -> Positions:
        return self.images.labels

    @cached_property
    def digest(self) -> str:
        """Of all pixels and labels, 12 hex digits; files that were made from them carry it."""
        state = hashlib.blake2b(np.ascontiguousarray(self.labels).tobytes(), digest_size=6)
        for image in self.pixels:
            state.update(repr(image.shape).encode())
            state.update(image.tobytes())
        return state.hexdigest()

    def sample(self, rows: Positions) -> Sample:
        return Sample(self, np.asarray(rows, np.int64))

    def remembered(
        self, key: str, function: Callable[[Pixels], Described], rows: Positions
    ) -> list[Described]:
        """function(image) of each row, in several threads. `key` names the function and all its
        settings.
        """
        known = self._remembered.setdefault(key, {})
        missing = [row for row in rows.tolist() if row not in known]
        images = (self.pixels[row] for row in missing)
        known.update(zip(missing, in_order(function, images, cores()), strict=True))
        return [known[row] for row in rows.tolist()]


@dataclass(frozen=True, eq=False)
class Sample:
    """Some images of a collection: those of int64 `rows` (n,), in that order."""

    collection: Collection
    rows: Positions

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Pixels]:
        return (self.collection.pixels[row] for row in self.rows.tolist())

    @property
    def labels(self) -> Positions:
        """int64 (n,): positions in the collection's classes."""
        return self.collection.labels[self.rows]

    def each(self, key: str, function: Callable[[Pixels], Described]) -> list[Described]:
        """As `Collection.remembered`."""
        return self.collection.remembered(key, function, self.rows)

    def class_name(self, position: int) -> str:
        return self.collection.images.classes[int(self.labels[position])]


def squeeze(image: Pixels, size: int) -> Pixels:
    """(h, w, 3) -> (size, size, 3), as `lookalike.images.read_image` does it for a query."""
    if image.shape[:2] == (size, size):
        return image
    resized = Image.fromarray(image).resize(
        (size, size), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return np.array(resized)
