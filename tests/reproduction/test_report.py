"""The report of known results: what stands where, and what is said beside the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")

from reproduction.report import write_report
from reproduction.results import Results
from reproduction.study import Settings

MISSES = "What misses the paper's numbers, and why"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """The report of sets, of which the given row is measured on split 0, and timed on split 3."""

    def made(*names: str, row: str = "ours", settings: Settings | None = None) -> str:
        results, out = Results(tmp_path / "results"), tmp_path / "out"
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for name in names:
            for key in ("attention", "failures", "feedback"):
                (out / "figures" / f"{name}-{key}.png").touch()
            results.put({"mAP": 0.5}, name, "paper", row, "0")
            results.put(row, name, "titles", row)
            times = {"search": [1.0], "end to end": [2.0], "cold": [0.5]}
            results.put({"about": {"seed": 3}, "rows": {row: times}}, name, "timing")
            curves = {"ranking": [0.5, 1.0], "residual": [0.5, None]}
            found = {f"{m} {kind}": curves[kind] for m in ("mAP", "P@20") for kind in curves}
            results.put(found, name, "feedback", "0")
        write_report(results, names, out, settings or Settings())
        return (out / "report.md").read_text(encoding="utf-8")

    return made


def test_a_quick_report_says_that_it_is_one_and_claims_no_deviation(
    written: Callable[..., str],
) -> None:
    text = written("corel1k", settings=Settings(quick=True))
    head = text.partition("##")[0]
    assert "A quick run" in head and "not for reporting" in head
    assert "corel1k: 2 epochs instead of 6, 1 split instead of 5" in head
    assert "One split, so there is no deviation." in head
    assert "±" not in text and MISSES not in text
    whole = written("corel1k").partition("##")[0]
    assert "quick" not in whole and "Mean ± standard deviation" in whole
