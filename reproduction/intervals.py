"""Paired differences over splits, with Student's 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TypeVar

from scipy.stats import t

Key = TypeVar("Key")


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


def half_width(deltas: Sequence[float]) -> float:
    """Of the 95 % interval of the mean of some differences; NaN for fewer than two."""
    if len(deltas) < 2:
        return math.nan
    return float(t.ppf(0.975, len(deltas) - 1)) * stdev(deltas) / math.sqrt(len(deltas))


def paired_difference(first: Mapping[Key, float], second: Mapping[Key, float]) -> Difference | None:
    """`first` minus `second` over the splits that both have; None if they share none."""
    deltas = [first[key] - second[key] for key in first.keys() & second.keys()]
    if not deltas:
        return None
    middle, half = mean(deltas), half_width(deltas)
    return Difference(middle, middle - half, middle + half, len(deltas))
