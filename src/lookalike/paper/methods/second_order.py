"""Second-order attention, in the manner of SOLAR (Ng et al. 2020, [8])."""

from __future__ import annotations

from lookalike.paper.methods.network import NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import OURS, Recipe

__all__ = ["SecondOrder"]


class SecondOrder(NetworkMethod):
    """Each place of the last map reads from all others, GeM pooling as in SOLAR; exact cosines.

    SOLAR's second-order similarity loss is left out: the loss is that of all rows.
    """

    title = "second-order attention (SOLAR-like) [8]"

    def __init__(
        self, networks: Networks, recipe: Recipe = OURS, threads: int | None = None
    ) -> None:
        super().__init__(networks, recipe.but(attention="second-order", pool="gem"), threads)
