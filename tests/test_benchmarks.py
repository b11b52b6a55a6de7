"""The benchmarks' own arithmetic, and tiny runs of those that need no peers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts import each other from their own folder; what they do to the process is undone."""
    monkeypatch.syspath_prepend(FOLDER)
    before, known = dict(os.environ), set(sys.modules)
    yield
    os.environ.clear()
    os.environ.update(before)
    for name in set(sys.modules) - known:
        if name in {path.stem for path in FOLDER.glob("*.py")}:
            del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(name)


def unit_rows(n: int, dim: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_exact_neighbours_equal_a_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    deep216k = module("deep216k")
    monkeypatch.setattr(deep216k, "ROWS_AT_ONCE", 70)  # several blocks
    items, queries = unit_rows(300, 16, 0), unit_rows(7, 16, 1)
    expected = np.argsort(-(queries @ items.T), axis=1)[:, :12]
    assert np.array_equal(deep216k.exact_nearest(items, queries, 12), expected)


def test_held_out_queries_and_items_are_all_vectors_once_and_survive_storing(
    tmp_path: Path,
) -> None:
    deep216k = module("deep216k")
    vectors = unit_rows(400, 8, 2)
    items, queries = deep216k.hold_out(vectors, 40)
    assert len(queries) == 40
    both = np.concatenate([items, queries])
    assert np.array_equal(np.sort(both, axis=0), np.sort(vectors, axis=0))
    deep216k.store(tmp_path, "tiny", items, queries)
    loaded = deep216k.load(tmp_path, "tiny")
    assert np.array_equal(loaded.items, items)
    assert loaded.exact.shape == (40, 100)
    assert deep216k.recall(loaded.exact[:, :10], loaded.exact[:, :10]) == 1.0
    assert deep216k.recall(loaded.exact[:, 5:15], loaded.exact[:, :10]) == 0.5
    with pytest.raises(SystemExit, match=r"other-items\.npy is missing"):
        deep216k.load(tmp_path, "other")


@pytest.mark.slow
def test_a_mixed_load_has_no_faults_and_ends_with_the_right_number_of_items() -> None:
    result = module("mixed").run(seconds=1.0, add=2000, remove=200)
    assert result["faults"] == 0, result
    assert result["items_at_the_end"] == result["items_expected"] == 21_800
    assert result["targets"]["there"] > 0


def test_the_oracle_of_the_mixed_load_notices_every_kind_of_fault() -> None:
    mixed = module("mixed")
    vectors = unit_rows(20, 8, 3)
    query = vectors[0]
    ids = np.argsort(-(vectors @ query))[:5]
    cosines = (vectors @ query)[ids]
    oracle = mixed.Oracle(vectors, 20)
    assert oracle.check(0, 1.0, 2.0, ids, cosines, query) == []
    assert "missing" in oracle.check(0, 1.0, 2.0, ids[1:], cosines[1:], query)[0]
    assert oracle.check(0, 1.0, 2.0, ids, cosines + 0.1, query) == ["wrong: a cosine"]
    backwards = oracle.check(ids[-1], 1.0, 2.0, ids[::-1], cosines[::-1], query)
    assert backwards == ["wrong: the order"]
    twice = [ids[0], *ids[:4]]
    repeated = oracle.check(0, 1.0, 2.0, np.array(twice), (vectors @ query)[twice], query)
    assert repeated == ["fewer than k results, or repeats"]
    oracle.removing[ids[2]] = oracle.removed[ids[2]] = 0.5
    assert oracle.check(0, 1.0, 2.0, ids, cosines, query) == [
        "wrong: an item that was removed before"
    ]
    oracle.removed[ids[2]], oracle.adding[ids[3]] = np.inf, 3.0
    assert oracle.check(0, 1.0, 2.0, ids, cosines, query) == [
        "wrong: an item that was not yet added"
    ]


@pytest.mark.slow
def test_a_small_set_grows_with_the_target_recall_and_an_index_that_opens(tmp_path: Path) -> None:
    deep216k, growth = module("deep216k"), module("growth")
    deep216k.store(tmp_path, "deep216k", unit_rows(2000, 32, 4), unit_rows(50, 32, 5))
    result = growth.run(tmp_path, [3000, 6000], tmp_path)
    for row, n in zip(result["sizes"], (3000, 6000), strict=True):
        assert row["items"] == n
        assert row["recall"] >= 0.9
        assert row["open_seconds"] < 1.0
        assert row["index_bytes"] > n * 32 * 2
    assert growth.exponent(
        [{"items": 10, "us": 2.0}, {"items": 1000, "us": 20.0}]
    ) == pytest.approx(0.5)


@pytest.mark.slow
def test_leaving_one_out_ranks_every_image_by_all_others() -> None:
    pytest.importorskip("torch")
    unseen = module("unseen")
    angles = np.radians([0, 10, 50, 55, 120])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.array([0, 0, 1, 0, 1])
    # By hand: ranks of the others of its class are 1, 3 | 1, 3 | 4 | 2, 3 | 2.
    precision = [(1 / 1 + 2 / 3) / 2, (1 / 1 + 2 / 3) / 2, 1 / 4, (1 / 2 + 2 / 3) / 2, 1 / 2]
    found = unseen.leave_one_out(vectors @ vectors.T, labels)
    assert found["mAP"] == pytest.approx(np.mean(precision))
    assert found["P@10"] == pytest.approx((2 + 2 + 1 + 2 + 1) / 5 / 10)


def test_the_front_keeps_what_nothing_beats_and_interpolates_between() -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("hnswlib")
    ann = module("ann")
    points = [(0.5, 1.0), (0.9, 4.0), (0.8, 5.0), (0.99, 16.0), (0.99, 20.0)]
    assert ann.pareto(points) == [0, 1, 3]
    measured = [
        ann.Point("a", {}, 0, 0, recall=recall, us=us) for recall, us in ((0.9, 4.0), (1.0, 16.0))
    ]
    assert ann.time_at(measured, 0.95) == pytest.approx(8.0)  # the geometric middle
    assert ann.time_at(measured[:1], 0.95) is None
