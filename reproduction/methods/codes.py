"""What all rows with binary codes share: embeddings become codes, compared by Hamming distance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reproduction.collection import Picture, Positions, Sample
from reproduction.hashing.codes import hamming_rank, pack
from reproduction.method import Oracle
from reproduction.methods.network import Changes, NetworkMethod
from reproduction.networks import Networks
from reproduction.recipes import Recipe

__all__ = ["CodeMethod", "Encode", "LearnedCodes"]

Floats = NDArray[np.float32]
Encode = Callable[[Floats], Floats]
"""Unit rows (n, dim) -> numbers (n, bits), above 0 for a bit of 1."""


class CodeMethod(NetworkMethod):
    """Codes of `bits` bits, made of a network's embeddings: [19]'s, unless a row says otherwise.

    Every gallery code is compared, and nothing is re-ranked, so a row shows what its codes are
    worth. Ties are broken at random. What is drawn is drawn by the recipe's seed.
    """

    name: str
    hashing: ClassVar[str] = ""
    """Of `LearnedCodes`, by its name in `reproduction.hashing.objectives`."""
    changes: ClassVar[Changes] = {"attention": "none"}

    def __init__(
        self,
        networks: Networks,
        bits: int,
        recipe: Recipe | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(networks, recipe, threads)
        if self.hashing:
            self.recipe = self.recipe.but(hashing=self.hashing, dim=bits)
        self.bits = bits
        self.title = f"{self.name}, {bits} bits"
        self.encode: Encode

    @abstractmethod
    def fit_codes(self, training: Sample) -> Encode:
        """Learn how embeddings become codes. The network is there."""

    def learn(self, training: Sample) -> None:
        super().learn(training)
        self.encode = self.fit_codes(training)

    def index(self, gallery: Sample) -> None:
        self.codes = pack(self.encode(self.network.embed(gallery)))

    def describe(self, picture: Picture) -> Any:
        """The packed code, uint8 (bits / 8,)."""
        return pack(self.encode(super().describe(picture)[None]))[0]

    def match(self, features: NDArray[np.uint8], k: int, oracle: Oracle | None = None) -> Positions:
        return hamming_rank(features, self.codes, k)


class LearnedCodes(CodeMethod):
    """Codes that a network learns to give in the place of classes, its last stage with them; their
    bits are the signs of its embeddings.
    """

    def fit_codes(self, training: Sample) -> Encode:
        return lambda rows: rows
