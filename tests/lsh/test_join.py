"""The self-join against all pairs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex, LSHSettings, join

DIM = 64


def near_copies(n: int, noise: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n // 3, DIM))
    copies = np.concatenate([base, base + noise * rng.standard_normal(base.shape), base])
    copies[2 * len(base) :] += 0.5 * noise * rng.standard_normal(base.shape)
    rows = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    return np.asarray(rows, np.float32)


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.97])
@pytest.mark.parametrize("center", [True, False])
def test_the_join_finds_the_pairs_that_exist_and_no_other(threshold: float, center: bool) -> None:
    vectors = near_copies(3000, 0.3, 0)
    index = LSHIndex(settings=LSHSettings(DIM, vectors="float32", center=center))
    index.add(np.arange(3000), vectors)
    pairs, cosines = index.join(threshold, recall=0.99)
    cosine = vectors @ vectors.T
    expected = {tuple(p) for p in np.argwhere(np.triu(cosine >= threshold, 1)).tolist()}
    found = {tuple(p) for p in pairs.tolist()}
    borderline = {p for p in expected | found if abs(cosine[p] - threshold) < 1e-5}
    assert found - expected <= borderline
    assert len(found & expected) >= 0.985 * len(
        expected
    )  # recall 0.99 at the threshold, less 4 sigma
    assert np.allclose(cosines, [cosine[a, b] for a, b in pairs], atol=1e-5)


def test_copies_of_one_vector_are_linked_in_a_chain() -> None:
    vectors = np.repeat(near_copies(30, 0.3, 1)[:2], 500, axis=0)
    index = LSHIndex(DIM)
    index.add(np.arange(1000), vectors)
    pairs, _ = index.join(0.999)
    assert len(pairs) == 998
    assert {bool(a < 500) == bool(b < 500) for a, b in pairs.tolist()} == {True}
    assert len(np.unique(pairs)) == 1000


@pytest.mark.parametrize("vectors", ["float16", "float32"])
@pytest.mark.parametrize("count", [100, 1000])  # compared all with all, and in buckets
@pytest.mark.parametrize("noise", [0, 1e-4])
def test_equal_items_are_pairs_at_a_cosine_of_1_however_they_are_stored(
    vectors: Any, count: int, noise: float
) -> None:
    """Rounding to float16 changes a length by as much as 2e-4."""
    rng = np.random.default_rng(6)
    rows = np.repeat(rng.standard_normal((count, DIM)), 2, axis=0)
    rows += noise * rng.standard_normal(rows.shape)
    index = LSHIndex(settings=LSHSettings(DIM, vectors=vectors))
    index.add(np.arange(2 * count), rows)
    twins = np.arange(2 * count).reshape(-1, 2)
    threshold = 1 - 1e-6 if noise else 1
    pairs, cosines = index.join(threshold, recall=0.9999)
    assert np.array_equal(pairs, twins)
    assert np.allclose(cosines, 1, atol=2e-6)
    assert np.array_equal(index.groups(threshold, recall=0.9999), twins)
    own = index.range_search(rows[7], threshold)
    assert sorted(own.ids.tolist()) == [6, 7]


def test_removed_items_are_in_no_pair() -> None:
    vectors = near_copies(300, 0.05, 2)
    index = LSHIndex(DIM)
    index.add(np.arange(300), vectors)
    index.remove(np.arange(100, 200))
    pairs, _ = index.join(0.9)
    assert {tuple(p) for p in pairs.tolist()} == {(i, 200 + i) for i in range(100)}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_items_have_no_pair(count: int) -> None:
    index = LSHIndex(DIM)
    index.add(np.arange(count), near_copies(9, 0.1, 3)[:count])
    pairs, cosines = index.join(0.9)
    assert pairs.shape == (0, 2)
    assert cosines.shape == (0,)


def test_bands_reach_the_recall_that_they_promise() -> None:
    rng = np.random.default_rng(4)
    for agreement, recall in ((0.85, 0.99), (0.95, 0.9)):
        bits, tables = join.bands(5000, agreement, recall, 256)
        flips = rng.random((4000, 256)) > agreement
        met = np.zeros(4000, bool)
        for _ in range(tables):
            chosen = rng.choice(256, bits, replace=False)
            met |= ~flips[:, chosen].any(axis=1)
        # Bands share the bits of one code, so a little is lost against independent ones.
        assert met.mean() > recall - 0.015


def test_collision_probability_is_one_minus_theta_over_pi() -> None:
    assert join.collision_probability(1.0) == 1
    assert join.collision_probability(0.0) == pytest.approx(0.5)
    assert join.collision_probability(-1.0) == pytest.approx(0)
    assert join.collision_probability(np.cos(0.3)) == pytest.approx(1 - 0.3 / np.pi)


def test_the_hamming_bound_lets_four_sigma_pass() -> None:
    rng = np.random.default_rng(5)
    distances = (rng.random((20000, 256)) > 0.9).sum(axis=1)
    assert (distances > join.hamming_bound(0.9, 256)).mean() < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.97])
@pytest.mark.parametrize("vectors", ["float16", "float32"])
def test_groups_are_the_connected_components_of_all_pairs(threshold: float, vectors: Any) -> None:
    rows = near_copies(3000, 0.3, 7)
    # A cone in which all are alike, and one in which only some are, beside what is spread out.
    rng = np.random.default_rng(8)
    rows[:600] = rows[0] + 0.04 * rng.standard_normal((600, DIM)) / np.sqrt(DIM)
    rows[600:1200] = rows[600] + 0.7 * rng.standard_normal((600, DIM)) / np.sqrt(DIM)
    index = LSHIndex(settings=LSHSettings(DIM, vectors=vectors))
    for start in range(0, 3000, 1000):
        index.add(np.arange(start, start + 1000)[::-1] + 5, rows[start : start + 1000][::-1])
    index.remove(np.arange(5, 3005, 50))
    stored = index.vectors(index.ids)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    near = stored @ stored.T >= threshold
    expected = components(near, index.ids)
    found = index.groups(threshold, recall=0.9999)
    assert [group.tolist() for group in found] == expected
    pairs, cosines = index.join(threshold, recall=0.9999)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (cosines >= threshold).all()
    linked = np.eye(len(index), dtype=bool)
    linked[tuple(np.searchsorted(index.ids, pairs).T)] = True
    assert components(linked | linked.T, index.ids) == expected


def components(near: NDArray[np.bool_], ids: NDArray[np.int64]) -> list[list[int]]:
    left, groups = set(range(len(ids))), []
    while left:
        group, todo = set[int](), [min(left)]
        while todo:
            if (i := todo.pop()) not in group:
                group.add(i)
                todo += np.flatnonzero(near[i]).tolist()
        left -= group
        if len(group) > 1:
            groups.append([int(ids[i]) for i in sorted(group)])
    return groups


def test_items_of_equal_codes_that_are_not_alike_are_compared_with_others() -> None:
    """Codes say in which direction from the mean, not how far: three points on an arc."""
    rng = np.random.default_rng(9)
    angles = rng.permutation(np.repeat([0.01, 0.013, -0.023], 40))
    rows = np.zeros((120, DIM))
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    index = LSHIndex(settings=LSHSettings(DIM, vectors="float32", code_bits=64))
    index.add(np.arange(120), rows + 1e-7 * rng.standard_normal(rows.shape))
    segment = index.segments()[0]
    assert len(np.unique(segment.codes_of(np.arange(120), 8), axis=0)) < 3
    expected = [np.flatnonzero(angles == angle).tolist() for angle in np.unique(angles)]
    found = [group.tolist() for group in index.groups(1 - 1e-6)]
    assert found == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_many_items_that_are_all_alike_are_grouped_in_memory_for_the_items_alone(
    noise: float,
) -> None:
    n = 12_000
    rng = np.random.default_rng(10)
    rows = rng.standard_normal(DIM) + noise * rng.standard_normal((n, DIM))
    index = LSHIndex(DIM)
    index.add(np.arange(n), rows)
    index.groups(0.9)
    tracemalloc.start()
    (group,) = index.groups(0.9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(group) == n
    assert peak < 128 << 20  # a list of their 72 million pairs takes over 1 GB
    with pytest.raises(ValueError, match=r"more than 1,000,000 pairs reach a cosine of 0\.9;"):
        index.join(0.9, limit=1_000_000)


def test_vectors_that_are_not_kept_cannot_be_joined() -> None:
    index = LSHIndex(settings=LSHSettings(DIM, vectors="none"))
    index.add(np.arange(300), near_copies(300, 0.05, 2))
    for call in (index.join, index.groups):
        with pytest.raises(ValueError, match="keeps no vectors"):
            call(0.9)


def test_items_that_all_lie_close_together_are_compared_in_one_bucket() -> None:
    assert join.bands(5000, 0.0, 0.99, 256) == (0, 1)
    rng = np.random.default_rng(6)
    vectors = np.ones((200, DIM)) + 0.01 * rng.standard_normal((200, DIM))
    index = LSHIndex(DIM)
    index.add(np.arange(200), vectors)
    pairs, _ = index.join(0.9)
    assert len(pairs) == 200 * 199 // 2
