"""Metrics against scikit-learn and against rankings worked out by hand; and splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from lookalike.evaluation.metrics import (
    average_precision,
    precision_at,
    rank,
    recall_at_m,
    spread,
)
from lookalike.evaluation.protocol import query_split

# relevant at ranks 1, 3 and 6 of 6: AP = (1/1 + 2/3 + 3/6) / 3 = 13/18
BY_HAND = np.array([[1, 0, 1, 0, 0, 1]], np.bool_)


def test_metrics_of_rankings_worked_by_hand() -> None:
    assert average_precision(BY_HAND) == pytest.approx([13 / 18])
    assert [precision_at(BY_HAND, n)[0] for n in (1, 2, 3, 6)] == [1, 0.5, 2 / 3, 0.5]
    assert recall_at_m(BY_HAND) == pytest.approx([2 / 3])
    each_at_its_own_m = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]], np.bool_)
    assert recall_at_m(each_at_its_own_m).tolist() == [0.5, 1, 0]


def test_average_precision_equals_scikit_learn_on_distinct_scores() -> None:
    generator = np.random.default_rng(1)
    scores = generator.permuted(np.tile(np.linspace(-1, 1, 300), (40, 1)), axis=1)
    labels = generator.random((40, 300)) < generator.uniform(0.01, 0.9, (40, 1))
    labels[:, 0] = True
    expected = [average_precision_score(own, row) for own, row in zip(labels, scores, strict=True)]
    relevance = np.take_along_axis(labels, rank(scores), axis=1)
    # both are float64 sums of at most 300 terms below 1
    np.testing.assert_allclose(average_precision(relevance), expected, rtol=0, atol=1e-12)


def test_items_that_a_cut_ranking_lacks_count_as_missed() -> None:
    cut = BY_HAND[:, :3]
    assert average_precision(cut, np.array([3])) == pytest.approx([(1 + 2 / 3) / 3])
    assert precision_at(cut, 6) == pytest.approx([2 / 6])


def test_a_query_without_relevant_items_has_no_recall_and_no_average_precision() -> None:
    nothing = np.zeros((1, 4), np.bool_)
    assert np.isnan(average_precision(nothing)).all()
    assert np.isnan(recall_at_m(nothing)).all()
    assert precision_at(nothing, 2).tolist() == [0]


def test_of_equal_similarities_the_first_in_the_gallery_ranks_first() -> None:
    assert rank([[0.5, 0.9, 0.5, 0.9]]).tolist() == [[1, 3, 0, 2]]


def test_a_nan_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rank([[0.1, np.nan]])


def test_the_deviation_is_that_of_a_sample() -> None:
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.deviation == pytest.approx(math.sqrt(7 / 3))
    assert str(found) == "2.3333 ± 1.5275"


# ---- splits --------------------------------------------------------------------------------------

LABELS = np.repeat(np.arange(10), 100)


def test_queries_are_ten_of_each_class_and_the_gallery_is_all_else() -> None:
    split = query_split(LABELS, seed=3)
    assert np.bincount(LABELS[split.queries]).tolist() == [10] * 10
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(1000))
    assert (np.diff(split.queries) > 0).all() and (np.diff(split.gallery) > 0).all()


def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    first = query_split(LABELS, seed=0).queries
    assert np.array_equal(first, query_split(LABELS, seed=0).queries)
    shared = np.intersect1d(first, query_split(LABELS, seed=1).queries)
    assert len(shared) < 30  # 10 expected, standard deviation 3


def test_a_class_keeps_its_queries_when_another_class_goes() -> None:
    whole = query_split(LABELS, seed=0).queries
    fewer = query_split(LABELS[:900], seed=0).queries
    assert np.array_equal(whole[whole < 900], fewer)
