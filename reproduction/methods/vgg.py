"""VGG-N [18]: features of VGG16."""

from __future__ import annotations

from pathlib import Path

from reproduction.methods.network import NetworkMethod
from reproduction.networks import Networks
from reproduction.recipes import VGG, Recipe

__all__ = ["VggN"]


class VggN(NetworkMethod):
    """Exact cosines of VGG16's FC features.

    `weights` (a file, or "imagenet") are fine-tuned at 224 pixels, the last stage alone, in the
    network without batch norm that they are of; without weights, the network is the recipe's,
    trained on the set from nothing. The title says which.
    """

    def __init__(
        self,
        networks: Networks,
        recipe: Recipe = VGG,
        threads: int | None = None,
        *,
        weights: str | Path | None = None,
    ) -> None:
        self.title = "VGG-N [18], from scratch"
        if weights is not None:
            self.title = "VGG-N [18], given weights"
            recipe = recipe.but(trunk="vgg16", weights=str(weights), input_size=224, freeze=-2)
        super().__init__(networks, recipe, threads)
