"""What every trunk is: a convolutional network in stages, from images to the last feature map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn

from lookalike.models.settings import Triple
from lookalike.models.weights import load_weights

_NOTHING: Mapping[int, Callable[[Tensor], Tensor]] = MappingProxyType({})


class Trunk(nn.Module, ABC):
    """Normalised images (n, 3, s, s) -> the last feature map (n, channels[-1], h, w).

    A stage ends where the resolution is about to change, and the last one ends the trunk.
    """

    title: ClassVar[str]
    classifier: ClassVar[str] = "classifier."
    """With what the names of a classifier begin in published files."""
    channels: tuple[int, ...]
    """Of the feature map at the end of each stage."""
    mean: Triple
    std: Triple
    """Pixels x in 0..255 enter as (x - mean) / std: what the published weights were trained on."""

    @abstractmethod
    def stage(self, index: int, x: Tensor) -> Tensor:
        """Stage `index` alone: the map that the stage before it gave (images for 0) -> its map."""

    @abstractmethod
    def sides(self, size: int) -> tuple[int, ...]:
        """Height (and width) of each stage's map for images of `size` x `size`."""

    def load_weights(self, path: Path) -> None:
        """Load a file of PyTorch weights strictly, but for a classifier that this trunk lacks;
        ModelError lists what does not fit."""
        load_weights(self, path, self.title, self.classifier)

    def stages(
        self, images: Tensor, after: Mapping[int, Callable[[Tensor], Tensor]] = _NOTHING
    ) -> tuple[Tensor, ...]:
        """The map of each stage, (n, channels[i], h_i, w_i).

        `after[i]`, where there is one, replaces the map of stage i before stage i + 1 reads it.
        """
        maps: list[Tensor] = []
        x = images
        for index in range(len(self.channels)):
            x = self.stage(index, x)
            if index in after:
                x = after[index](x)
            maps.append(x)
        return tuple(maps)

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)[-1]
