"""Times of all rows, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from reproduction import study as study_module
from reproduction.collection import Collection, Picture, Positions, Sample
from reproduction.effort import Effort
from reproduction.method import Method, Oracle
from reproduction.networks import Networks
from reproduction.results import Results
from reproduction.study import Study
from reproduction.timing import one_thread, time_rows

WORK = 20_000


class Busy(Method):
    """Sums so many numbers for each query, and remembers what was asked of it."""

    def __init__(self, name: str, work: int, calls: list[str]) -> None:
        self.title, self.name, self.work, self.calls = name, name, work, calls

    def learn(self, training: Sample) -> None:
        self.calls.append(f"{self.name} learns")

    def index(self, gallery: Sample) -> None:
        pass

    def install(self) -> None:
        self.calls.append(f"{self.name} is installed")

    def close(self) -> None:
        self.calls.append(f"{self.name} is closed")

    def describe(self, picture: Picture) -> Any:
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
    rows = {
        "light": lambda _: Busy("light", WORK, calls),
        "heavy": lambda _: Busy("heavy", 30 * WORK, calls),
    }
    monkeypatch.setattr(study_module, "ROWS", rows)
    results = Results(tmp_path / "results")
    return Study(collection, Networks(tmp_path / "work"), results, queries_per_class=2)


def test_rows_take_turns_and_each_round_is_kept(study: Study, calls: list[str]) -> None:
    time_rows(replace(study, effort=Effort(rounds=2)), ("light", "heavy"), seed=0)
    assert calls == [
        "light learns",
        "heavy learns",
        "light is installed",
        "heavy is installed",
        *2 * ["light is closed", "heavy is closed"],
    ]
    found = study.known("timing", "rows")
    for row in ("light", "heavy"):
        assert {what: len(seconds) for what, seconds in found[row].items()} == {
            "search": 2,
            "end to end": 2,
            "cold": 2,
        }
    # Thirty times the work, with room for a clock that is coarse beside the light one.
    assert min(found["heavy"]["search"]) > 5 * max(found["light"]["search"])
    about = study.known("timing", "about")
    assert (about["seed"], about["queries"]) == (0, 2 * len(np.unique(study.collection.labels)))


def test_rows_that_were_timed_before_are_timed_again_beside_a_new_one(
    study: Study, calls: list[str]
) -> None:
    time_rows(study, ("heavy",))
    calls.clear()
    time_rows(study, ("light",))
    assert calls[:2] == ["light learns", "heavy learns"]
    assert set(study.known("timing", "rows")) == {"light", "heavy"}


def test_one_thread_limits_every_library_and_gives_back() -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    with one_thread():
        assert {library["num_threads"] for library in threadpool_info()} == {1}
    after = [library["num_threads"] for library in threadpool_info()][: len(before)]
    assert after == before
