"""Maps of pictures from the frozen stages of a trunk, kept on disk for all trainings.

What frozen stages make of a picture is the same in every split and for every method, so it is
worked out once: of the picture as it is (view 0) and of VIEWS augmented views of it, as float16.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookalike.atomic import atomic_writer
from lookalike.models.augment import AugmentSettings, augment
from lookalike.models.inputs import CHUNK, Normalise
from lookalike.models.pictures import default_threads, in_order
from lookalike.models.train_data import WORKING_SIZE
from lookalike.models.trunk import Trunk
from lookalike.paper.collection import Collection, Positions, squeeze

__all__ = ["AUGMENTATION", "VIEWS", "SharedMaps", "read_count", "write_count"]

VIEWS = 4
AUGMENTATION = AugmentSettings()
"""Of the views, drawn with seed 0; view v is that of epoch v."""
SAVE_EVERY = 50
"""Chunks."""
Tell = Callable[[str], None]


class SharedMaps:
    """Maps after some `stages` of a trunk with ImageNet weights, made when this is opened.

    An interrupted making goes on at the last chunk that was noted.
    """

    def __init__(
        self,
        collection: Collection,
        trunk: Trunk,
        stages: tuple[int, ...],
        size: int,
        directory: Path,
        tell: Tell = lambda _: None,
    ) -> None:
        self.collection, self.trunk, self.size, self.tell = collection, trunk.eval(), size, tell
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.arrays: dict[int, np.memmap[Any, np.dtype[np.float16]]] = {}
        base = f"maps-{collection.digest}-{size}"
        self.done = directory / f"{base}-{'-'.join(map(str, stages))}.done"
        for stage in stages:
            channels, side = trunk.channels[stage], trunk.sides(size)[stage]
            path = directory / f"{base}-{stage}.f16"
            shape = (VIEWS + 1, len(collection), channels, side, side)
            mode: Any = (
                "r+" if path.exists() and path.stat().st_size == 2 * math.prod(shape) else "w+"
            )
            if mode == "w+":
                self.done.unlink(missing_ok=True)
            self.arrays[stage] = np.memmap(path, np.float16, mode, shape=shape)
        self._make(read_count(self.done))

    def take(self, stages: tuple[int, ...], view: int, rows: Positions) -> tuple[torch.Tensor, ...]:
        """Of each stage, float16 (n, C, h, w)."""
        return tuple(torch.from_numpy(self.arrays[stage][view, rows]) for stage in stages)

    def _make(self, begin: int) -> None:
        count = len(self.collection)
        total = (VIEWS + 1) * count
        normalise = Normalise(self.trunk.mean, self.trunk.std)
        working = math.ceil(self.size * WORKING_SIZE)
        threads = default_threads()

        def pixels(start: int) -> torch.Tensor:
            batch = []
            for number in range(start, min(start + CHUNK, total)):
                view, row = divmod(number, count)
                picture = self.collection.pictures[row]
                if view:
                    whole = squeeze(picture, working)
                    batch.append(augment(whole, self.size, AUGMENTATION, 0, view, row))
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


def read_count(path: Path) -> int:
    """What `write_count` noted; 0 if nothing."""
    return int(path.read_text()) if path.exists() else 0


def write_count(path: Path, count: int) -> None:
    """How far some work has come, whole at every moment."""
    with atomic_writer(path) as file:
        file.write(str(count).encode())
