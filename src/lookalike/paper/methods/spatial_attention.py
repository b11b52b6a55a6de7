"""Spatial attention alone, in the manner of DELF (Noh et al. 2017, [6])."""

from __future__ import annotations

from lookalike.paper.methods.network import NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import OURS, Recipe

__all__ = ["SpatialAttention"]


class SpatialAttention(NetworkMethod):
    """A learned weight for each place of the last map, before it is pooled; exact cosines.

    DELF trains the weights on the pooled, weighted map with a classification loss, as here, and
    then keeps the places of the largest weights as local features; this row keeps the pooled map.
    """

    title = "spatial attention (DELF-like) [6]"

    def __init__(
        self, networks: Networks, recipe: Recipe = OURS, threads: int | None = None
    ) -> None:
        super().__init__(networks, recipe.but(attention="spatial"), threads)
