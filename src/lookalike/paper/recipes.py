"""How the networks of the rows are trained, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from lookalike.models.augment import NO_AUGMENTATION
from lookalike.models.settings import EmbedderSettings, TrainSettings

__all__ = ["LENET", "OURS", "VGG", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What a network is made of, and how it learns. `freeze` -1 leaves the trunk as it is, -2
    trains its last stage. `hashing` says what the network learns in the place of classes, by name
    in `lookalike.paper.hashing.objectives`; "": classes.
    """

    embedder: EmbedderSettings
    training: TrainSettings
    hashing: str = ""

    def but(self, **changes: Any) -> Recipe:
        """The same with some settings changed. TypeError for a setting that no part has."""
        hashing = changes.pop("hashing", self.hashing)
        own = set(EmbedderSettings.__dataclass_fields__)
        inner = {key: value for key, value in changes.items() if key in own}
        outer = {key: value for key, value in changes.items() if key not in own}
        embedder, training = replace(self.embedder, **inner), replace(self.training, **outer)
        return Recipe(embedder, training, hashing)

    def without_augmentation(self) -> Recipe:
        return self.but(augmentation=NO_AUGMENTATION)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the number of threads, which only rounding depends on."""
        training = asdict(self.training)
        del training["threads"]
        told = {"embedder": self.embedder.as_dict(), "training": training}
        return {**told, "hashing": self.hashing} if self.hashing else told


# With a high temperature, cosines must come near to 1 and 0 before the loss is small, so the
# classes of the gallery draw together; mAP over a gallery of training images lives on that.
OURS = Recipe(
    EmbedderSettings(input_size=224),
    TrainSettings(
        epochs=6,
        freeze=-2,
        temperature=0.2,
        smoothing=0.0,
        trunk_learning_rate=5e-4,
        validation=0.0,
        keep="last",
    ),
)
"""EfficientNet-Lite0 with ImageNet weights + CBAM + FC."""
LENET = Recipe(
    EmbedderSettings(trunk="lenet5", attention="none", dim=84, input_size=64),
    TrainSettings(
        weights="none",
        epochs=30,
        temperature=0.2,
        smoothing=0.0,
        learning_rate=3e-3,
        trunk_learning_rate=3e-3,
        validation=0.0,
        keep="last",
    ),
)
"""An improved LeNet-5 from scratch; its F6 of 84 units is the embedding."""
VGG = Recipe(
    EmbedderSettings(trunk="vgg16-bn", attention="none", input_size=32),
    TrainSettings(
        weights="none",
        epochs=15,
        temperature=0.2,
        smoothing=0.0,
        learning_rate=5e-4,
        trunk_learning_rate=5e-4,
        validation=0.0,
        keep="last",
    ),
)
"""VGG16 from scratch, with batch norm and pictures small enough for that; with given weights see
`VggN`."""
