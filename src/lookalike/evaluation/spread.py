"""Numbers of several splits: mean and spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

__all__ = ["Spread", "spread"]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of n numbers; NaN for a single one."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        return self.rounded(4)

    def rounded(self, decimals: int, sign: str = "") -> str:
        """With so many decimals; sign "+": the mean always has one."""
        middle = f"{self.mean:{sign}.{decimals}f}"
        return middle if self.count < 2 else f"{middle} ± {self.deviation:.{decimals}f}"


def spread(values: Sequence[float]) -> Spread:
    """ValueError for no value."""
    if not values:
        raise ValueError("no value has no mean")
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))
