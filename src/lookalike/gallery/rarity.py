"""How rare a cosine is among random pairs of a gallery, which gives a score its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from lookalike.lsh import LSHIndex

SAMPLE = 1000
LEVELS = np.concatenate(
    [np.arange(99) / 100, 0.99 + np.arange(9) / 1000, 1 - np.logspace(-3, -5, 21)]
)
MOST_LEVELS = 10_000
CHANCE = 0.98
SURE = 0.7
"""A cosine that means something however alike the images of a gallery are, if those least alike are
at right angles; of a model whose embeddings lie in a cone, as far above its least alike pairs."""
LEAST = 0.01
LOW, APART = 0.02, 2.0
"""Unrelated pairs lie about the median, which is theirs also in a gallery of a few large classes; a
cosine so many times as far above it as LOW of all pairs are below means something. In Corel-1k, of
ten classes, the best hits of 0.6 % of its images are below that (of 23 % below CHANCE), and of 61 %
of the images of a class that is left out; in Corel-5k, of fifty, CHANCE is about as low."""
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
        return cls.measure(index.sample(SAMPLE), index.ids)

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
        found: list[float] = np.interp(cosines, *self._curve).tolist()
        return found

    @cached_property
    def _curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.cosines), np.array(self.levels)

    def is_chance(self, cosine: float) -> bool:
        """Whether random pairs of images are as alike as the best hit is to the query.

        The best of n images that have nothing to do with the query is expected to be closer than
        1 - 1/n of random pairs. A hit that does not reach this, or in a large gallery CHANCE,
        means nothing, unless it is SURE or far APART from unrelated pairs: in a gallery of a few
        large classes many pairs are alike.
        """
        lowest, low, middle = np.interp((LEAST, LOW, 0.5), self.levels, self.cosines).tolist()
        least = max(0.0, lowest)
        means_something = min(least + SURE * (1 - least), middle + APART * (middle - low))
        (rarity,) = self.shares_below([cosine])
        return cosine < means_something and rarity < min(CHANCE, 1 - 1 / self.images)

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


def rarities(
    scale: PairStatistics | WordScale | None, cosines: Sequence[float]
) -> Sequence[float | None]:
    """Of each cosine, the share that is less alike; None: there is nothing to compare with."""
    return [None] * len(cosines) if scale is None else scale.shares_below(cosines)


EXACT_UP_TO = 100_000
"""Images with all of which words are compared. They lie apart from images, where hash functions
distinguish less: of vectors in two cones (30,000 x 512), recall@10 is 0.90, and 0.98 of images."""
SEVERAL = 64
"""Meaningless queries that one of words is compared with."""
MEANINGLESS = 0.75
"""Share of them whose best image is less alike than what counts as found."""
FEW = 10
"""Images, of which none stands out."""
Vector = NDArray[np.float32]
Part = tuple[Vector, bool]
"""A unit vector of a query, and whether it is of words."""


class WordScale:
    """A query with words in it, and what its cosines mean in a gallery.

    Images and words lie apart in the space of a model of both: cosines between them are low, and
    differ in level from text to text. So a score is compared with those that a query of the same
    form has if its words are replaced by words that have nothing to do with the gallery, and its
    images by random ones of it, each less the mean over the gallery's images.

    Attributes:
        vector: the query's, float32 (dim,): words alone as they are; of several parts, each less
            the centre of its kind, so that words count as much as an image.
    """

    def __init__(
        self,
        sample: NDArray[np.float32],
        prompts: NDArray[np.float32],
        like: Sequence[Part],
        unlike: Sequence[Part],
    ) -> None:
        """Args:
        sample: unit vectors (n, dim) of random images of the gallery.
        prompts: unit vectors (p, dim) of words that few galleries have images of.
        like, unlike: parts of the query, of any length but zero.
        """
        none = np.zeros(prompts.shape[1], np.float32)
        self._sample = sample
        self._centres = sample.mean(axis=0) if len(sample) else none, prompts.mean(axis=0)
        self.vector = self._made(like, unlike)
        self._level = float(self.vector @ self._centres[0])
        scores = [
            self._meaningless(number, prompts, like, unlike)
            for number in range(min(SEVERAL, len(prompts)) if len(sample) else 0)
        ]
        self._scores = np.sort(np.concatenate([none[:0], *scores]))
        self._least = -np.inf
        if len(sample) >= FEW and all(is_words for _, is_words in (*like, *unlike)):
            self._least = float(np.quantile([part.max() for part in scores], MEANINGLESS))

    def shares_below(self, cosines: Sequence[float]) -> list[float]:
        """Share of meaningless scores below each cosine of the query, 0 to 1, and no more than so
        many can show."""
        scores, count = np.asarray(cosines, np.float32) - self._level, max(1, len(self._scores))
        at = np.searchsorted(self._scores, scores)
        shares: list[float] = (np.minimum(at, count - 1) / count).tolist()
        return shares

    def is_chance(self, cosine: float) -> bool:
        """Whether the best image is no more alike to the query, of words alone, than the best one
        is to words that mean nothing here."""
        return cosine - self._level < self._least

    def _made(self, like: Sequence[Part], unlike: Sequence[Part]) -> Vector:
        if len(like) == 1 and not unlike:
            return like[0][0]
        above, below = (
            [_directions(vector)[0] - self._centres[words] for vector, words in some]
            for some in (like, unlike)
        )
        return combine(above, below)

    def _meaningless(
        self,
        number: int,
        prompts: NDArray[np.float32],
        like: Sequence[Part],
        unlike: Sequence[Part],
    ) -> NDArray[np.float32]:
        """Scores (m,) of one such query with the sampled images but those it is made of."""
        texts = iter(np.roll(prompts, -number, axis=0))
        images = np.random.default_rng(number).permutation(len(self._sample))
        used = iter(images)

        def replaced(parts: Sequence[Part]) -> list[Part]:
            return [
                (next(texts) if words else self._sample[next(used)], words) for _, words in parts
            ]

        vector = self._made(replaced(like), replaced(unlike))
        scores = (self._sample - self._centres[0]) @ vector
        left_out = images[: sum(not words for _, words in (*like, *unlike))]
        return np.asarray(np.delete(scores, left_out), np.float32)


# ---- queries of several parts --------------------------------------------------------------------


UNLIKE_WEIGHT = 0.25
"""Of what the query should not look like. All images have something in common, which a weight of 1
would take out of the query. On 120 images of Corel, with 45 queries and against an image of
another class that was among their first ten: P@10 is 0.71 without, 0.72 with this weight and 0.66
with 0.5; the share of that other class is 0.16, 0.06 and 0.04."""


def combine(like: ArrayLike, unlike: ArrayLike = ()) -> Vector:
    """The mean of unit directions, less UNLIKE_WEIGHT of the mean of others: float32 (dim,).

    Args:
        like, unlike: embeddings (n, dim) of any length but zero; ``unlike`` may be empty.

    Returns:
        a unit vector.

    Raises:
        ValueError: what remains has no direction, as of a vector and its opposite.
    """
    mean = _directions(like).mean(axis=0)
    if np.size(unlike):
        mean = mean - UNLIKE_WEIGHT * _directions(unlike).mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 1e-6:
        raise ValueError("these queries cancel each other; leave one out")
    return np.asarray(mean / length, np.float32)


def _directions(vectors: ArrayLike) -> NDArray[np.float64]:
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():  # NaN as well
        raise ValueError("an embedding has no direction: it is zero or not finite")
    return np.asarray(rows / lengths)
