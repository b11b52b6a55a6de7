"""Numbers of several splits: mean and spread, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TypeVar

__all__ = ["Difference", "Spread", "half_width", "paired_difference", "spread"]

Key = TypeVar("Key")

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of n numbers; that of a single one is NaN."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        return self.told(4)

    def told(self, decimals: int, sign: str = "") -> str:
        """With so many decimals; sign "+": the mean's always."""
        middle = f"{self.mean:{sign}.{decimals}f}"
        return middle if self.count < 2 else f"{middle} ± {self.deviation:.{decimals}f}"


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its 95 % interval, NaN for a single pair."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:+.4f}"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def spread(values: Sequence[float]) -> Spread:
    """ValueError for no value."""
    if not values:
        raise ValueError("no value has no mean")
    return Spread(mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))


def half_width(deltas: Sequence[float]) -> float:
    """Of Student's 95 % interval of the mean of 2 to 10 differences; NaN for another number."""
    if not 2 <= len(deltas) <= len(T_95) + 1:
        return math.nan
    return T_95[len(deltas) - 2] * stdev(deltas) / math.sqrt(len(deltas))


def paired_difference(first: Mapping[Key, float], second: Mapping[Key, float]) -> Difference | None:
    """`first` less `second` over the splits that both have; None if they share none."""
    deltas = [first[key] - second[key] for key in first.keys() & second.keys()]
    if not deltas:
        return None
    middle, half = mean(deltas), half_width(deltas)
    return Difference(middle, middle - half, middle + half, len(deltas))
