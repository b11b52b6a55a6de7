"""The benchmarks' own arithmetic, and tiny runs of those that need no peers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts import each other from their own folder; what they do to the process is undone."""
    monkeypatch.syspath_prepend(FOLDER)
    before, known = dict(os.environ), set(sys.modules)
    yield
    os.environ.clear()
    os.environ.update(before)
    for name in set(sys.modules) - known:
        if name in {path.stem for path in FOLDER.glob("*.py")}:
            del sys.modules[name]


def module(name: str) -> Any:
    return importlib.import_module(name)


def unit_rows(n: int, dim: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_exact_neighbours_equal_a_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    deep216k = module("deep216k")
    monkeypatch.setattr(deep216k, "ROWS_AT_ONCE", 70)  # several blocks
    items, queries = unit_rows(300, 16, 0), unit_rows(7, 16, 1)
    expected = np.argsort(-(queries @ items.T), axis=1)[:, :12]
    assert np.array_equal(deep216k.exact_nearest(items, queries, 12), expected)


@pytest.mark.slow
def test_a_mixed_load_has_no_faults_and_ends_with_the_right_number_of_items() -> None:
    result = module("mixed").run(seconds=1.0, add=2000, remove=200)
    assert result["faults"] == 0, result
    assert result["items_at_the_end"] == result["items_expected"] == 21_800
    assert result["targets"]["there"] > 0
