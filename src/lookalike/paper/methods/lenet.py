"""LeNet-L [18]: an improved LeNet-5 trained on the set, the features of its last hidden layer."""

from __future__ import annotations

from lookalike.paper.methods.network import NetworkMethod
from lookalike.paper.networks import Networks
from lookalike.paper.recipes import LENET, Recipe

__all__ = ["LeNetL"]


class LeNetL(NetworkMethod):
    """Exact cosines of the 84 numbers of F6; see `lookalike.models.lenet`."""

    title = "LeNet-L [18]"

    def __init__(
        self, networks: Networks, recipe: Recipe = LENET, threads: int | None = None
    ) -> None:
        super().__init__(networks, recipe, threads)
