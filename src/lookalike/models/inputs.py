"""What the network reads in a training: augmented pictures, or the maps of its frozen stages.

The frozen stages are run once for `views` augmented views of each picture, as far as memory goes;
epochs take the views in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.models.augment import augment
from lookalike.models.embedder import Embedder
from lookalike.models.frozen import Frozen, Maps
from lookalike.models.pictures import default_threads, in_order
from lookalike.models.train_data import TrainData
from lookalike.models.train_report import Listener, Progress
from lookalike.models.train_settings import TrainSettings
from lookalike.models.trunk import Triple

__all__ = ["CHUNK", "Inputs", "Normalise"]

Positions = NDArray[np.int64]
Batch: TypeAlias = Tensor | Maps
"""Images (n, 3, s, s), or their maps."""

CHUNK = 8
"""Pictures at once wherever nothing is learnt: more outgrow the CPU's caches. Fixed, since results
may depend on it in their last bits, and a resumed training must find the same maps."""


class Inputs:
    """The batches of a training, and the way from a batch to embeddings."""

    def __init__(
        self,
        data: TrainData,
        embedder: Embedder,
        frozen: Frozen | None,
        settings: TrainSettings,
        tell: Listener,
    ) -> None:
        self.data, self.embedder, self.frozen = data, embedder, frozen
        self.settings, self.tell = settings, tell
        self.device = torch.device(settings.device)
        self.normalise = Normalise(embedder.mean, embedder.std)
        self.views: dict[int, list[Maps]] = {}
        self.plain_maps: list[Maps] | None = None

    def embed(self, batch: Batch) -> Tensor:
        """Unit rows (n, dim)."""
        embeddings: Tensor
        if isinstance(batch, Tensor):
            embeddings = self.embedder(self._placed(batch))
        else:
            assert self.frozen is not None
            embeddings = self.frozen.rest(tuple(x.to(self.device).float() for x in batch))
        return embeddings

    def training(self, epoch: int, batches: list[Positions]) -> Iterator[tuple[Positions, Batch]]:
        """Each of the `batches`, positions among the training images, with its augmented input."""
        if self.frozen is None:
            yield from zip(batches, self._augmented(batches, epoch), strict=True)
            return
        count = self._room()[1]
        if not count:
            for chosen, images in zip(batches, self._augmented(batches, epoch), strict=True):
                yield chosen, self.frozen.maps(self._placed(images))
            return
        view = (epoch - 1) % count
        if view not in self.views:
            n = len(self.data.training)
            chunks = [np.arange(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK)]
            self.views[view] = self._maps(self._augmented(chunks, view), n, epoch)
        for chosen in batches:
            yield chosen, _gather(self.views[view], chosen)

    def validation(self, epoch: int) -> Iterator[Batch]:
        """Gallery, then queries, without augmentation, CHUNK at once."""
        plain = self.data.plain
        assert plain is not None
        if self.plain_maps is not None:
            yield from self.plain_maps
            return
        chunks = [range(i, min(i + CHUNK, len(plain))) for i in range(0, len(plain), CHUNK)]
        images = in_order(
            lambda chunk: self.normalise.stack([plain[i] for i in chunk]),
            chunks,
            default_threads(),
            ahead=2 * default_threads(),
        )
        if self.frozen is None:
            yield from images
            return
        if self._room()[0]:
            self.plain_maps = self._maps(images, len(plain), epoch)
            yield from self.plain_maps
            return
        for batch in images:
            yield self.frozen.maps(self._placed(batch))

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _augmented(self, batches: list[Positions], epoch: int) -> Iterator[Tensor]:
        data, settings = self.data, self.settings
        size = self.embedder.settings.input_size

        def make(chosen: Positions) -> Tensor:
            return self.normalise.stack(
                [
                    augment(data.pictures[i], size, settings.augmentation, settings.seed, epoch, i)
                    for i in data.training[chosen].tolist()
                ]
            )

        return in_order(make, batches, default_threads(), ahead=2 * default_threads())

    def _maps(self, images: Iterator[Tensor], total: int, epoch: int) -> list[Maps]:
        """Frozen maps in chunks of CHUNK pictures, as float16."""
        assert self.frozen is not None
        chunks: list[Maps] = []
        done, began = 0, time.perf_counter()
        for batch in images:
            found = self.frozen.maps(self._placed(batch))
            chunks.append(tuple(x.cpu().half() for x in found))
            done += len(batch)
            rate = done / (time.perf_counter() - began)
            epochs = self.settings.epochs
            self.tell(Progress("features", done, total, epoch, epochs, images_per_second=rate))
        return chunks

    def _room(self) -> tuple[bool, int]:
        """Whether the frozen maps of the plain pictures fit into memory, and how many views of the
        training pictures fit beside them. From sizes alone, so as not to depend on a resumption.
        """
        assert self.frozen is not None
        sides = self.embedder.trunk.sides(self.embedder.settings.input_size)
        channels = self.embedder.trunk.channels
        each = sum(2 * channels[i] * sides[i] ** 2 for i in self.frozen.given)
        room = self.settings.map_memory // each
        plain = 0 if self.data.plain is None else len(self.data.plain)
        fits = plain <= room
        wanted = self.settings.views
        if wanted and not self.settings.augmentation.on:
            wanted = 1
        return fits, min(wanted, (room - plain * fits) // len(self.data.training))


def _gather(chunks: list[Maps], chosen: Positions) -> Maps:
    pairs = [divmod(i, CHUNK) for i in chosen.tolist()]
    return tuple(
        torch.stack([chunks[chunk][part][row] for chunk, row in pairs])
        for part in range(len(chunks[0]))
    )


class Normalise:
    """Pixels uint8 (s, s, 3) -> float32 (3, s, s), as the encoder does it."""

    def __init__(self, mean: Triple, std: Triple) -> None:
        divisor = np.array(std)
        self.scale = (1 / divisor).astype(np.float32)[:, None, None]
        self.shift = (-np.array(mean) / divisor).astype(np.float32)[:, None, None]

    def stack(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        """(n, 3, s, s)."""
        size = len(pictures[0])
        batch = torch.empty(len(pictures), 3, size, size)
        for picture, planes in zip(pictures, batch.numpy(), strict=True):
            np.multiply(picture.transpose(2, 0, 1), self.scale, out=planes)
            np.add(planes, self.shift, out=planes)
        return batch
