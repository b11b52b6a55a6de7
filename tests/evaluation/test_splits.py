"""Splits: sizes, seeds, and what a change of the collection leaves alone."""

from __future__ import annotations

import numpy as np

from lookalike.evaluation.protocol import query_split

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
