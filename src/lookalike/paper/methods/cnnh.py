"""CNNH, learned hashing in two steps (Xia et al. 2014, [12])."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lookalike.paper.collection import Sample
from lookalike.paper.hashing.cnnh import CodeLoss, class_codes
from lookalike.paper.methods.codes import CodeMethod, Encode, fit_layer

__all__ = ["Cnnh"]


class Cnnh(CodeMethod):
    """First codes that agree with the labels, then a layer that gives them.

    The layer stands on the embedding of a network that knows the classes; its gradient ends there.
    """

    name = "CNNH [12]"

    def fit_codes(self, training: Sample) -> Encode:
        _, labels, sizes = np.unique(training.labels, return_inverse=True, return_counts=True)
        loss = CodeLoss(class_codes(sizes, self.bits, seed=0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = nn.Linear(self.network.embedder.dim, self.bits)
            return fit_layer(layer, loss, lambda v: self.network.embed(training, v), labels, 0)
