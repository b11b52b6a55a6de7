"""Tuning and evaluation against exact search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex
from lookalike.lsh.settings import SearchSettings
from lookalike.lsh.tuning import recall_of

DIM = 40


def made(n: int, seed: int = 0) -> tuple[LSHIndex, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((100, DIM))
    rows = centres[rng.integers(0, 100, n + 400)] + 0.7 * rng.standard_normal((n + 400, DIM))
    index = LSHIndex(DIM)
    index.add(np.arange(n), rows[:n])
    return index, rows[n:].astype(np.float32)


def test_recall_counts_the_exact_neighbours_found() -> None:
    exact = np.array([[0.9, 0.8], [0.7, 0.6]], np.float32)
    assert recall_of(np.array([[0.9, 0.8], [0.7, 0.5]], np.float32), exact) == 0.75
    assert recall_of(np.array([[0.8, 0.8], [-np.inf, -np.inf]], np.float32), exact) == 0.5
    assert recall_of(np.array([[0.9, 0.8], [0.7, 0.6 - 3e-7]], np.float32), exact) == 1


def test_of_many_equal_items_the_first_by_id_are_found_as_by_exact_search() -> None:
    rng = np.random.default_rng(4)
    rows = np.repeat(rng.standard_normal((200, DIM)), 40, axis=0)
    index = LSHIndex(DIM)
    index.add(rng.permutation(len(rows)), rows)
    queries = rows[::40] + 0.1 * rng.standard_normal((200, DIM))
    index.settings = replace(index.settings, search=SearchSettings(candidates=400, rerank=12))
    found, exact = index.search(queries, 10), index.search(queries, 10, exact=True)
    np.testing.assert_array_equal(found.ids, exact.ids)  # though 12 of the 40 were compared
    np.testing.assert_allclose(found.cosines, exact.cosines, atol=1e-6)
    assert index.evaluate(queries).recall == 1
    report = index.tune(0.95)
    assert report.expected.recall > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.8, 0.95])
def test_tuning_reaches_its_target_on_queries_it_has_not_seen(target: float) -> None:
    index, queries = made(12000)
    report = index.tune(target, 10, queries=queries[:200])
    assert index.settings == report.settings
    exact = index.search(queries[200:], 10, exact=True).cosines
    found = recall_of(index.search(queries[200:], 10).cosines, exact)
    # 2,000 neighbours to find: 4 sigma of a share near the target are about 0.04
    assert found > target - 0.04
    assert report.expected.recall > target - 0.04
    assert (report.settings.search.candidates or 0) < 6000  # it does not simply look at everything


@pytest.mark.slow
def test_tuning_without_queries_uses_items_and_does_not_count_them_as_found() -> None:
    index, queries = made(6000)
    report = index.tune(0.9, 10)
    found = index.search(queries, 10).cosines
    assert recall_of(found, index.search(queries, 10, exact=True).cosines) > 0.8
    assert 0.85 < report.expected.recall <= 1


@pytest.mark.slow
def test_tuned_settings_are_saved(tmp_path) -> None:  # type: ignore[no-untyped-def]
    index, queries = made(6000)
    index.tune(0.9, 10)
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    assert opened.settings == index.settings
    assert np.array_equal(opened.search(queries, 10).ids, index.search(queries, 10).ids)


def test_evaluation_reports_recall_and_speed() -> None:
    index, queries = made(6000)
    result = index.evaluate(queries, 10)
    exact = index.search(queries, 10, exact=True).cosines
    assert result.recall == recall_of(index.search(queries, 10).cosines, exact)
    assert result.queries_per_second == pytest.approx(1 / result.seconds)
    assert result.queries == 400


def test_too_few_items_to_tune_are_refused() -> None:
    index, _ = made(10)
    with pytest.raises(ValueError, match="holds 10 items"):
        index.tune(0.9, 10)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_tuning_a_tiny_index_ends(k: int) -> None:
    index, _ = made(2 * k)
    assert index.tune(0.9, k).expected.recall >= 0.5
