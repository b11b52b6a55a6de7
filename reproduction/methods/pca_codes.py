"""Neural codes compressed by PCA (Babenko et al. 2014, [10])."""

from __future__ import annotations

from typing import Any, ClassVar

from reproduction.collection import Picture, Sample
from reproduction.hashing.pca import PCA
from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["PcaCodes"]

DIM = 128
"""To which their compression costs nothing."""


class PcaCodes(NetworkMethod):
    """The embedding of [19]'s network in DIM principal components; exact cosines.

    A training set with fewer directions than that keeps all it has.
    """

    title = "PCA-compressed CNN codes [10]"
    changes: ClassVar[Changes] = {"attention": "none"}

    def learn(self, training: Sample) -> None:
        super().learn(training)
        rows = self.network.embed(training)
        self.pca = PCA.fit(rows, min(DIM, rows.shape[1], len(rows) - 1))

    def index(self, gallery: Sample) -> None:
        self.vectors = self.pca.reduce(self.network.embed(gallery))

    def describe(self, picture: Picture) -> Any:
        return self.pca.reduce(super().describe(picture)[None])[0]
