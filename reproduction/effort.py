"""How much a reproduction spends on its numbers: what the tables want, or a quick look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reproduction.distortions import DISTORTIONS
from reproduction.methods.sift import SIZES

__all__ = ["QUICK", "WHOLE", "Effort"]


@dataclass(frozen=True, eq=False)
class Effort:
    """What is spent.

    Attributes:
        seeds: how many of the plan's split seeds, the first; None: all.
        epochs: by trunk, where they are others than the recipe's.
        words, pyramids: what SIFT tries on its training set.
        levels: of each distortion.
        rounds: in which the rows are timed.
        growth: whether a gallery is grown, which encodes 95,000 pictures.
        unseen_related: whether rows of related work are measured on unseen categories.
        share: of the time that a task of the whole takes, about.
    """

    seeds: int | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[int] = SIZES
    pyramids: Sequence[bool] = (False, True)
    levels: Mapping[str, Sequence[float]] = field(default_factory=lambda: DISTORTIONS)
    rounds: int = 3
    growth: bool = True
    unseen_related: bool = True
    share: float = 1.0


WHOLE = Effort()
QUICK = Effort(
    seeds=1,
    epochs={"efficientnet-lite0": 2, "lenet5": 10, "vgg16-bn": 3},
    words=(500,),
    pyramids=(False,),
    levels={
        "rotation": (0, 15, 90),
        "crop": (100, 70),
        "brightness": (0.7, 1, 1.3),
        "contrast": (0.55, 1),
        "noise": (0, 20),
        "blur": (0, 1),
        "jpeg": (100, 10),
        "scale": (100, 25),
    },
    rounds=1,
    growth=False,
    unseen_related=False,
    share=0.35,
)
"""To see in a quarter of an hour that all works; its numbers are not for reporting."""
