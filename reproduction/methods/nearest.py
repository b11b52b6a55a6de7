"""An exhaustive search: the best of all similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reproduction.collection import Positions

__all__ = ["nearest"]


def nearest(similarities: NDArray[np.floating], k: int) -> Positions:
    """Positions of the k largest of (n,), largest first, ties by position."""
    if k < len(similarities):
        bound = np.partition(similarities, -k)[-k]
        chosen = np.flatnonzero(similarities >= bound)
    else:
        chosen = np.arange(len(similarities))
    order = np.argsort(-similarities[chosen], kind="stable")[:k]
    found: Positions = chosen[order]
    return found
