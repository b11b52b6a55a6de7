"""What a row of the tables can do: learn, index a gallery, search it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reproduction.collection import Picture, Positions, Sample

__all__ = ["Method", "Oracle"]

Oracle: TypeAlias = Callable[[Positions], NDArray[np.bool_]]
"""Gallery positions (n,) -> whether each is relevant to the query: a person who is asked."""


class Method(ABC):
    """A retrieval method. One object serves one split.

    In the paper's protocol the gallery is the training set, `fit`. With unseen categories `learn`
    sees some classes and `index` others. A search is two steps, so that each can be timed:
    `describe` makes features of a picture, `match` finds the nearest of the gallery.
    """

    title: str
    """The row's name in the tables."""

    def made_of(self) -> str:
        """What its numbers depend on beside the pictures, the protocol and the seed."""
        return self.title

    def fit(self, gallery: Sample) -> None:
        """Learn from the gallery, and index it."""
        self.learn(gallery)
        self.index(gallery)

    @abstractmethod
    def learn(self, training: Sample) -> None:
        """Everything that needs labels, or many pictures: vocabulary, network, projection."""

    @abstractmethod
    def index(self, gallery: Sample) -> None:
        """Describe the gallery's pictures and keep them for `match`."""

    @abstractmethod
    def describe(self, picture: Picture) -> Any:
        """Features of one picture, as `match` takes them."""

    @abstractmethod
    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        """Positions in the gallery, int64 (k,), best first. k up to the gallery's size.

        Only a method with relevance feedback asks the oracle, and it needs one.
        """

    def install(self) -> None:  # noqa: B027  most have nothing to do
        """After `index`: do what a machine does once and keeps, such as compiling."""

    def close(self) -> None:  # noqa: B027  nor here
        """Forget what the first query had to open."""

    def search(self, picture: Picture, k: int, oracle: Oracle | None = None) -> Positions:
        """`match` of `describe`."""
        return self.match(self.describe(picture), k, oracle)
