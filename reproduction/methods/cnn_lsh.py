"""[19]: CNN without attention, searched through hash tables."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.hashed import LSH_HITS, hashed_ranking, index_of
from lookalike.lsh import LSHSettings
from reproduction.collection import Positions, Sample
from reproduction.method import Oracle
from reproduction.methods.nearest import nearest
from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["CnnLsh", "HashedNetwork"]

Floats = NDArray[np.float32]


class HashedNetwork(NetworkMethod):
    """Trained network, an LSHIndex of its embeddings.

    The first LSH_HITS of a ranking come from the index; who asks for more, as mAP does, gets the
    others by exact cosines after them, for an index that is asked for everything compares all.
    """

    def settings(self) -> LSHSettings:
        """Of the index: the defaults."""
        return LSHSettings(self.network.embedder.dim)

    def index(self, gallery: Sample) -> None:
        super().index(gallery)
        self.tables = index_of(self.vectors, self.settings())

    def install(self) -> None:
        super().install()
        some = self.vectors[:100]
        index_of(some, self.settings()).search(some[0], k=1, threads=self.threads)

    def match(self, features: Floats, k: int, oracle: Oracle | None = None) -> Positions:
        if k <= LSH_HITS:
            hits: Positions = self.tables.search(features, k=k, threads=self.threads).ids
            return hits
        exact = nearest(self.vectors @ features, len(self.vectors))
        return hashed_ranking(self.tables, features[None], exact[None])[0, :k]


class CnnLsh(HashedNetwork):
    """Trunk and FC, hash tables."""

    title = "CNN + LSH [19]"
    changes: ClassVar[Changes] = {"attention": "none"}
