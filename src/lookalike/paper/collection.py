"""Labelled pictures in memory, and samples of them that methods learn from and search."""

from __future__ import annotations

import hashlib
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
from lookalike.images import read_rgb
from lookalike.images.formats import SkippedImageError
from lookalike.models.data import (
    LabelledImages,
    Skipped,
    check_classes,
    class_folders,
    default_threads,
    in_order,
)

__all__ = ["Collection", "Picture", "Positions", "Sample", "squeeze"]

Picture: TypeAlias = NDArray[np.uint8]
"""(h, w, 3), RGB."""
Positions: TypeAlias = NDArray[np.int64]
Described = TypeVar("Described")

LONGEST_SIDE = 384
"""Of a picture in memory, as in the Corel originals; a larger one is made smaller."""


class Collection:
    """The pictures of a folder of class folders. Row i is the i-th readable one.

    `remembered` keeps what a slow function made of each picture for the life of the collection.
    """

    def __init__(
        self,
        name: str,
        images: LabelledImages,
        pictures: list[Picture],
        skipped: tuple[Skipped, ...],
    ) -> None:
        self.name, self.images, self.pictures, self.skipped = name, images, pictures, skipped
        self._remembered: dict[str, dict[int, Any]] = {}

    @classmethod
    def read(cls, folder: Path, name: str = "") -> Collection:
        """All readable images of FOLDER/CLASS/IMAGE, in the order of their names.

        Without a name it has the folder's: of "." that of the current one, of a link the link's.
        TrainingError for fewer than two classes.
        """
        listed, skipped = class_folders(folder)
        pictures, rows = [], []
        for row, path in enumerate(listed.paths):
            try:
                pictures.append(np.asarray(read_rgb(path, longest_side=LONGEST_SIDE)))
                rows.append(row)
            except SkippedImageError as error:
                skipped += (Skipped(path, str(error)),)
        images = listed.take(np.array(rows, np.int64))
        try:
            check_classes(images, skipped)
        except TrainingError as error:
            raise TrainingError(f"{folder}: {error}") from error
        return cls(name or os.path.basename(os.path.abspath(folder)), images, pictures, skipped)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> Positions:
        return self.images.labels

    @cached_property
    def digest(self) -> str:
        """Of all pixels and labels, 12 hex digits; what was worked out of them goes by it."""
        state = hashlib.blake2b(np.ascontiguousarray(self.labels).tobytes(), digest_size=6)
        for picture in self.pictures:
            state.update(repr(picture.shape).encode())
            state.update(picture.tobytes())
        return state.hexdigest()

    def sample(self, rows: Positions) -> Sample:
        return Sample(self, np.asarray(rows, np.int64))

    def remembered(
        self, key: str, function: Callable[[Picture], Described], rows: Positions
    ) -> list[Described]:
        """function(picture) of each row, by several threads. `key` names the function with all its
        settings.
        """
        known = self._remembered.setdefault(key, {})
        missing = [row for row in rows.tolist() if row not in known]
        pictures = (self.pictures[row] for row in missing)
        known.update(zip(missing, in_order(function, pictures, default_threads()), strict=True))
        return [known[row] for row in rows.tolist()]


@dataclass(frozen=True, eq=False)
class Sample:
    """Some pictures of a collection: those of int64 `rows` (n,), in that order."""

    collection: Collection
    rows: Positions

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Picture]:
        return (self.collection.pictures[row] for row in self.rows.tolist())

    @property
    def labels(self) -> Positions:
        """int64 (n,): positions in the collection's classes."""
        return self.collection.labels[self.rows]

    def each(self, key: str, function: Callable[[Picture], Described]) -> list[Described]:
        """As `Collection.remembered`."""
        return self.collection.remembered(key, function, self.rows)


def squeeze(picture: Picture, size: int) -> Picture:
    """(h, w, 3) -> (size, size, 3), as `images.read_picture` does it for a query."""
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
