"""What the network reads in a training: augmented images, or the maps of its frozen stages.

The stages of a trunk that do not learn are run once for `views` augmented views of each image, as
far as memory goes; epochs take the views in turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.errors import TrainingError
from lookalike.models.augment import Transform, apply, augment
from lookalike.models.data import (
    LabelledImages,
    Positions,
    Skipped,
    SquareImages,
    balanced_sample,
    check_classes,
    class_folders,
    in_order,
    read_labelled,
    validation_split,
)
from lookalike.models.embedder import Embedder
from lookalike.models.report import Listener, TrainProgress
from lookalike.models.settings import EmbedderSettings, TrainSettings
from lookalike.models.trunks import TRUNKS, Trunk
from lookalike.runtimes import Scaling
from lookalike.threads import cores

WORKING_SIZE = 7 / 6
"""Side of the images that are augmented, over the network's input: 224 for 192."""


@dataclass(frozen=True, eq=False)
class TrainData:
    """Images in memory. `plain` are those of gallery, then queries, as a search reads them."""

    images: LabelledImages
    squares: SquareImages
    training: Positions
    plain: SquareImages | None
    plain_labels: Positions
    gallery: int
    skipped: tuple[Skipped, ...]

    @classmethod
    def read(
        cls,
        source: Path | LabelledImages,
        embedder: EmbedderSettings,
        settings: TrainSettings,
        listener: Listener,
    ) -> TrainData:
        skipped: tuple[Skipped, ...] = ()
        if isinstance(source, LabelledImages):
            listed = source
        else:
            listed, skipped = class_folders(source)
        if len(listed.classes) < 2:
            check_classes(listed, skipped)
        threads, size = cores(), embedder.input_size
        began = time.perf_counter()

        def reading(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - began, 1e-9)
            listener(TrainProgress(done, total, epochs=settings.epochs, images_per_second=rate))

        images, squares, unreadable = read_labelled(
            listed,
            math.ceil(size * WORKING_SIZE),
            memory=settings.picture_memory,
            threads=threads,
            progress=reading,
        )
        skipped += unreadable
        held = settings.validation_per_class
        check_classes(images, skipped, needed=max(2, (held or 0) + 1))
        training, queries = validation_split(
            images.labels, settings.seed, settings.validation, held
        )
        plain, gallery, labels = None, training[:0], training[:0]
        if len(queries):
            chosen = balanced_sample(
                images.labels[training], settings.seed, settings.validation_gallery
            )
            gallery = training[chosen]
            both = images.take(np.append(gallery, queries))
            found, plain, gone = read_labelled(
                both, size, memory=settings.picture_memory, threads=threads
            )
            if gone:
                raise TrainingError(
                    f"{gone[0].path} cannot be read for validation: {gone[0].reason}"
                )
            labels = found.labels
        return cls(images, squares, training, plain, labels, len(gallery), skipped)

    @property
    def labels(self) -> Positions:
        """Of the training images."""
        return self.images.labels[self.training]

    def examples(self, count: int, size: int) -> NDArray[np.uint8]:
        """Up to `count` images from all over the data, (n, size, size, 3)."""
        some = np.linspace(0, len(self.squares) - 1, min(count, len(self.squares)))
        positions = some.astype(int).tolist()
        return np.stack([apply(self.squares[i], Transform(), (size, size)) for i in positions])


Maps: TypeAlias = tuple[Tensor, ...]


def frozen_stages(trunk: str, freeze: int | None) -> int:
    """How many stages of the trunk of that name are frozen if `freeze` is the last of them.

    TrainingError for a stage that it does not have.
    """
    if freeze is None:
        return 0
    stages = len(TRUNKS[trunk].channels)
    if not -stages <= freeze < stages:
        raise TrainingError(
            f"freeze is {freeze}; {trunk} has stages from -{stages} to {stages - 1}"
        )
    return freeze % stages + 1


def stage_modules(trunk: Trunk, size: int) -> list[list[nn.Module]]:
    """The leaf modules of each stage, found by running it."""
    found: list[list[nn.Module]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, __: found[-1].append(module))
        for module in trunk.modules()
        if not any(True for _ in module.children())
    ]
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    try:
        with torch.no_grad():
            x = torch.zeros(1, 3, size, size, device=next(trunk.parameters()).device)
            for index in range(len(trunk.channels)):
                found.append([])
                x = trunk.stage(index, x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return found


class Frozen:
    """The stages that are run once: `maps(images)`, then `embed(maps)`. Kept are the maps `given`,
    which the rest reads: of the last of these stages, and of those that are pooled."""

    def __init__(self, embedder: Embedder, frozen: int) -> None:
        depth = min([frozen, *(int(index) + 1 for index in embedder.gates)])
        wanted = {int(index) for index in embedder.pools if int(index) < depth} | {depth - 1}
        self.embedder, self.depth, self.given = embedder, depth, tuple(sorted(wanted))

    def maps(self, images: Tensor) -> Maps:
        with torch.no_grad():
            found = []
            x = images
            for index in range(self.depth):
                x = self.embedder.trunk.stage(index, x)
                if index in self.given:
                    found.append(x)
        return tuple(found)

    def embed(self, maps: Maps) -> Tensor:
        """Unit rows (n, dim)."""
        return self.embedder.from_maps(dict(zip(self.given, maps, strict=True)))


Batch: TypeAlias = Tensor | Maps
"""Images (n, 3, s, s), or their maps."""

CHUNK = 8
"""Images at once wherever nothing is learnt: more outgrow the CPU's caches. Fixed, since results
may depend on it in their last bits, and a resumed training must find the same maps."""


class Inputs:
    """The batches of a training, and the way from a batch to embeddings."""

    def __init__(
        self,
        data: TrainData,
        embedder: Embedder,
        frozen: Frozen | None,
        settings: TrainSettings,
        listener: Listener,
    ) -> None:
        self.data, self.embedder, self.frozen = data, embedder, frozen
        self.settings, self.listener = settings, listener
        self.device = torch.device(settings.device)
        self.scaling = Scaling(embedder.mean, embedder.std)
        self.views: dict[int, list[Maps]] = {}
        self.plain_maps: list[Maps] | None = None

    def embed(self, batch: Batch) -> Tensor:
        """Unit rows (n, dim)."""
        if isinstance(batch, Tensor):
            embeddings: Tensor = self.embedder(self._placed(batch))
            return embeddings
        assert self.frozen is not None
        return self.frozen.embed(tuple(x.to(self.device).float() for x in batch))

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
            lambda chunk: torch.from_numpy(self.scaling.batch([plain[i] for i in chunk])),
            chunks,
            cores(),
            ahead=2 * cores(),
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
            shown = [
                augment(data.squares[i], size, settings.augmentation, settings.seed, epoch, i)
                for i in data.training[chosen].tolist()
            ]
            return torch.from_numpy(self.scaling.batch(shown))

        return in_order(make, batches, cores(), ahead=2 * cores())

    def _maps(self, images: Iterator[Tensor], total: int, epoch: int) -> list[Maps]:
        """Frozen maps in chunks of CHUNK images, as float16."""
        assert self.frozen is not None
        chunks: list[Maps] = []
        done, began = 0, time.perf_counter()
        for batch in images:
            found = self.frozen.maps(self._placed(batch))
            chunks.append(tuple(x.cpu().half() for x in found))
            done += len(batch)
            rate = done / (time.perf_counter() - began)
            epochs = self.settings.epochs
            self.listener(
                TrainProgress(
                    done,
                    total,
                    stage="features",
                    epoch=epoch,
                    epochs=epochs,
                    images_per_second=rate,
                )
            )
        return chunks

    def _room(self) -> tuple[bool, int]:
        """Whether the frozen maps of the plain images fit into memory, and how many views of the
        training images fit beside them. From sizes alone, so as not to depend on a resumption.
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
