"""Numbers of several splits: mean and spread, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev
from typing import TypeVar

__all__ = ["Difference", "Spread", "half_width", "paired_difference", "spread", "student"]

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


def student(freedom: int) -> float:
    """Student's t, two-sided 95 %: of T_95, beyond it Abramowitz and Stegun's 26.7.5.

    The expansion is off by less than 1e-5 there. ValueError for freedom below 1.
    """
    if freedom < 1:
        raise ValueError(f"freedom is {freedom}; it must be at least 1")
    if freedom <= len(T_95):
        return T_95[freedom - 1]
    x = NormalDist().inv_cdf(0.975)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def half_width(deltas: Sequence[float]) -> float:
    """Of Student's 95 % interval of the mean of some differences; NaN for fewer than two."""
    if len(deltas) < 2:
        return math.nan
    return student(len(deltas) - 1) * stdev(deltas) / math.sqrt(len(deltas))


def paired_difference(first: Mapping[Key, float], second: Mapping[Key, float]) -> Difference | None:
    """`first` less `second` over the splits that both have; None if they share none."""
    deltas = [first[key] - second[key] for key in first.keys() & second.keys()]
    if not deltas:
        return None
    middle, half = mean(deltas), half_width(deltas)
    return Difference(middle, middle - half, middle + half, len(deltas))
