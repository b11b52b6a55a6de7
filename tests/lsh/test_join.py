"""The self-join against all pairs."""

from __future__ import annotations

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


def test_items_that_all_lie_close_together_are_compared_in_one_bucket() -> None:
    assert join.bands(5000, 0.0, 0.99, 256) == (0, 1)
    rng = np.random.default_rng(6)
    vectors = np.ones((200, DIM)) + 0.01 * rng.standard_normal((200, DIM))
    index = LSHIndex(DIM)
    index.add(np.arange(200), vectors)
    pairs, _ = index.join(0.9)
    assert len(pairs) == 200 * 199 // 2
