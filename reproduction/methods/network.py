"""What all rows with a network share: it is trained, and the gallery is embedded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from reproduction.collection import Picture, Positions, Sample, squeeze
from reproduction.method import Method, Oracle
from reproduction.methods.nearest import nearest
from reproduction.networks import Network, Networks, weights_of
from reproduction.recipes import OURS, Recipe

__all__ = ["Changes", "NetworkMethod"]

Floats = NDArray[np.float32]
Changes: TypeAlias = Mapping[str, Any]
"""Setting of a recipe -> value."""


class NetworkMethod(Method):
    """Trained network, exact cosines. Rows that search in another way override `match`.

    A row says by `changes` what it changes in a recipe, and by `base` which one it has if none is
    given.

    Attributes:
        network: after `learn`.
        vectors: of the gallery after `index`, unit rows (n, dim).
    """

    base: Recipe = OURS
    changes: ClassVar[Changes] = {}

    def __init__(
        self, networks: Networks, recipe: Recipe | None = None, threads: int | None = None
    ) -> None:
        self.networks, self.threads = networks, threads
        self.recipe = (recipe or self.base).but(**self.changes)
        self.network: Network
        self.vectors: Floats
        self._encoder: Encoder | None = None

    def made_of(self) -> str:
        """A digest of the recipe, and of the weights that it begins with."""
        recipe = self.recipe.but(seed=0, weights=weights_of(self.recipe))
        told = json.dumps(recipe.as_dict(), sort_keys=True).encode()
        return hashlib.blake2b(told, digest_size=6).hexdigest()

    def learn(self, training: Sample) -> None:
        self.network = self.networks.network(self.recipe, training)
        self._encoder = None

    def index(self, gallery: Sample) -> None:
        self.vectors = self.network.embed(gallery)

    def describe(self, picture: Picture) -> Any:
        """The unit embedding, float32 (dim,), as a gallery of the product makes it."""
        if self._encoder is None:
            self._encoder = self.network.encoder(self.threads)
        pixels = squeeze(picture, self._encoder.info.input_size)
        row: Floats = self._encoder.embed(pixels[None])[0]
        return row

    def install(self) -> None:
        self.network.export()

    def close(self) -> None:
        self._encoder = None

    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        return nearest(self.vectors @ features, k)
