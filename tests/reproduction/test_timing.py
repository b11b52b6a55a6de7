"""Times of all rows, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from reproduction.collection import Collection, Pixels, Positions, Sample
from reproduction.methods import Method, Oracle
from reproduction.results import Results
from reproduction.study import Settings, Study
from reproduction.timing import one_thread, time_rows
from reproduction.train import Networks

WORK = 20_000


class Busy(Method):
    """Sums so many numbers for each query, and remembers what was asked of it."""

    def __init__(self, name: str, work: int, calls: list[str]) -> None:
        self.title, self.name, self.work, self.calls = name, name, work, calls

    def learn(self, training: Sample) -> None:
        if not self.work:
            raise ValueError("too few images")
        self.calls.append(f"{self.name} learns")

    def index(self, gallery: Sample) -> None:
        pass

    def install(self) -> None:
        self.calls.append(f"{self.name} is installed")

    def close(self) -> None:
        self.calls.append(f"{self.name} is closed")

    def describe(self, image: Pixels) -> Any:
        return None

    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        sum(range(self.work))
        return np.arange(k)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def study(
    collection: Collection, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> Study:
    def method(self: Study, row: str, seed: int) -> Method:
        return Busy(row, WORK * {"light": 1, "heavy": 30, "idle": 0}[row], calls)

    monkeypatch.setattr(Study, "method", method)
    networks, results = Networks(tmp_path / "work"), Results(tmp_path / "results")
    return Study(collection, networks, results, Settings(queries_per_class=2))


def test_rows_take_turns_and_each_round_is_kept(study: Study, calls: list[str]) -> None:
    time_rows(study, ("light", "heavy"), seed=0)
    assert calls == [
        "light learns",
        "heavy learns",
        "light is installed",
        "heavy is installed",
        *3 * ["light is closed", "heavy is closed"],
    ]
    found = study.known("timing", "rows")
    for row in ("light", "heavy"):
        assert {what: len(seconds) for what, seconds in found[row].items()} == {
            "search": 3,
            "end to end": 3,
            "cold": 3,
        }
    assert min(found["heavy"]["search"]) > 0
    about = study.known("timing", "about")
    assert (about["seed"], about["queries"]) == (0, 2 * len(np.unique(study.collection.labels)))


def test_one_thread_limits_every_library_and_gives_back() -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    with one_thread():
        assert {library["num_threads"] for library in threadpool_info()} == {1}
    after = [library["num_threads"] for library in threadpool_info()][: len(before)]
    assert after == before
