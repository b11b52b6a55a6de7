"""All pairs above a cosine without comparing all pairs: the codes are hashed once more, in bands.

Items that agree on ``bits`` randomly chosen bits of their codes meet in a bucket; enough such
tables make a pair at the threshold meet in at least one of them with the chance asked for. A pair
of angle theta agrees on one bit with p = 1 - theta / pi, on a table with p^bits, and on at least
one of m tables with 1 - (1 - p^bits)^m (Charikar 2002; Leskovec et al., "Mining of Massive
Datasets", section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.build import gather
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.state import State, kept
from lookalike.lsh.vectors import UNIT, widened

MAX_TABLES = 2000
BUCKET = 16
PAIRS = 1 << 15
"""Pairs that are compared at once."""
SQUARE = 1 << 10
"""Vectors whose pairs are compared by one product of matrices."""
VECTOR_BYTES = 64 << 20
Pairs = NDArray[np.int64]
Floats = NDArray[np.float32]


def collision_probability(cosine: float) -> float:
    """1 - theta / pi: the chance that one random hyperplane has both vectors on the same side."""
    return 1.0 - math.acos(min(1.0, max(-1.0, cosine))) / math.pi


def bands(n: int, agreement: float, recall: float, code_bits: int) -> tuple[int, int]:
    """Key bits and number of tables, so that a pair meets with chance ``recall``.

    Buckets of about BUCKET items at random, fewer key bits if that would take over MAX_TABLES; none
    (one bucket of all) where tables would compare more pairs than there are.
    """
    bits = min(24, code_bits, int(math.log2(n / BUCKET))) if n > BUCKET else 0
    while bits > 0:
        meets = agreement**bits
        if meets >= 1.0:
            return bits, 1
        tables = math.log(1 - recall) / math.log1p(-meets) if meets > 0 else math.inf
        if tables <= min(MAX_TABLES, 1 << bits):
            return bits, math.ceil(tables)
        bits -= 1
    return 0, 1


def hamming_bound(agreement: float, code_bits: int) -> int:
    """Bits in which a pair at the threshold differs at most, but for one in 30,000 (4 sigma)."""
    mean = code_bits * (1 - agreement)
    return min(code_bits, math.ceil(mean + 4 * math.sqrt(mean * agreement)))


class Joined(NamedTuple):
    """What is joined, and how.

    Attributes:
        ids: (n,) int64; what follows counts items by their rows here.
        codes: (n, words) uint64.
        dim: of the vectors.
        take: gives the unit vectors of rows (m,): float16 or float32 (m, dim).
        threshold: smallest cosine of a pair.
        agreement: chance that a pair at the threshold agrees on a bit.
        recall: chance that such a pair is found.
        seed: of the bits that are chosen.
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.uint64]
    dim: int
    take: Callable[[NDArray[np.int64]], NDArray[Any]]
    threshold: float
    agreement: float
    recall: float
    seed: int

    @classmethod
    def of(cls, state: State, settings: LSHSettings, threshold: float, recall: float) -> Self:
        """All items of an index with vectors. ValueError: threshold or recall out of range."""
        if not -1 < threshold <= 1 or not 0 < recall < 1:
            raise ValueError(
                f"threshold is {threshold} and recall {recall}; they must be above -1 and at most "
                f"1, and between 0 and 1"
            )
        live = [
            (segment, np.arange(len(segment))[kept(removed.marks)])
            for segment, removed in zip(state.segments, state.removed, strict=True)
        ]
        width = settings.code_bits // 8
        ids = [segment.ids[rows] for segment, rows in live]
        codes = [segment.codes_of(rows, width) for segment, rows in live]
        joined = cls(
            np.concatenate([np.empty(0, np.int64), *ids]),
            np.concatenate([np.empty((0, width // 8), np.uint64), *codes]),
            settings.dim,
            lambda rows: gather(live, rows),
            threshold,
            0.0,
            recall,
            settings.seed,
        )
        if state.hasher is None or len(joined.ids) < 2:
            return joined
        sample = np.arange(0, len(joined.ids), max(1, len(joined.ids) // 1000))
        spread = state.hasher.spread(widened(joined.take(sample)))
        return joined._replace(agreement=collision_probability(1 - (1 - threshold) / spread))


class Forest:
    """Which of ``n`` rows are connected so far."""

    def __init__(self, n: int) -> None:
        self._parents = np.arange(n)

    def unite(self, pairs: Pairs) -> None:
        """Connect the rows of each of (m, 2) pairs."""
        from lookalike.lsh.coding import unite

        unite(self._parents, pairs)

    def labels(self) -> NDArray[np.int64]:
        """The first row that each is connected with: (n,); a view, overwritten by later calls."""
        from lookalike.lsh.coding import flatten

        flatten(self._parents)
        return self._parents

    def groups(self, ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The ``ids`` (n,) of the rows of each group of more than one, ascending; by the first."""
        labels = self.labels()
        order = np.argsort(labels, kind="stable")
        parts = np.split(ids[order], np.flatnonzero(np.diff(labels[order])) + 1)
        found = [np.sort(part) for part in parts if len(part) > 1]
        return sorted(found, key=lambda part: int(part[0]))


def all_pairs(joined: Joined, limit: int) -> tuple[Pairs, Floats]:
    """As `LSHIndex.join`; ValueError for more than ``limit`` pairs."""
    pairs, cosines = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    total = 0
    for some, near in near_pairs(joined):
        total += len(some)
        if total > limit:
            raise ValueError(
                f"more than {limit:,} pairs reach a cosine of {joined.threshold}; raise the "
                f"threshold or the limit, or use groups, which lists no pairs"
            )
        pairs.append(np.sort(joined.ids[some], axis=1))
        cosines.append(near)
    found = np.concatenate(pairs)
    order = np.lexsort(found.T[::-1])
    return found[order], np.concatenate(cosines)[order]


def groups(joined: Joined) -> list[NDArray[np.int64]]:
    """As `LSHIndex.groups`."""
    forest = Forest(len(joined.ids))
    for _ in near_pairs(joined, forest):
        pass
    return forest.groups(joined.ids)


def near_pairs(joined: Joined, forest: Forest | None = None) -> Iterator[tuple[Pairs, Floats]]:
    """Pairs of rows that reach the threshold, each once, in batches, with their cosines.

    Rows of equal codes are linked in a chain instead of each with each, so that many copies of one
    image stay cheap.

    Args:
        forest: connects the pairs as they are found; pairs that it connects already are passed
            over, so that n items that are all alike cost about n pairs.

    Yields:
        (m, 2) int64, distinct, and (m,) float32.
    """
    codes = joined.codes
    order = np.lexsort(codes.T)
    equal = (codes[order][1:] == codes[order][:-1]).all(axis=1)
    chain = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    linked = np.zeros(len(codes), np.bool_)
    for near, cosines in _compared(joined, chain, forest):
        linked[near[:, 1]] = True
        yield near, cosines
    rows = np.flatnonzero(~linked)
    bits, tables = bands(len(rows), joined.agreement, joined.recall, codes.shape[1] * 64)
    if bits:
        yield from _in_buckets(joined, rows, bits, tables, forest)
    else:
        yield from _all_with_all(joined, rows, forest)


def _at_once(joined: Joined, most: int) -> int:
    """How many vectors to hold at a time."""
    return max(64, min(most, VECTOR_BYTES // (4 * joined.dim)))


def _unit(joined: Joined, rows: NDArray[np.int64]) -> Floats:
    """Their vectors, scaled again after they were rounded to float16: (m, dim)."""
    from lookalike.lsh.coding import scale

    vectors = widened(joined.take(rows))
    scale(vectors)
    return vectors


def _compared(
    joined: Joined, pairs: Pairs, forest: Forest | None
) -> Iterator[tuple[Pairs, Floats]]:
    """Those of (m, 2) ``pairs`` that reach the threshold."""
    from lookalike.lsh.coding import pair_cosines

    size = _at_once(joined, PAIRS)
    for start in range(0, len(pairs), size):
        some = pairs[start : start + size]
        rows, places = np.unique(some, return_inverse=True)
        cosines = np.empty(len(some), np.float32)
        pair_cosines(_unit(joined, rows), places.reshape(some.shape), cosines)
        yield from _found(joined, some, cosines, forest)


def _found(
    joined: Joined, pairs: Pairs, cosines: Floats, forest: Forest | None
) -> Iterator[tuple[Pairs, Floats]]:
    near = cosines >= joined.threshold - UNIT
    if near.any():
        if forest is not None:
            forest.unite(pairs[near])
        yield pairs[near], np.clip(cosines[near], -1, 1)  # rounding may exceed them


def _in_buckets(
    joined: Joined, rows: NDArray[np.int64], bits: int, tables: int, forest: Forest | None
) -> Iterator[tuple[Pairs, Floats]]:
    """The pairs of ``rows`` that meet in a table, compared when they first do."""
    codes = np.ascontiguousarray(joined.codes[rows])
    bound = hamming_bound(joined.agreement, codes.shape[1] * 64)

    def labels() -> NDArray[np.int64]:
        return np.arange(len(rows)) if forest is None else forest.labels()[rows]

    for met in _meetings(codes, bits, tables, bound, joined.seed, labels):
        yield from _compared(joined, rows[met], forest)


def _meetings(
    codes: NDArray[np.uint64],
    bits: int,
    tables: int,
    bound: int,
    seed: int,
    labels_now: Callable[[], NDArray[np.int64]],
) -> Iterator[Pairs]:
    """Pairs of rows of (n, words) ``codes`` that agree on some table's bits and differ in at most
    ``bound`` bits, but for those of equal labels (n,)."""
    from lookalike.lsh.coding import near_pairs_in_buckets

    code_bits = codes.shape[1] * 64
    rng = np.random.default_rng(seed)
    masks = np.zeros((tables, codes.shape[1]), np.uint64)
    out = np.empty((PAIRS, 2), np.int64)
    for t in range(tables):
        keys = np.zeros(len(codes), np.uint32)
        for j, bit in enumerate(rng.choice(code_bits, bits, replace=False)):
            word = codes[:, bit // 64] >> np.uint64(bit % 64)
            keys |= (word & np.uint64(1)).astype(np.uint32) << np.uint32(j)
            masks[t, bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
        labels = labels_now()
        order = np.lexsort((labels, keys))
        at = 0, 0
        while at[0] < len(codes):
            count, *at = near_pairs_in_buckets(
                codes, masks[:t], keys[order], labels[order], order, bound, *at, out
            )
            yield out[:count].copy()
            labels = labels_now()


def hamming_pairs(
    codes: NDArray[np.uint64],
    bound: int,
    *,
    labels: NDArray[np.int64] | None = None,
    recall: float = 0.99,
    seed: int = 0,
) -> Iterator[Pairs]:
    """Pairs of rows of (n, words) ``codes`` that differ in at most ``bound`` bits, each once, in
    batches (m, 2).

    Args:
        labels: pairs of equal labels (n,) are left out.
        recall: chance that a pair that differs in ``bound`` bits is found; closer ones are surer.
    """
    own = np.arange(len(codes)) if labels is None else labels
    agreement = 1 - bound / (64 * codes.shape[1])
    bits, tables = bands(len(codes), agreement, recall, codes.shape[1] * 64)
    yield from _meetings(np.ascontiguousarray(codes), bits, tables, bound, seed, lambda: own)


def _all_with_all(
    joined: Joined, rows: NDArray[np.int64], forest: Forest | None
) -> Iterator[tuple[Pairs, Floats]]:
    """Compare all ``rows`` with all, or as many as it takes to connect them."""
    size = _at_once(joined, SQUARE)
    while len(rows) > 1:
        some = rows[:size]
        vectors = _unit(joined, some)
        for start in range(0, len(rows), size):
            others = rows[start : start + size]
            if forest is not None and _connected(forest, np.concatenate([some, others])):
                continue
            cosines = vectors @ _unit(joined, others).T
            near = cosines >= joined.threshold - UNIT
            a, b = np.nonzero(np.triu(near, 1) if start == 0 else near)
            yield from _found(joined, np.stack([some[a], others[b]], axis=1), cosines[a, b], forest)
        rows = rows[size:]
        if forest is not None:
            if _connected(forest, rows):
                return
            # The largest group last: when only it is left, nothing is left to connect.
            labels = forest.labels()
            rows = rows[np.argsort(np.bincount(labels)[labels[rows]], kind="stable")]


def _connected(forest: Forest, rows: NDArray[np.int64]) -> bool:
    labels = forest.labels()[rows]
    return bool((labels == labels[:1]).all())
