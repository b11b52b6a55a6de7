"""What all rows with binary codes share: embeddings become codes, compared by Hamming distance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.paper.collection import Picture, Positions, Sample
from lookalike.paper.hashing.codes import hamming_rank, pack
from lookalike.paper.maps import VIEWS
from lookalike.paper.method import Oracle
from lookalike.paper.methods.network import Changes, NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import Recipe

__all__ = ["CodeMethod", "Floats", "fit_layer"]

Floats = NDArray[np.float32]
Encode = Callable[[Floats], Floats]
"""Unit rows (n, dim) -> numbers (n, bits), above 0 for a bit of 1."""

EPOCHS, BATCH, RATE = 20, 64, 1e-3


class CodeMethod(NetworkMethod):
    """Codes of `bits` bits, made of the embeddings of [19]'s network, which all these rows share.

    Every gallery code is compared, and nothing is re-ranked, so a row shows what its codes are
    worth. Ties are broken at random.
    """

    name: str
    changes: ClassVar[Changes] = {"attention": "none"}

    def __init__(
        self,
        networks: Networks,
        bits: int,
        recipe: Recipe | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(networks, recipe, threads)
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


def fit_layer(
    layer: nn.Module,
    loss: nn.Module,
    network_views: Callable[[int], Floats],
    labels: Positions,
    seed: int,
) -> Encode:
    """Train a hash layer on embeddings (n, dim) of the pictures and of their augmented views.

    `labels` int64 (n,) are what `loss` takes. Epochs go over the views in turn.
    """
    views = [torch.from_numpy(network_views(view)) for view in range(VIEWS + 1)]
    targets = torch.from_numpy(labels)
    parameters = [*layer.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    layer.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(targets), generator=generator)
        for chosen in torch.split(order, BATCH):
            optimizer.zero_grad()
            loss(layer(views[epoch % len(views)][chosen]), targets[chosen]).backward()
            optimizer.step()
        schedule.step()
    layer.eval()

    def encode(rows: Floats) -> Floats:
        with torch.no_grad():
            values: Floats = layer(torch.from_numpy(rows)).numpy()
        return values

    return encode
