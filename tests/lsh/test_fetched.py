"""A search in buckets that lie elsewhere against the index that has them at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.fetched import Bucket, FetchedSearch
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.segment import Segment

DIM = 40
NUMBER = 5000


def points(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((30, DIM))
    rows = centres[rng.integers(0, 30, n)] + 0.7 * rng.standard_normal((n, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class Elsewhere:
    """The buckets of a segment in a dictionary, each shuffled, and counts of what was fetched."""

    def __init__(self, hasher: Hasher, segment: Segment) -> None:
        self.fetched = 0
        self.asked = 0
        self.kept = segment
        items = segment.items(hasher, np.arange(len(segment)))
        self._buckets: dict[int, Bucket] = {}
        for table, keys in enumerate(items.keys):
            for key in np.unique(keys):
                here = np.random.default_rng(0).permutation(np.flatnonzero(keys == key))
                self._buckets[(table << segment.key_bits) + int(key)] = Bucket(
                    items.ids[here], items.codes[here], items.corrections[here]
                )
        self._nothing = Bucket(
            np.empty(0, np.int64),
            np.empty((0, items.codes.shape[1]), np.uint8),
            np.empty(0, np.int16),
        )

    def empty(self) -> None:
        self._buckets = {}

    def fetch(self, buckets: NDArray[np.int64]) -> list[Bucket]:
        found = [self._buckets.get(bucket, self._nothing) for bucket in buckets.tolist()]
        self.fetched += sum(len(bucket.ids) for bucket in found)
        self.asked += 1
        return found

    def vectors(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        return ids, self.kept.vectors[self.kept.find(ids)]


def opened(settings: LSHSettings) -> tuple[LSHIndex, Elsewhere, FetchedSearch]:
    index = LSHIndex(settings=settings)
    rng = np.random.default_rng(3)
    index.add(np.sort(rng.choice(10**6, NUMBER, replace=False)), points(NUMBER, 0))
    (segment,) = index.segments()
    hasher = index._state.hasher
    assert hasher is not None
    source = Elsewhere(hasher, segment)
    return index, source, FetchedSearch(hasher, segment.key_bits, source)


SETTINGS = {
    "paper": LSHSettings.paper(DIM, key_bits=8),
    "paper, one table": LSHSettings.paper(DIM, tables=1, key_bits=6),
    "default": LSHSettings(DIM),
    "learned, three tables": LSHSettings(DIM, tables=3, key_bits=5, code_bits=128),
    "cross-polytope, asymmetric": LSHSettings(
        DIM, tables=4, key_bits=6, keys="cross-polytope", codes="orthogonal", center=False
    ),
    "codes alone": LSHSettings(DIM, tables=2, key_bits=6, vectors="none"),
    "codes alone, Hamming": LSHSettings(
        DIM, tables=2, key_bits=6, ranking="hamming", vectors="none"
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("candidates", "rerank"), [(40, 20), (300, None), (None, None)])
def test_it_finds_what_the_index_finds(
    name: str, candidates: int | None, rerank: int | None
) -> None:
    index, _, search = opened(SETTINGS[name])
    some: Any = {"candidates": candidates, "rerank": rerank}
    for k in (1, 10, 200):
        for query in points(12, 1):
            expected = index.search(query, k, **some)
            ids, cosines = search.search(query, k, items=NUMBER, **some)
            assert ids.tolist() == expected.ids.tolist()
            np.testing.assert_array_equal(cosines, expected.cosines)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("share", [0.002, 0.02, 0.6, 1.0])
def test_a_filter_counts_as_in_the_index(name: str, share: float) -> None:
    index, _, search = opened(SETTINGS[name])
    allowed = index.ids[np.random.default_rng(5).random(NUMBER) < share]
    for query in points(8, 2):
        expected = index.search(query, 15, allowed=allowed, candidates=30)
        ids, cosines = search.search(query, 15, items=NUMBER, allowed=allowed, candidates=30)
        assert ids.tolist() == expected.ids.tolist()
        # Few are compared with all by one matrix product, which rounds in another order.
        np.testing.assert_allclose(cosines, expected.cosines, atol=1e-6)


def test_more_results_than_items_and_no_item_at_all() -> None:
    index, source, search = opened(LSHSettings.paper(DIM, key_bits=8))
    ids, cosines = search.search(points(1, 4)[0], NUMBER + 50, items=NUMBER)
    assert ids[:NUMBER].tolist() == index.search(points(1, 4)[0], NUMBER).ids.tolist()
    assert (ids[NUMBER:] == -1).all()
    assert (cosines[NUMBER:] == -np.inf).all()
    source.fetched = 0
    for items, allowed in ((0, None), (NUMBER, np.empty(0, np.int64))):
        ids, cosines = search.search(points(1, 4)[0], 3, items=items, allowed=allowed)
        assert ids.tolist() == [-1] * 3
    assert source.fetched == 0


def test_it_fetches_little_more_than_what_it_looks_at_in_few_rounds() -> None:
    _, source, search = opened(LSHSettings.paper(DIM, key_bits=8))
    budget, queries = 50 * 8, points(100, 6)
    for query in queries:
        search.search(query, 10, items=NUMBER, candidates=50)
    assert budget <= source.fetched / len(queries) < 2 * budget
    assert source.asked / len(queries) < 3


def test_an_item_that_vanishes_meanwhile_is_left_out() -> None:
    index, source, search = opened(LSHSettings.paper(DIM, key_bits=8))
    query = points(1, 8)[0]
    first, *others = index.search(query, 6).ids.tolist()
    everything = source.vectors

    def without_first(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        return everything(ids[ids != first])

    source.vectors = without_first  # type: ignore[method-assign]
    ids, _ = search.search(query, 5, items=NUMBER)
    assert ids.tolist() == others


def test_buckets_that_are_all_empty_by_now_give_nothing() -> None:
    _, source, search = opened(LSHSettings.paper(DIM, tables=2, key_bits=5))
    source.empty()
    ids, cosines = search.search(points(1, 4)[0], 3, items=NUMBER)
    assert ids.tolist() == [-1] * 3
    assert (cosines == -np.inf).all()
