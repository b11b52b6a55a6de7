"""[20]: CNN without attention, every gallery image compared."""

from __future__ import annotations

from lookalike.paper.methods.network import NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import OURS, Recipe

__all__ = ["CnnExhaustive"]


class CnnExhaustive(NetworkMethod):
    """Trunk and FC, exact cosines."""

    title = "CNN, exhaustive [20]"

    def __init__(
        self, networks: Networks, recipe: Recipe = OURS, threads: int | None = None
    ) -> None:
        super().__init__(networks, recipe.but(attention="none"), threads)
