"""PCA + ITQ codes (Gong and Lazebnik 2011)."""

from __future__ import annotations

from reproduction.collection import Sample
from reproduction.hashing.itq import ITQ
from reproduction.methods.codes import CodeMethod, Encode

__all__ = ["ItqCodes"]


class ItqCodes(CodeMethod):
    """Principal axes of the training set, turned until projections are near their signs."""

    name = "PCA + ITQ codes"

    def fit_codes(self, training: Sample) -> Encode:
        vectors = self.network.embed(training)
        return ITQ.fit(vectors, self.bits, self.recipe.training.seed).project
