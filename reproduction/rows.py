"""How the method of each row is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lookalike.feedback import FeedbackSettings
from reproduction.effort import WHOLE, Effort
from reproduction.method import Method
from reproduction.methods.cnn_exhaustive import CnnExhaustive
from reproduction.methods.cnn_lsh import CnnLsh
from reproduction.methods.cnnh import Cnnh
from reproduction.methods.dnnh import Dnnh
from reproduction.methods.fc_features import FcFeatures
from reproduction.methods.itq_codes import ItqCodes
from reproduction.methods.lenet import LeNetL
from reproduction.methods.lsh_codes import LshCodes
from reproduction.methods.ours import (
    Ours,
    OursExhaustive,
    OursPaperHashing,
    OursWithoutAugmentation,
)
from reproduction.methods.pca_codes import PcaCodes
from reproduction.methods.second_order import SecondOrder
from reproduction.methods.sift import Sift
from reproduction.methods.spatial_attention import SpatialAttention
from reproduction.methods.svm_active import SvmActive
from reproduction.methods.vgg import VggN
from reproduction.networks import Networks
from reproduction.recipes import LENET, OURS, VGG, Recipe
from reproduction.titles import BITS

__all__ = ["ROWS", "Workshop"]


@dataclass(frozen=True, eq=False)
class Workshop:
    """What methods are made with, for one split.

    Attributes:
        networks: where networks are trained and kept.
        seed: of the split, and of everything that learns.
        epochs: of the networks on the shared trunk; None: the recipe's.
        vgg_weights: file of ImageNet weights, or None.
        threads: of a query's network.
        effort: how long networks learn, and what SIFT tries.
    """

    networks: Networks
    seed: int
    epochs: int | None = None
    vgg_weights: Path | None = None
    threads: int | None = None
    effort: Effort = WHOLE

    def recipe(self, base: Recipe) -> Recipe:
        epochs = self.effort.epochs.get(base.embedder.trunk, base.training.epochs)
        if base is OURS and self.epochs is not None:
            epochs = self.epochs
        return base.but(seed=self.seed, epochs=epochs)


def _network(kind: Callable[..., Method], base: Recipe = OURS) -> Callable[[Workshop], Method]:
    return lambda shop: kind(shop.networks, shop.recipe(base), shop.threads)


def _codes(kind: Callable[..., Method], bits: int) -> Callable[[Workshop], Method]:
    return lambda shop: kind(shop.networks, bits, shop.recipe(OURS), shop.threads)


def _vgg(shop: Workshop) -> Method:
    return VggN(shop.networks, shop.recipe(VGG), shop.threads, weights=shop.vgg_weights)


def _sift(shop: Workshop) -> Method:
    return Sift(shop.seed, shop.effort.words, shop.effort.pyramids)


ROWS: dict[str, Callable[[Workshop], Method]] = {
    "sift": _sift,
    "svm": lambda shop: SvmActive(settings=FeedbackSettings(seed=shop.seed)),
    "lenet": _network(LeNetL, LENET),
    "vgg": _vgg,
    "cnn-exhaustive": _network(CnnExhaustive),
    "cnn-lsh": _network(CnnLsh),
    "ours-exhaustive": _network(OursExhaustive),
    "ours-paper-hashing": _network(OursPaperHashing),
    "ours": _network(Ours),
    "ours-plain": _network(OursWithoutAugmentation),
    "fc": _network(FcFeatures),
    "pca": _network(PcaCodes),
    "spatial": _network(SpatialAttention),
    "second-order": _network(SecondOrder),
    **{
        f"{name}-{bits}": _codes(kind, bits)
        for bits in BITS
        for name, kind in (("lsh", LshCodes), ("itq", ItqCodes), ("cnnh", Cnnh), ("dnnh", Dnnh))
    },
}
"""A new method by the row's name in `titles`."""
