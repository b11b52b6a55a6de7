"""No items, or segments whose items are all removed: every operation, against a fresh index."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.gallery.rarity import PairStatistics
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.state import Removed, State

DIM = 32
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((1000, DIM)).astype(np.float32)
QUERIES = RNG.standard_normal((9, DIM)).astype(np.float32)
Case = tuple[str, list[int], list[int]]
CASES: list[Case] = [  # name, sizes of the batches, which of them are emptied
    ("never filled", [], []),
    ("one batch", [50], [0]),
    ("all of several", [300, 60], [0, 1]),
    ("small before large", [60, 300], [0]),
    ("large before small", [600, 100], [0]),
    ("the last", [100, 600], [1]),
    ("the middle", [600, 100, 60], [1]),
    ("equal", [64, 65], [0]),
]


def emptied(case: Case, settings: LSHSettings, marked: bool) -> LSHIndex:
    """The index of a case. ``marked``: as earlier versions left it, with all rows marked."""
    _, sizes, gone = case
    index = LSHIndex(settings=settings)
    ends = list(itertools.accumulate(sizes, initial=0))
    for start, stop in itertools.pairwise(ends):
        index.add(np.arange(start, stop), VECTORS[start:stop])
    everything = index._state
    for i in gone:
        index.remove(np.arange(ends[i], ends[i + 1]))
    if marked and len(everything.segments) == len(sizes):
        marks = [
            Removed(np.ones(n, np.bool_), n) if i in gone else Removed.none()
            for i, n in enumerate(sizes)
        ]
        index._state = State(everything.hasher, everything.segments, tuple(marks))
    return index


def left(case: Case) -> list[int]:
    _, sizes, gone = case
    ends = list(itertools.accumulate(sizes, initial=0))
    return [j for i in range(len(sizes)) if i not in gone for j in range(ends[i], ends[i + 1])]


def check(index: LSHIndex, ids: list[int]) -> None:
    """It holds the vectors ``ids``, and finds what comparing with all of them finds."""
    assert len(index) == len(ids)
    assert index.ids.tolist() == ids
    found = index.search(QUERIES, 3, candidates=10_000, rerank=10_000)
    k = min(3, len(ids))
    assert (found.ids[:, k:] == -1).all()
    assert np.isneginf(found.cosines[:, k:]).all()
    if index.settings.vectors != "none" and k:
        lengths = np.linalg.norm(VECTORS[ids], axis=1)
        cosines = QUERIES @ VECTORS[ids].T / lengths / np.linalg.norm(QUERIES, axis=1)[:, None]
        assert np.allclose(found.cosines[:, :k], -np.sort(-cosines, axis=1)[:, :k], atol=1e-3)
    assert len(index.range_search(QUERIES[0], -np.inf).ids) == len(ids)
    assert index.search(QUERIES[:0], 3).ids.shape == (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
@pytest.mark.parametrize("vectors", ["float16", "none"])
def test_segments_that_earlier_versions_left_with_all_rows_marked_are_dropped(
    tmp_path: Path, case: Case, vectors: Any
) -> None:
    """What becomes of those that are emptied now, test_any_order.py tries."""
    ids, index = left(case), emptied(case, LSHSettings(DIM, vectors=vectors), True)
    check(index, ids)
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    marks = zip(opened.segments(), opened._state.removed, strict=True)
    assert all(gone.number < len(segment) for segment, gone in marks)
    opened.add([999], VECTORS[999:])
    opened.replace([998], VECTORS[998:999])
    opened.add([], np.empty((0, DIM)))
    opened.remove([])
    check(opened, [*ids, 998, 999])
    opened.compact()
    opened.save(tmp_path)
    check(LSHIndex.open(tmp_path), [*ids, 998, 999])
    assert opened.hamming(QUERIES[0], []).tolist() == opened.contains([]).tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_an_index_of_emptied_segments_can_be_measured_joined_and_salvaged(
    tmp_path: Path, case: Case
) -> None:
    settings = LSHSettings(DIM)
    ids, index = left(case), emptied(case, settings, False)
    near = VECTORS[ids] / np.linalg.norm(VECTORS[ids], axis=1, keepdims=True)
    pairs = np.argwhere(np.triu(near @ near.T > 0.75, 1)).tolist()
    assert index.join(0.75)[0].tolist() == [[ids[a], ids[b]] for a, b in pairs]
    assert {i for group in index.groups(0.75) for i in group} == {ids[i] for p in pairs for i in p}
    assert (PairStatistics.of_index(index) is None) == (len(ids) < 2)
    if ids:
        assert index.evaluate(QUERIES, 3, rounds=1).recall == 1
    else:
        with pytest.raises(ValueError, match="the index is empty"):
            index.evaluate(QUERIES)
    if len(ids) < 20:
        with pytest.raises(ValueError, match="tuning for k = 10 takes 20"):
            index.tune()
    else:
        assert index.tune(0.5, 3, queries=QUERIES).expected.recall > 0.5
    check(index.with_settings(LSHSettings(DIM, tables=2)), ids)
    index.save(tmp_path)
    check(LSHIndex.salvage(tmp_path, settings), ids)
