"""AlexNet's way (Krizhevsky et al. 2012, [9]): 4,096 numbers of a fully connected layer."""

from __future__ import annotations

from lookalike.paper.methods.network import NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import OURS, Recipe

__all__ = ["FcFeatures"]

DIM = 4096


class FcFeatures(NetworkMethod):
    """An FC of AlexNet's width on the trunk that all rows share; exact cosines."""

    title = "FC features, 4,096 [9]"

    def __init__(
        self, networks: Networks, recipe: Recipe = OURS, threads: int | None = None
    ) -> None:
        super().__init__(networks, recipe.but(attention="none", dim=DIM), threads)
