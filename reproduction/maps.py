"""Feature maps of the frozen stages of a trunk, kept on disk for all trainings.

What frozen stages compute of an image is the same in every split and for every method, so it is
computed once: of the image as it is (view 0) and of VIEWS augmented views of it, as float16.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from lookalike.atomic import atomic_writer
from lookalike.models.augment import augment
from lookalike.models.data import in_order
from lookalike.models.inputs import CHUNK, WORKING_SIZE
from lookalike.models.settings import AugmentSettings
from lookalike.models.trunks import Trunk
from lookalike.runtimes import Scaling
from lookalike.threads import cores
from reproduction.collection import Collection, Pixels, Positions, squeeze

VIEWS = 4
AUGMENTATION = AugmentSettings()
"""Of the views, drawn with seed 0; view v is that of epoch v."""
SAVE_EVERY = 50
"""Chunks."""


class Rows:
    """An array in a file and, beside it, how many of its rows are written.

    A new file takes all of its room at once, so that a full disk is an OSError here, and does not
    end the process when a page is written.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._count = path.with_suffix(".done")
        if not (path.exists() and path.stat().st_size == size):
            self._count.unlink(missing_ok=True)
            try:
                with path.open("wb") as file:
                    if hasattr(os, "posix_fallocate"):  # not on macOS
                        os.posix_fallocate(file.fileno(), 0, size)
                    file.truncate(size)
            except OSError as error:
                path.unlink(missing_ok=True)
                error.filename = str(path)
                raise
        self.array: np.memmap[Any, Any] = np.memmap(path, dtype, "r+", shape=shape)

    @property
    def count(self) -> int:
        return int(self._count.read_text()) if self._count.exists() else 0

    def save(self, count: int) -> None:
        """Flush, then note that so many rows are written."""
        self.array.flush()
        with atomic_writer(self._count) as file:
            file.write(str(count).encode())


class SharedMaps:
    """Maps after some `stages` of a trunk, computed when this is opened.

    An interrupted computation resumes after the last chunk that was noted. The files in `directory`
    are named by the images, their size, the augmentation, and `weights`, a name for those of the
    trunk. OSError for a full disk.
    """

    def __init__(
        self,
        collection: Collection,
        trunk: Trunk,
        stages: tuple[int, ...],
        size: int,
        weights: str,
        directory: Path,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.collection, self.trunk, self.size, self.report = collection, trunk.eval(), size, report
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        about = repr((weights, AUGMENTATION, VIEWS)).encode()
        made = hashlib.blake2b(about, digest_size=4).hexdigest()
        base = f"{collection.name}-maps-{collection.digest}-{size}-{made}"
        self.total = (VIEWS + 1) * len(collection)
        self.rows = {
            stage: Rows(
                directory / f"{base}-{stage}.f16",
                np.float16,
                (self.total, trunk.channels[stage], *2 * (trunk.sides(size)[stage],)),
            )
            for stage in stages
        }
        self._compute(min(rows.count for rows in self.rows.values()))

    def take(self, stages: tuple[int, ...], view: int, rows: Positions) -> tuple[torch.Tensor, ...]:
        """Of each stage, float16 (n, C, h, w)."""
        at = view * len(self.collection) + rows
        return tuple(torch.from_numpy(self.rows[stage].array[at]) for stage in stages)

    def _compute(self, begin: int) -> None:
        scaling = Scaling(self.trunk.mean, self.trunk.std)
        began = time.perf_counter()

        def view(number: int) -> Pixels:
            view, row = divmod(number, len(self.collection))
            image = self.collection.pixels[row]
            return augmented(image, self.size, view, row) if view else squeeze(image, self.size)

        def batch(start: int) -> torch.Tensor:
            some = [view(i) for i in range(start, min(start + CHUNK, self.total))]
            return torch.from_numpy(scaling.batch(some))

        starts = range(begin, self.total, CHUNK)
        batches = in_order(batch, starts, cores(), ahead=4)
        for start, images in zip(starts, batches, strict=True):
            with torch.no_grad():
                maps = self.trunk.stages(images.contiguous(memory_format=torch.channels_last))
            end = start + len(images)
            for stage, rows in self.rows.items():
                rows.array[start:end] = maps[stage].contiguous().numpy()
            if start // CHUNK % SAVE_EVERY == SAVE_EVERY - 1 or end == self.total:
                for rows in self.rows.values():
                    rows.save(end)
                rate = (end - begin) / (time.perf_counter() - began)
                self.report(
                    f"{self.collection.name}: maps {end:,} of {self.total:,}, {rate:.0f} images/s"
                )


def augmented(image: Pixels, size: int, view: int, row: int) -> Pixels:
    """View 1, 2, ... of the image in that row of a collection, (size, size, 3)."""
    whole = squeeze(image, math.ceil(size * WORKING_SIZE))
    return augment(whole, size, AUGMENTATION, 0, view, row)
