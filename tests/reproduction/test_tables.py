"""Tables from results, and the documents that hold them."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest

from reproduction.results import Results
from reproduction.tables import (
    ALTERED,
    GROWN,
    feedback_table,
    growth_table,
    half_width,
    paired_difference,
    quality_table,
    robustness_table,
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(tmp_path)
    for seed, (ours, other) in enumerate([(0.9, 0.8), (0.94, 0.86)]):
        found.put({"mAP": ours, "P@10": 1.0}, "corel1k", "paper", "ours", str(seed))
        found.put({"mAP": other, "P@10": 0.5}, "corel1k", "paper", "cnn-lsh", str(seed))
    for row in ("ours", "cnn-lsh"):
        found.put(f"title of {row}", "corel1k", "titles", row)
    return found


def test_a_quality_table_gives_mean_spread_the_papers_number_and_the_difference(
    results: Results,
) -> None:
    lines = quality_table(results, "corel1k", metrics=("mAP", "P@10")).splitlines()
    assert lines[0] == "| method | mAP | P@10 | mAP difference to [19] | seeds |"
    assert lines[2] == (
        "| title of cnn-lsh | 0.8300 ± 0.0424 (0.9186 ▼) | 0.5000 ± 0.0000 (0.9932 ▼) | - | 0, 1 |"
    )
    # Differences 0.10 and 0.08: mean 0.09, half width 12.7062 * 0.014142 / sqrt(2) = 0.12706.
    assert lines[3] == (
        "| title of ours | 0.9200 ± 0.0283 (0.9578 ▼) | 1.0000 ± 0.0000 (1.0000) "
        "| +0.0900 [-0.0371, +0.2171] | 0, 1 |"
    )
    assert len(lines) == 4


def test_growth_is_by_size_and_gives_the_ratio(results: Results) -> None:
    for size, exhaustive in ((10_000, 5000.0), (2_000, 50.0)):
        quality = {
            f"{metric} {which}": value
            for metric in GROWN
            for which, value in (("exhaustive", 0.5), ("lsh", 0.499))
        }
        row = {"exhaustive": [exhaustive - 1, exhaustive, exhaustive + 2], "lsh": [99, 100, 103]}
        results.put({**row, **quality, "recall@30": 0.99}, "set", "growth", "2", str(size))
    lines = growth_table(results, "set").splitlines()
    cells = " 0.5000 / 0.4990 | 0.5000 / 0.4990 | 0.5000 / 0.4990 | 0.9900 |"
    assert lines[2] == f"| 2,000 | 50 µs (49 to 52) | 100 µs (99 to 103) | 0.5 |{cells}"
    assert lines[3].startswith("| 10,000 | 5,000 µs (4,999 to 5,002) | 100 µs (99 to 103) | 50.0 |")


def test_a_round_after_which_nothing_is_left_has_no_number(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for seed, residual in enumerate(([0.5, 0.25, None], [0.7, None, None])):
        curves = {"ranking": [0.5, 0.75, 1.0], "residual": residual}
        found = {f"{metric} {kind}": curves[kind] for metric in ("mAP", "P@20") for kind in curves}
        results.put(found, "set", "feedback", str(seed))
    lines = feedback_table(results, "set").splitlines()
    assert lines[2] == "| mAP, all | 0.5000 ± 0.0000 | 0.7500 ± 0.0000 | 1.0000 ± 0.0000 |"
    assert lines[3] == "| mAP, not judged | 0.6000 ± 0.1414 | 0.2500 | - |"
    assert lines[5] == "| P@20, not judged | 0.6000 ± 0.1414 | 0.2500 | - |"


def test_robustness_shows_how_much_altered_queries_lose(results: Results) -> None:
    for seed, plain in ((0, 0.9), (1, 0.8)):
        levels: dict[str, dict[str, float]] = {"rotation": {"0": plain}}
        for number, (kind, level, _) in enumerate(ALTERED):
            levels.setdefault(kind, {})[level] = plain - 0.01 * number - 0.02 * seed
        results.put({"P@10": levels}, "corel1k", "robustness", "ours", str(seed))
    lines = robustness_table(results, "corel1k").splitlines()
    assert lines[0].startswith("| method | unaltered | turned by 15° | cropped to 70 % |")
    # The falls are 0.01 n and 0.01 n + 0.02.
    begin = "| title of ours | 0.8500 ± 0.0707 | -0.010 ± 0.014 | -0.020 ± 0.014 |"
    assert lines[2].startswith(begin)
    assert lines[2].endswith("| 0, 1 |")
    assert len(lines) == 3


def test_the_documents_hold_the_tables_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(root / "scripts")
    script = importlib.import_module("tables")
    found = 0
    for name in script.DOCUMENTS:
        text = (root / name).read_text(encoding="utf-8")
        found += len(script.MARKED.findall(text))
        assert script.with_tables(text, Results(root / "results")) == text, (
            f"{name} differs from results/: run python scripts/tables.py"
        )
    assert found >= 3


def test_the_interval_is_students() -> None:
    # Deviation 0.02 of three, so the half width is 4.303 * 0.02 / sqrt(3).
    assert half_width([0.01, 0.03, 0.05]) == pytest.approx(4.302652730 * 0.02 / math.sqrt(3))
    assert math.isnan(half_width([0.01]))
    # Deviation 1 of 21, so the half width is 2.086 / sqrt(21); 2.086 has three decimals.
    assert half_width([1.0, -1.0] * 10 + [0.0]) == pytest.approx(2.086 / math.sqrt(21), rel=3e-4)


def test_a_difference_pairs_the_splits_that_both_have() -> None:
    first = {0: 0.6, 1: 0.9, 2: 0.8, 7: 0.0}
    second = {0: 0.5, 1: 0.7, 2: 0.5, 9: 1.0}
    found = paired_difference(first, second)
    assert found is not None
    assert found.count == 3
    assert found.mean == pytest.approx(0.2)
    half = 4.302652730 * 0.1 / math.sqrt(3)
    assert found.low == pytest.approx(0.2 - half)
    assert found.high == pytest.approx(0.2 + half)
    assert str(found) == "+0.2000 [-0.0484, +0.4484]"
    assert paired_difference({1: 0.0}, {2: 0.0}) is None
