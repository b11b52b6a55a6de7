"""The report of known results: what stands where, and what is said beside the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")

from reproduction import report
from reproduction.collection import Collection
from reproduction.illustrate import Figure
from reproduction.networks import Networks
from reproduction.plan import ReproduceSettings
from reproduction.results import Results
from reproduction.study import Study
from reproduction.tables import misses

MISSES = "What misses the paper's numbers, and why"
SVM = "contains the pictures that the person judged"


@pytest.fixture
def written(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """The report of sets, of which the given row is measured on split 0, and timed on split 3."""

    def drawn(study: Study, seed: int, directory: Path) -> list[Figure]:
        name = study.collection.name
        kinds = ("attention", "failures")
        return [Figure(f"{name}-{kind}.png", f"{kind} of {name}, {seed}.") for kind in kinds]

    monkeypatch.setattr(report, "draw_collection", drawn)

    def made(*names: str, row: str = "ours") -> str:
        networks, results = Networks(tmp_path / "work"), Results(tmp_path / "results")
        studies = []
        for name in names:
            known = Collection(name, collection.images, collection.pictures, ())
            studies.append(Study(known, networks, results))
            results.put({"mAP": 0.5}, name, "paper", row, "0")
            results.put(row, name, "titles", row)
            times = {"search": [1.0], "end to end": [2.0], "cold": [0.5]}
            results.put({"about": {"seed": 3}, "rows": {row: times}}, name, "timing")
            curves = {"ranking": [0.5, 1.0], "residual": [0.5, None]}
            found = {f"{m} {kind}": curves[kind] for m in ("mAP", "P@20") for kind in curves}
            results.put(found, name, "feedback", "0")
        report.write_report(studies, tmp_path / "out", ReproduceSettings())
        return (tmp_path / "out" / "report.md").read_text(encoding="utf-8")

    return made


def test_the_failures_of_all_sets_come_before_all_tables(written: Callable[..., str]) -> None:
    text = written("corel1k", "corel5k")
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        "corel1k: failures first",
        "corel5k: failures first",
        "corel1k: the paper's tables",
        "corel1k: relevance feedback",
        "corel1k: figures",
        "corel5k: the paper's tables",
        "corel5k: relevance feedback",
        "corel5k: figures",
        "Table 3: retrieval time",
        MISSES,
    ]
    assert text.count("(pictures/corel5k-failures.png)") == 1
    assert text.count("(pictures/corel5k-attention.png)") == 1


def test_explanations_of_our_own_misses_stand_in_reports_of_the_papers_sets_alone(
    written: Callable[..., str],
) -> None:
    assert f"## {MISSES}\n\n{misses()}\n" in written("corel5k")
    assert MISSES not in written("corel1k", "mine")


def test_the_split_of_the_times_is_told(written: Callable[..., str]) -> None:
    assert "with the network to open. Split seed: corel1k 3, mine 3.\n" in written(
        "corel1k", "mine"
    )


def test_the_tables_tell_that_the_svm_row_was_given_answers(written: Callable[..., str]) -> None:
    assert SVM not in written("corel1k")
    section = written("mine", row="svm").partition("## mine: the paper's tables")[2]
    assert SVM in section.partition("##")[0]


def test_a_round_after_which_nothing_is_left_is_reported(written: Callable[..., str]) -> None:
    text = written("mine")
    assert "| mAP, all | 0.5000 | 1.0000 |" in text
    assert "| mAP, not judged | 0.5000 | - |" in text
    assert "(pictures/mine-feedback.png)" in text
