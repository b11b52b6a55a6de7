"""The paper's method: CNN + CBAM + FC, searched through hash tables."""

from __future__ import annotations

from typing import ClassVar

from lookalike.lsh import LSHSettings
from lookalike.models.augment import NO_AUGMENTATION
from reproduction.methods.cnn_lsh import HashedNetwork
from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["Ours", "OursExhaustive", "OursPaperHashing", "OursWithoutAugmentation"]


class Ours(HashedNetwork):
    """With lookalike's own hash functions, the defaults of an LSHIndex."""

    title = "CNN + CBAM + LSH (ours)"


class OursPaperHashing(Ours):
    """With the paper's hash functions: random hyperplanes, Hamming ranking."""

    title = "CNN + CBAM + LSH, the paper's hyperplanes"

    def settings(self) -> LSHSettings:
        return LSHSettings.paper(self.network.embedder.dim)


class OursExhaustive(NetworkMethod):
    """The same network without hashing: what hashing loses, and how long it would take."""

    title = "CNN + CBAM, exhaustive"


class OursWithoutAugmentation(Ours):
    """Trained on the pictures as they are: what augmentation buys."""

    title = "ours, trained without augmentation"
    changes: ClassVar[Changes] = {"augmentation": NO_AUGMENTATION}
