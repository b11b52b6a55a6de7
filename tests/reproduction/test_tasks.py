"""What is left to do, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from lookalike.errors import LookalikeError
from reproduction import parts as parts_module
from reproduction.collection import Collection
from reproduction.effort import QUICK
from reproduction.networks import Networks
from reproduction.opening import open_study
from reproduction.parts import PARTS, check_asked, tasks_of
from reproduction.plan import ReproduceSettings, folders_of, plan_of
from reproduction.recipes import LENET, OURS, VGG
from reproduction.results import Results
from reproduction.rows import ROWS, Workshop
from reproduction.study import RowError, Study
from reproduction.tasks import TRUSTED, LeftOut, Progress, Task, carry_out
from reproduction.titles import RELATED, ROBUST, TABLES


class Work:
    """Tasks whose running moves a clock."""

    def __init__(self) -> None:
        self.now, self.ran = 100.0, list[str]()

    def task(self, name: str, likely: float, takes: float, done: bool = False) -> Task:
        def run() -> None:
            self.now += takes
            self.ran.append(name)

        return Task(name, likely, lambda: done, run)


def test_what_is_known_is_not_done_again_and_the_rest_in_order() -> None:
    work, told = Work(), list[Progress]()
    tasks = [work.task("a", 10, 10), work.task("b", 500, 1, done=True), work.task("c", 20, 20)]
    carry_out(tasks, told.append, lambda: work.now)
    assert work.ran == ["a", "c"]
    assert told == [Progress(1, 2, "a", 30), Progress(2, 2, "c", 20)]


def test_what_one_task_did_another_does_not_do_again() -> None:
    ran: list[str] = []

    def task(name: str) -> Task:
        return Task(name, 1, lambda: bool(ran), lambda: ran.append(name))

    carry_out([task("first"), task("same numbers")], lambda _: None)
    assert ran == ["first"]


def test_the_time_left_follows_the_pace_of_the_machine() -> None:
    work, told = Work(), list[Progress]()
    carry_out([work.task(str(i), 1000, 3000) for i in range(3)], told.append, lambda: work.now)
    assert [each.seconds_left for each in told] == pytest.approx(
        [
            3000,
            2000 * (3000 + TRUSTED) / (1000 + TRUSTED),
            1000 * (6000 + TRUSTED) / (2000 + TRUSTED),
        ]
    )


def test_what_cannot_be_done_is_told_at_once_and_the_others_go_on() -> None:
    work, told = Work(), list[Progress]()

    def impossible() -> None:
        raise LookalikeError("too few images")

    def miss(task: LeftOut) -> None:
        work.ran.append(f"missed {task.name}")

    tasks = [work.task("a", 10, 10), Task("b", 500, lambda: False, impossible)]
    tasks.append(work.task("c", 20, 20))
    missed = carry_out(tasks, told.append, lambda: work.now, miss)
    assert missed == [LeftOut("b", "too few images")]
    assert work.ran == ["a", "missed b", "c"]
    assert [each.seconds_left for each in told] == [530, 520, 20]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_any_other_error_stops_all(error: type[BaseException]) -> None:
    work = Work()

    def fail() -> None:
        raise error

    with pytest.raises(error):
        carry_out([Task("a", 1, lambda: False, fail), work.task("b", 1, 1)], lambda _: None)
    assert work.ran == []


@pytest.fixture
def study(collection: Collection, tmp_path: Path) -> Study:
    return Study(collection, Networks(tmp_path / "work"), Results(tmp_path / "results"))


def test_each_row_of_each_split_is_a_task_until_its_numbers_are_known(study: Study) -> None:
    settings = ReproduceSettings()
    tasks = tasks_of([study], ["table1", "related", "unseen", "feedback", "robustness"], settings)
    rows = len(TABLES) + len(RELATED)
    assert len(tasks) == 5 * rows + 3 * rows + 5 + 3 * len(ROBUST)
    assert len({task.name for task in tasks}) == len(tasks)
    first = tasks[0]
    assert not first.done()
    study.note({"mAP": 0.5}, "paper", TABLES[0], "0")
    assert first.done()
    assert not any(task.done() for task in tasks[1:])


def test_times_are_known_when_those_of_all_rows_are(study: Study) -> None:
    (task,) = tasks_of([study], ["table3"], ReproduceSettings(rows=("svm", "ours")))
    study.note({"search": [1]}, "timing", "rows", "svm")
    assert not task.done()
    study.note({"search": [1]}, "timing", "rows", "ours")
    assert task.done()


def test_a_row_that_cannot_be_timed_does_not_stop_the_others(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_rows(study: Study, rows: tuple[str, ...], seed: int) -> None:
        for row in ("sift", "vgg"):
            if row in rows:
                raise RowError(row, "cannot learn")
        for row in rows:
            study.note({"search": [1]}, "timing", "rows", row)

    monkeypatch.setattr(parts_module, "time_rows", time_rows)
    (task,) = tasks_of([study], ["table3"], ReproduceSettings(rows=("sift", "svm", "vgg", "ours")))
    with pytest.raises(LookalikeError, match=r"^sift cannot learn; vgg cannot learn$"):
        task.run()
    assert study.known("timing", "rows") == {"svm": {"search": [1]}, "ours": {"search": [1]}}


def test_too_few_classes_for_unseen_categories_are_told_once(
    textures: Path, tmp_path: Path
) -> None:
    folder, settings = tmp_path / "three", ReproduceSettings(queries_per_class=2)
    folder.mkdir()
    for name in ("cells", "dots", "waves"):
        (folder / name).symlink_to(textures / name)
    study = open_study(folder, tmp_path / "work", Results(tmp_path / "results"), settings)
    (task,) = tasks_of([study], ["unseen"], settings)
    assert task.name == "three, unseen"
    with pytest.raises(LookalikeError, match=r"^3 classes are too few for unseen .* there are 4,"):
        task.run()


def test_quick_is_one_seed_without_growth(study: Study) -> None:
    settings = ReproduceSettings(quick=True)
    assert plan_of("corel1k", settings).seeds == (0,)
    assert plan_of("corel1k", settings).epochs == 2 < plan_of("corel1k", ReproduceSettings()).epochs
    names = [task.name for task in tasks_of([study], list(PARTS), settings)]
    assert not any("growth" in name or "seed 1" in name for name in names)
    # Tables 1 and 2 are the same rows of a set that is not the paper's own, and so the same tasks.
    assert len(names) == len(TABLES) + 1 + len(RELATED) + len(TABLES) + 1 + len(ROBUST)


@pytest.fixture
def study_of(collection: Collection, tmp_path: Path) -> Callable[[str], Study]:
    def made(name: str) -> Study:
        known = Collection(name, collection.images, collection.pictures, ())
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
    tasks = tasks_of([study_of(name) for name in found], [part], ReproduceSettings())
    assert {task.name.partition(",")[0] for task in tasks} == expected


def test_related_work_is_measured_on_corel5k_where_it_is_alone(
    study_of: Callable[[str], Study],
) -> None:
    tasks = tasks_of([study_of("corel5k")], ["related"], ReproduceSettings(seeds=(4,)))
    assert [task.name for task in tasks] == [f"corel5k, paper, seed 4, {row}" for row in RELATED]


def test_a_row_that_no_asked_part_has_is_refused_with_those_that_they_have() -> None:
    settings = ReproduceSettings(rows=("ours", "pca"))
    check_asked(["robustness", "related"], settings)
    with pytest.raises(LookalikeError) as caught:
        check_asked(["robustness", "feedback"], settings)
    assert str(caught.value) == (
        "row pca is in no part that was asked for, so name another part or row: "
        "robustness has ours, ours-plain, sift; feedback has no rows"
    )
    check_asked(["unseen"], settings)
    with pytest.raises(LookalikeError, match=r"^row pca is in no part .*: unseen has sift, svm,"):
        check_asked(["unseen"], replace(settings, quick=True))


def test_what_a_quick_run_leaves_out_is_not_nothing_by_itself() -> None:
    quick = ReproduceSettings(quick=True)
    check_asked(list(PARTS), quick)
    check_asked(["growth"], ReproduceSettings())
    with pytest.raises(LookalikeError, match="--quick leaves growth out: name another part"):
        check_asked(["growth"], quick)


def test_quick_takes_one_set_that_is_there(tmp_path: Path) -> None:
    whole, quick = ReproduceSettings(), ReproduceSettings(quick=True)
    assert folders_of(tmp_path, whole) == folders_of(tmp_path, quick) == [tmp_path]
    (tmp_path / "corel5k").mkdir()
    assert folders_of(tmp_path, whole) == folders_of(tmp_path, quick) == [tmp_path / "corel5k"]
    (tmp_path / "corel1k").mkdir()
    assert folders_of(tmp_path, whole) == [tmp_path / "corel1k", tmp_path / "corel5k"]
    assert folders_of(tmp_path, quick) == [tmp_path / "corel1k"]


def test_quick_trains_for_fewer_epochs(study: Study) -> None:
    quick = Workshop(study.networks, 3, effort=QUICK)
    whole = Workshop(study.networks, 3)
    for recipe, epochs in ((OURS, 2), (LENET, 10), (VGG, 3)):
        assert quick.recipe(recipe).training.epochs == epochs < recipe.training.epochs
        assert whole.recipe(recipe) == recipe.but(seed=3)


def test_settings_that_change_numbers_are_noted_with_them() -> None:
    assert ReproduceSettings(seeds=(1,), rows=("svm",), threads=2).changed() == {}
    changed = ReproduceSettings(epochs=1, queries_per_class=2, quick=True).changed()
    assert changed == {"epochs": 1, "queries_per_class": 2, "quick": True}


def test_numbers_that_were_got_in_another_way_are_not_mixed(study: Study, tmp_path: Path) -> None:
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    scratch, given = replace(study), replace(study, vgg_weights=one)
    vgg = ReproduceSettings(rows=("vgg",))
    for mine, others in (
        (scratch, [given]),
        (given, [scratch, replace(study, vgg_weights=other)]),
    ):
        study.note(ROWS["vgg"](mine.workshop(3)).made_of(), "made", "vgg")
        assert len(tasks_of([mine], ["table1"], vgg)) == 5
        for each in others:
            with pytest.raises(LookalikeError, match="numbers of the row vgg that were got with"):
                tasks_of([each], ["table1"], vgg)
    study.note(ROWS["ours"](study.workshop(0)).made_of(), "made", "ours")
    ours = ReproduceSettings(rows=("ours", "svm"))
    assert tasks_of([study], ["table1"], ours)
    with pytest.raises(LookalikeError, match=r"row ours .*give another directory"):
        tasks_of([replace(study, epochs=1)], ["table1"], ours)


def test_what_a_row_was_made_of_is_noted_with_its_numbers(study: Study) -> None:
    study = replace(study, queries_per_class=2)
    study.measure("paper", "svm", 0)
    assert study.known("made", "svm") == ROWS["svm"](study.workshop(1)).made_of()


def test_a_class_with_too_few_images_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    from textures import write_textures

    folder = write_textures(tmp_path / "set", 4)
    (folder / "dots" / "00.png").write_bytes(b"")
    results, work = Results(tmp_path / "results"), tmp_path / "work"
    with pytest.raises(LookalikeError) as caught:
        open_study(folder, work, results, ReproduceSettings(queries_per_class=3))
    told = str(caught.value)
    assert told.startswith(
        f"{folder}: 3 queries of each class need at least 4 readable images in each, one to find; "
        f"too small: 'dots' (3) (1 skipped, such as {folder / 'dots' / '00.png'}: empty: "
    )
    assert told.endswith("): use --queries-per-class 2, add images, or take the folder away")
    assert not work.exists() and not results.directory.exists()
    study = open_study(folder, work, results, ReproduceSettings(queries_per_class=2))
    assert len(study.split("paper", 0).gallery) == 7
