"""DNNH, features and codes learned together (Lai et al. 2015, [13])."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lookalike.paper.collection import Sample
from lookalike.paper.hashing.dnnh import DivideAndEncode, TripletRankingLoss
from lookalike.paper.methods.codes import CodeMethod, Encode, fit_layer

__all__ = ["Dnnh"]

SLICE = 50
"""Features of each bit, as in the paper."""


class Dnnh(CodeMethod):
    """A layer of features, cut into a slice for each bit; triplets of pictures rank the codes.

    Both are trained end to end on the embedding of [19]'s network, where the gradient ends.
    """

    name = "DNNH-like [13]"

    def fit_codes(self, training: Sample) -> Encode:
        _, labels = np.unique(training.labels, return_inverse=True)
        width = SLICE * self.bits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = nn.Sequential(
                nn.Linear(self.network.embedder.dim, width), DivideAndEncode(width, self.bits)
            )
            loss = TripletRankingLoss()
            soft = fit_layer(layer, loss, lambda v: self.network.embed(training, v), labels, 0)
        return lambda rows: soft(rows) - 0.5
