"""Every order of changes, savings and openings; a dictionary and exact search are the oracle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex, LSHSettings, linking
from lookalike.lsh.families import KEYS

DIM = 12
QUERIES = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32)
Floats = NDArray[np.float32]


def unit(rows: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.held: dict[int, Floats] = {}
        self.saved: dict[int, Floats] | None = None
        self.rng = np.random.default_rng(1)
        self.next = 0

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @initialize(
        keys=strategies.sampled_from(sorted(KEYS)),
        tables=strategies.integers(1, 2),
        vectors=strategies.sampled_from(["float32", "float16"]),
    )
    def make(self, keys: str, tables: int, vectors: str) -> None:
        made = LSHSettings(DIM, keys=keys, tables=tables, vectors=vectors, code_bits=64)  # type: ignore[arg-type]
        self.index = LSHIndex(settings=made)
        self.tolerance = 1e-5 if vectors == "float32" else 2e-3

    def rows(self, count: int) -> Floats:
        return self.rng.standard_normal((count, DIM)).astype(np.float32)

    def some(self, share: float) -> list[int]:
        ids = sorted(self.held)
        chosen: list[int] = self.rng.permutation(ids)[: round(share * len(ids))].tolist()
        return chosen

    @rule(count=strategies.sampled_from([0, 1, 2, 60]))
    def add(self, count: int) -> None:
        ids = range(self.next, self.next + count)
        rows = self.rows(count)
        self.index.add(np.arange(self.next, self.next + count), rows)
        self.held |= dict(zip(ids, unit(rows), strict=True))
        self.next += count

    @rule(share=strategies.sampled_from([0.1, 0.5, 1.0]))
    def remove(self, share: float) -> None:
        ids = self.some(share)
        self.index.remove(np.array(ids, np.int64))
        for number in ids:
            del self.held[number]

    @rule(share=strategies.sampled_from([0.1, 1.0]))
    def replace(self, share: float) -> None:
        ids = self.some(share)
        rows = self.rows(len(ids))
        self.index.replace(np.array(ids, np.int64), rows)
        self.held |= dict(zip(ids, unit(rows), strict=True))

    @rule(only_if_worth_it=strategies.booleans())
    def compact(self, only_if_worth_it: bool) -> None:
        self.index.compact(only_if_worth_it=only_if_worth_it)

    @rule()
    def link(self) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(linking, "LINKED_FROM", 1)
            patched.setattr(linking, "SCANNED", 1)
            self.index.link()

    @rule()
    def save(self) -> None:
        self.index.save(self.home)
        self.saved = dict(self.held)

    @rule()
    def open_what_was_saved(self) -> None:
        if self.saved is not None:
            self.index = LSHIndex.open(self.home)
            self.held = dict(self.saved)

    @invariant()
    def finds_what_it_holds(self) -> None:
        ids = sorted(self.held)
        assert sorted(self.index.ids.tolist()) == ids
        assert len(self.index) == len(ids)
        k = 5
        found = self.index.search(QUERIES, k, candidates=10**6, rerank=10**6)
        exact = self.index.search(QUERIES, k, exact=True)
        np.testing.assert_array_equal(found.ids, exact.ids)
        count = min(k, len(ids))
        by_links = self.index.search(QUERIES, k, beam=100)  # all that the links lead to
        np.testing.assert_array_equal(by_links.ids, exact.ids)
        assert (exact.ids[:, count:] == -1).all()
        if not count:
            return
        cosines = unit(QUERIES) @ np.stack([self.held[number] for number in ids]).T
        best = -np.sort(-cosines, axis=1)[:, :count]
        np.testing.assert_allclose(exact.cosines[:, :count], best, atol=self.tolerance)
        places = np.searchsorted(ids, exact.ids[:, :count])
        own = np.take_along_axis(cosines, places, axis=1)
        np.testing.assert_allclose(exact.cosines[:, :count], own, atol=self.tolerance)


AnyOrder.TestCase.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
TestAnyOrder = AnyOrder.TestCase
