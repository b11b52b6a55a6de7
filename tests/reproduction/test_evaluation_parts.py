"""What is left to do, and for how long."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from lookalike.errors import LookalikeError
from reproduction.collection import Collection
from reproduction.confs import BEST, RELATED, ROBUST, TABLES
from reproduction.finetune import Runs
from reproduction.parts import PARTS, TRUSTED, Task, check_rows, run_tasks, tasks_of
from reproduction.results import Results
from reproduction.score import score
from reproduction.study import Settings, Study, folders_of
from reproduction.train import Networks


def tasks(
    studies: list[Study], names: list[str], settings: Settings | None = None, verb: str = "score"
) -> list[Task]:
    """As `tasks_of`, of studies with other settings and the same results."""
    changed = list(map(copy.copy, studies))
    for study in changed:
        if settings is not None:
            object.__setattr__(study, "settings", settings)
    return tasks_of(changed, names, verb)


class Work:
    """Tasks whose running moves a clock."""

    def __init__(self) -> None:
        self.now, self.ran = 100.0, list[str]()

    def task(self, name: str, likely: float, takes: float, done: bool = False) -> Task:
        def run() -> None:
            self.now += takes
            self.ran.append(name)

        return Task(name, likely, lambda: done, run)


def test_what_is_known_is_skipped_and_the_rest_done_in_order() -> None:
    work, reports, after = Work(), list[str](), list[int]()
    tasks = [work.task("a", 10, 10), work.task("b", 500, 1, done=True), work.task("c", 20, 20)]
    run_tasks(tasks, reports.append, lambda: after.append(len(work.ran)), lambda: work.now)
    assert work.ran == ["a", "c"]
    assert after == [1, 2]  # the report is written after each
    assert reports == ["1 of 2: a; about 0:30 left", "2 of 2: c; about 0:20 left"]


def test_what_one_task_did_another_does_not_repeat() -> None:
    ran: list[str] = []

    def task(name: str) -> Task:
        return Task(name, 1, lambda: bool(ran), lambda: ran.append(name))

    run_tasks([task("first"), task("same numbers")], lambda _: None)
    assert ran == ["first"]


def test_the_time_left_follows_the_pace_of_the_machine() -> None:
    work, reports = Work(), list[str]()
    tasks = [work.task(str(i), 1000, 3000) for i in range(3)]
    run_tasks(tasks, reports.append, clock=lambda: work.now)
    expected = [
        3000,
        2000 * (3000 + TRUSTED) / (1000 + TRUSTED),
        1000 * (6000 + TRUSTED) / (2000 + TRUSTED),
    ]
    shown = [line.split("about ")[1].removesuffix(" left").split(":") for line in reports]
    seconds = [sum(60**i * int(part) for i, part in enumerate(reversed(each))) for each in shown]
    assert seconds == pytest.approx(expected, abs=1)


def test_what_cannot_be_done_is_reported_and_the_others_go_on() -> None:
    work, reports = Work(), list[str]()

    def impossible() -> None:
        raise LookalikeError("too few images")

    tasks = [work.task("a", 10, 10), Task("b", 500, lambda: False, impossible)]
    tasks.append(work.task("c", 20, 20))
    assert run_tasks(tasks, reports.append, clock=lambda: work.now) == ["b"]
    assert work.ran == ["a", "c"]
    assert reports[2:] == ["left out b: too few images", "3 of 3: c; about 0:20 left"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_any_other_error_stops_everything(error: type[BaseException]) -> None:
    work = Work()

    def fail() -> None:
        raise error

    with pytest.raises(error):
        run_tasks([Task("a", 1, lambda: False, fail), work.task("b", 1, 1)], lambda _: None)
    assert work.ran == []


@pytest.fixture
def study(collection: Collection, tmp_path: Path) -> Study:
    return Study(collection, Networks(tmp_path / "work"), Results(tmp_path / "results"))


def test_each_row_of_each_split_is_a_task_until_its_numbers_are_known(study: Study) -> None:
    settings = Settings()
    found = tasks([study], ["table1", "related", "unseen", "feedback", "robustness"], settings)
    rows = len(TABLES) + len(RELATED)
    assert len(found) == 5 * rows + 3 * rows + 5 + 3 * len(ROBUST)
    assert len({task.name for task in found}) == len(found)
    first = found[0]
    assert not first.is_done()
    study.note({"mAP": 0.5}, "paper", "sift", "0")
    assert first.is_done()
    assert not any(task.is_done() for task in found[1:])


def test_times_are_known_when_those_of_all_rows_are(study: Study) -> None:
    (task,) = tasks([study], ["table3"], Settings(rows=("svm", "ours")))
    study.note({"search": [1]}, "timing", "rows", "svm")
    assert not task.is_done()
    study.note({"search": [1]}, "timing", "rows", "ours")
    assert task.is_done()


def test_too_few_classes_for_unseen_categories_are_reported_once(
    textures: Path, tmp_path: Path
) -> None:
    folder, settings = tmp_path / "three", Settings(queries_per_class=2)
    folder.mkdir()
    for name in ("cells", "dots", "waves"):
        (folder / name).symlink_to(textures / name)
    study = Study.open(folder, tmp_path / "work", Results(tmp_path / "results"), settings)
    (task,) = tasks([study], ["unseen"], settings)
    assert task.name == "three, unseen"
    with pytest.raises(LookalikeError, match=r"^3 classes are too few for unseen .* there are 4,"):
        task.run()


def test_quick_is_one_seed_without_growth(study: Study) -> None:
    settings = Settings(quick=True)
    assert settings.plan("corel1k").seeds == (0,)
    assert settings.plan("corel1k").epochs == 2 < Settings().plan("corel1k").epochs
    names = [task.name for task in tasks([study], list(PARTS), settings)]
    assert not any("growth" in name or "seed 1" in name for name in names)
    # Tables 1 and 2 are the same rows of a set that is not the paper's own, and so the same tasks.
    assert len(names) == len(TABLES) + 1 + len(RELATED) + len(TABLES) + 1 + len(ROBUST)


@pytest.fixture
def study_of(collection: Collection, tmp_path: Path) -> Callable[[str], Study]:
    def made(name: str) -> Study:
        known = Collection(name, collection.images, collection.pixels, ())
        return Study(known, Networks(tmp_path / "work"), Results(tmp_path / "results"))

    return made


@pytest.mark.parametrize(
    ("found", "part", "expected"),
    [
        (("corel1k", "corel5k"), "unseen", {"corel1k"}),
        (("corel1k", "corel5k"), "table2", {"corel5k"}),
        (("corel1k", "corel5k"), "table3", {"corel1k", "corel5k"}),
        (("corel5k",), "unseen", {"corel5k"}),
        (("corel5k",), "related", {"corel5k"}),
        (("corel1k",), "growth", {"corel1k"}),
        (("mine",), "table1", {"mine"}),
    ],
)
def test_a_part_is_done_on_the_papers_sets_or_on_what_there_is(
    study_of: Callable[[str], Study], found: tuple[str, ...], part: str, expected: set[str]
) -> None:
    made = tasks([study_of(name) for name in found], [part], Settings())
    assert {task.name.partition(",")[0] for task in made} == expected


def test_a_row_that_no_asked_part_has_is_refused_with_those_that_they_have() -> None:
    settings = Settings(rows=("ours", "pca"))
    check_rows(["robustness", "related"], settings)
    with pytest.raises(LookalikeError) as caught:
        check_rows(["robustness", "feedback"], settings)
    assert str(caught.value) == (
        "row pca is in none of the parts robustness, feedback; name another part or row: "
        "robustness has ours, ours-plain, sift; feedback has no rows"
    )
    check_rows(["unseen"], settings)
    with pytest.raises(LookalikeError, match=r"^row pca is in none of .*: unseen has sift, svm,"):
        check_rows(["unseen"], replace(settings, quick=True))


def test_what_a_quick_run_leaves_out_is_not_nothing_by_itself() -> None:
    quick = Settings(quick=True)
    check_rows(list(PARTS), quick)
    check_rows(["growth"], Settings())
    with pytest.raises(LookalikeError, match="--quick leaves growth out: name another part"):
        check_rows(["growth"], quick)


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
        assert len(tasks([given(mine)], ["table1"])) == 5
        for each in others:
            with pytest.raises(LookalikeError, match="numbers of the row vgg that were computed"):
                tasks([given(each)], ["table1"])
    assert given(one).method("vgg", 0).title == "VGG-N [18], given weights"
    recipe = given(one).recipe("vgg", 0)
    assert (recipe.embedder.trunk, recipe.training.freeze) == ("vgg16", -2)
    study.note("another digest", "made", "ours")
    with pytest.raises(LookalikeError, match=r"row ours .*give another directory"):
        tasks([study], ["table1"], Settings(rows=("ours", "svm")))


def test_what_a_row_was_made_of_is_noted_with_its_numbers(study: Study) -> None:
    results = Results(study.results.directory / "few")
    few = replace(study, settings=Settings(queries_per_class=2), results=results)
    score(few, "paper", "svm", 0)
    assert few.known("made", "svm") == few.method("svm", 1).made_of()


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


def test_a_class_with_too_few_images_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    from textures import write_textures

    folder = write_textures(tmp_path / "set", 4)
    (folder / "dots" / "00.png").write_bytes(b"")
    results, work = Results(tmp_path / "results"), tmp_path / "work"
    with pytest.raises(LookalikeError) as caught:
        Study.open(folder, work, results, Settings(queries_per_class=3))
    message = str(caught.value)
    assert message.startswith(
        f"{folder}: 3 queries of each class need at least 4 readable images in each, one to find; "
        f"too small: 'dots' (3) (1 skipped, such as {folder / 'dots' / '00.png'}: empty: "
    )
    assert message.endswith("): use --queries-per-class 2, add images, or remove the folder")
    assert not work.exists() and not results.directory.exists()
    study = Study.open(folder, work, results, Settings(queries_per_class=2))
    assert len(study.split("paper", 0).gallery) == 7
