"""LSH codes alone: the sign of random projections (Charikar 2002), as the paper's Section 3.3."""

from __future__ import annotations

import numpy as np

from lookalike.lsh.families import hyperplanes
from reproduction.collection import Sample
from reproduction.methods.codes import CodeMethod, Encode

__all__ = ["LshCodes"]


class LshCodes(CodeMethod):
    """Nothing is learned: hyperplanes through the origin, drawn by seed."""

    name = "LSH codes"

    def fit_codes(self, training: Sample) -> Encode:
        rng = np.random.default_rng(self.recipe.training.seed)
        planes = hyperplanes(rng, self.bits, self.network.embedder.dim)
        return lambda rows: rows @ planes.T
