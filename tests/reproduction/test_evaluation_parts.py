"""What is left to do, and for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from lookalike.errors import LookalikeError
from reproduction.collection import Collection
from reproduction.confs import BEST, Settings
from reproduction.finetune import Runs
from reproduction.parts import Task, run_tasks, tasks_of
from reproduction.results import Results
from reproduction.study import Study, folders_of
from reproduction.train import Networks


def test_what_cannot_be_done_is_reported_and_any_other_error_stops_everything() -> None:
    now, ran, reports = [100.0], list[str](), list[str]()

    def task(name: str, seconds: float, error: BaseException | None = None) -> Task:
        def run() -> None:
            if error is not None:
                raise error
            now[0] += seconds
            ran.append(name)

        return Task(name, seconds, lambda: False, run)

    impossible = task("b", 500, LookalikeError("too few images"))
    tasks = [task("a", 10), impossible, task("c", 20)]
    assert run_tasks(tasks, reports.append, clock=lambda: now[0]) == ["b"]
    assert ran == ["a", "c"]
    assert reports[2:] == ["left out b: too few images", "3 of 3: c; about 0:20 left"]
    for error in (KeyboardInterrupt(), OSError(), ValueError()):
        with pytest.raises(type(error)):
            run_tasks([task("d", 1, error), task("e", 1)], lambda _: None)
    assert ran == ["a", "c"]


@pytest.fixture
def study(collection: Collection, tmp_path: Path) -> Study:
    return Study(collection, Networks(tmp_path / "work"), Results(tmp_path / "results"))


def test_quick_takes_one_set_that_is_there(tmp_path: Path) -> None:
    whole, quick = Settings(), Settings(quick=True)
    assert folders_of(tmp_path, whole) == folders_of(tmp_path, quick) == [tmp_path]
    (tmp_path / "corel5k").mkdir()
    assert folders_of(tmp_path, whole) == folders_of(tmp_path, quick) == [tmp_path / "corel5k"]
    (tmp_path / "corel1k").mkdir()
    assert folders_of(tmp_path, whole) == [tmp_path / "corel1k", tmp_path / "corel5k"]
    assert folders_of(tmp_path, quick) == [tmp_path / "corel1k"]


def test_numbers_that_were_computed_in_another_way_are_not_mixed(
    study: Study, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    one.write_bytes(b"1")
    other.write_bytes(b"2")

    def given(weights: Path | None) -> Study:
        return replace(study, settings=Settings(rows=("vgg",), vgg_weights=weights))

    for mine, others in ((None, [one]), (one, [None, other])):
        study.note(given(mine).method("vgg", 3).made_of(), "made", "vgg")
        assert len(tasks_of([given(mine)], ["table1"], "score")) == 5
        for each in others:
            with pytest.raises(LookalikeError, match="numbers of the row vgg that were computed"):
                tasks_of([given(each)], ["table1"], "score")
    assert given(one).method("vgg", 0).title == "VGG-N [18], given weights"
    recipe = given(one).recipe("vgg", 0)
    assert (recipe.embedder.trunk, recipe.training.freeze) == ("vgg16", -2)
    study.note("another digest", "made", "ours")
    both = replace(study, settings=Settings(rows=("ours", "svm")))
    with pytest.raises(LookalikeError, match=r"row ours .*give another directory"):
        tasks_of([both], ["table1"], "score")


def test_the_numbers_in_results_were_made_as_they_would_be_made_now(
    collection: Collection, tmp_path: Path
) -> None:
    kept = Results(Path(__file__).resolve().parents[2] / "results")
    for name in ("corel1k", "corel5k"):
        made = kept.get(name, "made")
        known = Collection(name, collection.images, collection.pixels, ())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Results, "begin", lambda *_: None)
            study = Study(known, Networks(tmp_path), kept)
        runs = Runs(study, "cpu")
        now = {
            row: runs.made_of(BEST[row]) if row in BEST else study.method(row, 0).made_of()
            for row in made
        }
        assert now == made
