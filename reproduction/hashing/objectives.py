"""What a network learns in the place of classes when it is to give codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.models.embedder import Embedder
from reproduction.hashing.cnnh import CodeLoss, class_codes
from reproduction.hashing.dnnh import DivideAndEncode, TripletRankingLoss

__all__ = ["HASHINGS", "Hashing", "SlicedRanking"]

SLICE = 50
"""Features of each bit, as Lai et al. have it."""
SHARPNESS = 3.0
"""Rows of length 1 have entries of about 1 / sqrt(bits); times this root, a bit can be sure."""


@dataclass(frozen=True, eq=False)
class Hashing:
    """How codes are learnt together with the network that gives them.

    Attributes:
        width: numbers that the network's FC gives while it learns.
        criterion: unit rows (n, width), int64 (n,) -> scalar; it may have weights of its own.
        finish: makes the FC of the trained embedder one of `bits` numbers; their signs are the
            code.
    """

    width: int
    criterion: nn.Module
    finish: Callable[[Embedder], None]


class SlicedRanking(nn.Module):
    """Slices of the features become soft bits, which triplets rank."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.width = SLICE * bits
        self.encode, self.rank = DivideAndEncode(self.width, bits), TripletRankingLoss()

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.rank(self.encode(math.sqrt(self.width) * rows), labels)
        return loss


def cnnh(bits: int, sizes: NDArray[np.int64], seed: int) -> Hashing:
    """Step 2 of CNNH [12]: the network learns the codes that step 1 gave to the classes."""
    codes = class_codes(sizes, bits, seed)
    return Hashing(bits, CodeLoss(codes, SHARPNESS * math.sqrt(bits)), lambda _: None)


def dnnh(bits: int, sizes: NDArray[np.int64], seed: int) -> Hashing:
    """DNNH [13]: features and codes in one step."""
    criterion = SlicedRanking(bits)

    def finish(embedder: Embedder) -> None:
        embedder.fold(torch.zeros(criterion.width), criterion.encode.matrix())

    return Hashing(criterion.width, criterion, finish)


HASHINGS: dict[str, Callable[[int, NDArray[np.int64], int], Hashing]] = {"cnnh": cnnh, "dnnh": dnnh}
"""By the name in a recipe: functions of bits, pictures of each class, and the seed."""
