"""How rare a cosine is among random pairs of a gallery, which gives a score its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lookalike.lsh import LSHIndex

__all__ = ["PairStatistics"]

SAMPLE = 1000
LEVELS = np.concatenate(
    [np.arange(99) / 100, 0.99 + np.arange(9) / 1000, 1 - np.logspace(-3, -5, 21)]
)
MOST_LEVELS = 10_000
LIMIT = 1.01
"""Of a level and a cosine, with what rounding adds."""


@dataclass(frozen=True)
class PairStatistics:
    """Quantiles of the cosine between two different images drawn at random.

    Attributes:
        levels: shares of pairs from 0 to 1, ascending.
        cosines: the cosine below which that share of pairs lies; as long as ``levels``.
        images, newest_id: size and largest id of the gallery when it was measured.
    """

    levels: tuple[float, ...]
    cosines: tuple[float, ...]
    images: int
    newest_id: int

    @classmethod
    def measure(cls, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> PairStatistics | None:
        """From a sample of unit vectors, (n, dim): all their pairs. None for fewer than two.

        ``ids``: those of the whole gallery.
        """
        if len(vectors) < 2:
            return None
        cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        levels = LEVELS[(LEVELS == 0) | (1 - 1 / len(cosines) >= LEVELS)]
        values = np.quantile(cosines, levels)
        return cls(tuple(levels.tolist()), tuple(values.tolist()), len(ids), int(ids.max()))

    @classmethod
    def of_index(cls, index: LSHIndex) -> PairStatistics | None:
        """From a random sample of SAMPLE items, the same each time. None for fewer than two."""
        ids = index.ids
        rng = np.random.default_rng(0)
        sample = np.sort(rng.choice(ids, min(SAMPLE, len(ids)), replace=False))
        return cls.measure(index.vectors(sample), ids)

    def fits(self, ids: NDArray[np.int64]) -> bool:
        """Whether at most a tenth of a gallery's images, ``ids`` (n,), are others than when it was
        measured. Ids are given out in rising order and never again.
        """
        new = int(np.count_nonzero(ids > self.newest_id))
        gone = self.images - (len(ids) - new)
        return new + gone <= len(ids) // 10

    def shares_below(self, cosines: Sequence[float]) -> list[float]:
        """Share of random pairs less alike than each cosine, 0 to 1, by interpolation.

        Limited by the sample: above its largest quantile, that quantile's level.
        """
        found: list[float] = np.interp(cosines, self.cosines, self.levels).tolist()
        return found

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PairStatistics:
        """ValueError for missing or unknown keys and for values that no gallery can have."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or values.keys() != names:
            raise ValueError(f"pair statistics need the keys {sorted(names)}")
        levels, cosines = values["levels"], values["cosines"]
        for name, numbers, lowest in (("levels", levels, 0), ("cosines", cosines, -LIMIT)):
            if (
                not isinstance(numbers, list | tuple)
                or not 1 <= len(numbers) <= MOST_LEVELS
                or len(numbers) != len(levels)
                or not all(type(number) in (int, float) for number in numbers)
                or not all(lowest <= number <= LIMIT for number in numbers)
                or any(first > second for first, second in pairwise(numbers))
            ):
                raise ValueError(f"{name} of pair statistics are not numbers in ascending order")
        for name in ("images", "newest_id"):
            if type(values[name]) is not int or not 0 <= values[name] < 1 << 63:
                raise ValueError(f"{name} of pair statistics is {values[name]!r:.80}")
        return cls(tuple(levels), tuple(cosines), values["images"], values["newest_id"])
