"""Maps of pictures from the frozen stages of a trunk, kept on disk for all trainings.

What frozen stages make of a picture is the same in every split and for every method, so it is
worked out once: of the picture as it is (view 0) and of VIEWS augmented views of it, as float16.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookalike.models.augment import AugmentSettings, augment
from lookalike.models.data import default_threads, in_order
from lookalike.models.inputs import CHUNK, WORKING_SIZE, Normalise
from lookalike.models.trunk import Trunk
from lookalike.paper.collection import Collection, Picture, Positions, squeeze
from lookalike.paper.mapped import open_rows, read_count, write_count

__all__ = ["AUGMENTATION", "VIEWS", "SharedMaps", "augmented"]

VIEWS = 4
AUGMENTATION = AugmentSettings()
"""Of the views, drawn with seed 0; view v is that of epoch v."""
SAVE_EVERY = 50
"""Chunks."""
Tell = Callable[[str], None]


class SharedMaps:
    """Maps after some `stages` of a trunk, made when this is opened.

    An interrupted making goes on at the last chunk that was noted. The files in `directory` go by
    the pictures, their size, the augmentation, and `weights`, a name for those of the trunk.
    OSError for a full disk.
    """

    def __init__(
        self,
        collection: Collection,
        trunk: Trunk,
        stages: tuple[int, ...],
        size: int,
        weights: str,
        directory: Path,
        tell: Tell = lambda _: None,
    ) -> None:
        self.collection, self.trunk, self.size, self.tell = collection, trunk.eval(), size, tell
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.arrays: dict[int, np.memmap[Any, np.dtype[np.float16]]] = {}
        about = repr((weights, AUGMENTATION, VIEWS)).encode()
        made = hashlib.blake2b(about, digest_size=4).hexdigest()
        base = f"maps-{collection.digest}-{size}-{made}"
        self.done = directory / f"{base}-{'-'.join(map(str, stages))}.done"
        for stage in stages:
            channels, side = trunk.channels[stage], trunk.sides(size)[stage]
            shape = (VIEWS + 1, len(collection), channels, side, side)
            self.arrays[stage], whole = open_rows(
                directory / f"{base}-{stage}.f16", np.float16, shape
            )
            if not whole:
                self.done.unlink(missing_ok=True)
        self._make(read_count(self.done))

    def take(self, stages: tuple[int, ...], view: int, rows: Positions) -> tuple[torch.Tensor, ...]:
        """Of each stage, float16 (n, C, h, w)."""
        return tuple(torch.from_numpy(self.arrays[stage][view, rows]) for stage in stages)

    def _make(self, begin: int) -> None:
        count = len(self.collection)
        total = (VIEWS + 1) * count
        normalise = Normalise(self.trunk.mean, self.trunk.std)
        threads = default_threads()

        def pixels(start: int) -> torch.Tensor:
            batch = []
            for number in range(start, min(start + CHUNK, total)):
                view, row = divmod(number, count)
                picture = self.collection.pictures[row]
                if view:
                    batch.append(augmented(picture, self.size, view, row))
                else:
                    batch.append(squeeze(picture, self.size))
            return normalise.stack(batch)

        starts = range(begin, total, CHUNK)
        began = time.perf_counter()
        for start, batch in zip(starts, in_order(pixels, starts, threads, ahead=4), strict=True):
            with torch.no_grad():
                found = self.trunk.stages(batch.contiguous(memory_format=torch.channels_last))
            for stage, array in self.arrays.items():
                rows = array.reshape(total, *array.shape[2:])
                rows[start : start + len(batch)] = found[stage].contiguous().numpy()
            end = start + len(batch)
            if start // CHUNK % SAVE_EVERY == SAVE_EVERY - 1 or end == total:
                for array in self.arrays.values():
                    array.flush()
                write_count(self.done, end)
                rate = (end - begin) / (time.perf_counter() - began)
                self.tell(f"{self.collection.name}: maps {end:,} of {total:,}, {rate:.0f} images/s")


def augmented(picture: Picture, size: int, view: int, row: int) -> Picture:
    """View 1, 2, ... of the picture in that row of a collection, (size, size, 3)."""
    whole = squeeze(picture, math.ceil(size * WORKING_SIZE))
    return augment(whole, size, AUGMENTATION, 0, view, row)
