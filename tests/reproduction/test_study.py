"""Splits, protocols and what is written, with methods whose rankings are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textures import collection_of

from lookalike.errors import LookalikeError, TrainingError
from reproduction import score as score_module
from reproduction.collection import Collection, Pixels, Positions, Sample
from reproduction.confs import Settings
from reproduction.methods import Method, Oracle
from reproduction.rank import rank, ranking_path
from reproduction.results import Results
from reproduction.score import feedback, score
from reproduction.study import RowError, Study
from reproduction.svm_active import Round
from reproduction.train import Networks


class Known(Method):
    """Knows the class of every query from the oracle; `right`, query by query, puts its images
    first, or last.
    """

    def __init__(self, *right: bool) -> None:
        self.title, self.right = f"known {right[0]}", cycle(right)

    def learn(self, training: Sample) -> None:
        self.seen = set(training.labels.tolist())

    def index(self, gallery: Sample) -> None:
        self.count = len(gallery)

    def describe(self, image: Pixels) -> Any:
        return None

    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        assert oracle is not None
        relevant = oracle(np.arange(self.count))
        order = np.argsort(relevant != next(self.right), kind="stable")
        return order[:k].astype(np.int64)


def have_rows(monkeypatch: pytest.MonkeyPatch, **rows: Callable[[], Method]) -> None:
    monkeypatch.setattr(Study, "method", lambda self, row, seed: rows[row]())


@pytest.fixture
def study(collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    have_rows(monkeypatch, good=lambda: Known(True), bad=lambda: Known(False))
    networks, results = Networks(tmp_path / "work"), Results(tmp_path / "results")
    return Study(collection, networks, results, Settings(queries_per_class=2))


def test_the_gallery_is_the_training_set_and_holds_no_query(study: Study) -> None:
    parts = study.split("paper", 0)
    assert parts.training.rows.tolist() == parts.gallery.rows.tolist()
    assert len(parts.queries) == 8
    both = np.sort(np.concatenate([parts.queries.rows, parts.gallery.rows]))
    assert both.tolist() == list(range(len(study.collection)))


def test_unseen_classes_are_neither_learnt_nor_missing_from_the_gallery(study: Study) -> None:
    parts = study.split("unseen", 0)
    learnt, searched = set(parts.training.labels.tolist()), set(parts.gallery.labels.tolist())
    assert len(learnt) == len(searched) == 2
    assert not learnt & searched
    assert set(parts.queries.labels.tolist()) == searched
    assert not set(parts.queries.rows.tolist()) & set(parts.gallery.rows.tolist())
    assert len(parts.training) == 16
    assert len(parts.queries) == 4
    assert len(parts.gallery) == 12
    few = collection_of(study.collection.pixels[:24], study.collection.labels[:24].tolist())
    with pytest.raises(LookalikeError, match="3 classes are too few for unseen categories"):
        replace(study, collection=few).split("unseen", 0)


def test_numbers_are_means_over_the_queries_rankings(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {
        "good": lambda: Known(True),
        "bad": lambda: Known(False),
        "both": lambda: Known(True, False),
    }
    have_rows(monkeypatch, **methods)
    for row, seed in product(methods, (0, 1)):
        score(study, "paper", row, seed)
    found = study.results.load(study.collection.name)
    good, bad = found["paper"]["good"]["0"], found["paper"]["bad"]["1"]
    assert (good["mAP"], good["recall@m"], good["P@5"]) == (1.0, 1.0, 1.0)
    # 6 of 24 are relevant and come last: ranks 19 to 24.
    average = np.mean([(i + 1) / (19 + i) for i in range(6)])
    assert bad["mAP"] == pytest.approx(average)
    assert (bad["recall@m"], bad["P@10"]) == (0.0, 0.0)
    assert "P@30" not in bad  # of 24
    both = found["paper"]["both"]["0"]
    assert both["mAP"] == pytest.approx((1 + average) / 2)
    assert both["recall@m"] == 0.5
    assert found["titles"]["good"] == "known True"


def test_a_ranking_is_computed_once_for_images_settings_and_configuration(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order = rank(study, "paper", "bad", 0)
    path = ranking_path(study, "paper", "bad", 0)
    assert path.exists() and path.name.startswith("textures-paper-bad-seed0-")

    def never(*_: object) -> None:
        raise AssertionError("ranked again")

    monkeypatch.setattr(Known, "match", never)
    assert np.array_equal(rank(study, "paper", "bad", 0), order)
    with pytest.raises(AssertionError, match="ranked again"):
        rank(study, "paper", "bad", 1)
    settings, results = Settings(queries_per_class=3), Results(tmp_path / "other")
    other = replace(study, settings=settings, results=results)
    with pytest.raises(AssertionError, match="ranked again"):
        rank(other, "paper", "bad", 0)
    results = Results(tmp_path / "scored")
    score(replace(study, results=results), "paper", "bad", 0)  # from the ranking alone
    assert results.get("textures", "titles", "bad") == "known False"


class Impossible(Known):
    """Cannot learn."""

    def __init__(self, error: Exception) -> None:
        super().__init__(True)
        self.error = error

    def learn(self, training: Sample) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no axes"), TrainingError("no axes")])
def test_a_row_that_cannot_learn_is_named(
    study: Study, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    have_rows(monkeypatch, **{"itq-48": lambda: Impossible(error)})
    with pytest.raises(RowError) as caught:
        score(study, "paper", "itq-48", 0)
    assert str(caught.value) == "itq-48 cannot learn from 24 images of 4 classes: no axes"
    assert caught.value.row == "itq-48"
    assert study.known("paper") is study.known("titles") is None


class Judged(Known):
    """In place of the SVM row: the wrong ones first; each round judges eight, the last ones."""

    def __init__(self) -> None:
        super().__init__(False)

    def curve(self, features: Any, oracle: Oracle, rounds: int) -> list[Round]:
        ranking = self.match(features, self.count, oracle)
        return [Round(ranking, np.sort(ranking[::-1][: 8 * r])) for r in range(rounds + 1)]


def test_feedback_without_what_was_judged_has_a_number_while_something_is_left(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_module, "SvmActive", Judged)
    have_rows(monkeypatch, svm=Judged)
    feedback(study, 0)
    found = study.known("feedback", "0")
    # 6 of 24 are relevant and rank last: the first round judges them all, the third everything.
    average = sum((i + 1) / (19 + i) for i in range(6)) / 6
    assert found["mAP residual"] == [pytest.approx(average), *[None] * 6]
    assert found["P@20 residual"] == [pytest.approx(2 / 20), 0.0, 0.0, *[None] * 4]
    assert found["mAP ranking"] == pytest.approx([average] * 7)


def test_numbers_of_other_images_or_settings_are_kept_apart(study: Study) -> None:
    score(study, "paper", "good", 0)
    same = replace(study)
    assert same.results.get(study.collection.name, "paper", "good", "0", "mAP") == 1.0
    images, pixels = study.collection.images, study.collection.pixels
    changed = [255 - pixels[0], *pixels[1:]]
    other = Collection(study.collection.name, images, changed, ())
    held = study.results.load(study.collection.name)
    whose = f"images 32, digest {same.collection.digest}, queries_per_class 2"
    with pytest.raises(LookalikeError, match=f"holds numbers of {whose}; .*another directory"):
        replace(study, collection=other)
    with pytest.raises(LookalikeError, match=r"these are of .*, quick True"):
        replace(study, settings=Settings(queries_per_class=2, quick=True))
    assert study.results.load(study.collection.name) == held
