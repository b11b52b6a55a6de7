"""`python -m reproduction run --quick` on textures, and on Corel-1k where it is there (extra)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import reproduce
from textures import write_textures

pytest.importorskip("torch")
pytest.importorskip("cv2")

from sklearn.metrics import average_precision_score

from reproduction.rank import rank
from reproduction.results import Results
from reproduction.study import Settings, Study

COREL = Path(__file__).resolve().parents[3] / "shared" / "data" / "corel1k"
EACH, QUERIES = 9, 3
pytestmark = pytest.mark.slow
ROWS = ("sift", "svm", "lenet", "cnn-exhaustive", "cnn-lsh", "ours-exhaustive", "ours")


@dataclass(frozen=True)
class Done:
    folder: Path
    out: Path
    lines: list[str]
    found: dict[str, Any]
    photographs: bool

    def value(self, row: str, metric: str = "mAP") -> float:
        value: float = self.found["paper"][row]["0"][metric]
        return value


@pytest.fixture(
    scope="module",
    params=[
        "textures",
        pytest.param(
            "photographs",
            marks=pytest.mark.skipif(not COREL.is_dir(), reason="extra: Corel-1k is not here"),
        ),
    ],
)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    home = tmp_path_factory.mktemp("quick")
    folder = home / "data" / "corel1k"
    photographs: bool = request.param == "photographs"
    if photographs:
        for theirs in sorted(path for path in COREL.iterdir() if path.is_dir()):
            (folder / theirs.name).mkdir(parents=True)
            for path in sorted(theirs.iterdir())[:EACH]:
                (folder / theirs.name / path.name).symlink_to(path)
    else:
        write_textures(folder, EACH)
    command = ("run", "--quick", "--data", home / "data", f"--queries-per-class={QUERIES}")
    ran = reproduce(*command, "table1", *(f"--row={row}" for row in ROWS), cwd=home)
    reproduce(*command, "robustness", "--row=ours", cwd=home)
    out = home / "reproduced-quick"
    found = json.loads((out / "results" / "corel1k.json").read_text())
    return Done(folder, out, ran.stderr.splitlines(), found, photographs)


def test_methods_come_in_the_order_of_the_paper(done: Done) -> None:
    best, older = ("cnn-exhaustive", "cnn-lsh", "ours-exhaustive", "ours"), ("sift", "lenet")
    ahead = min(map(done.value, best)) - max(map(done.value, older))
    assert ahead > 0.1 if done.photographs else ahead >= 0  # colours alone separate textures
    assert done.value("ours", "P@5") > 0.9
    for hashed, exact in (("cnn-lsh", "cnn-exhaustive"), ("ours", "ours-exhaustive")):
        assert done.value(hashed) == pytest.approx(done.value(exact), abs=0.005)


def test_numbers_are_those_of_scikit_learn_and_of_counting(done: Done) -> None:
    settings = Settings(quick=True, queries_per_class=QUERIES)
    results = Results(done.out / "results")
    study = Study.open(done.folder, done.out / "work", results, settings)
    parts = study.split("paper", 0)
    order = rank(study, "paper", "ours", 0)
    size, relevant = len(parts.gallery), EACH - QUERIES
    precise, first, recalled = [], [], []
    for label, ranking in zip(parts.queries.labels, order, strict=True):
        assert sorted(ranking.tolist()) == list(range(size))
        right = parts.gallery.labels[ranking] == label
        precise.append(average_precision_score(right, -np.arange(size)))
        first.append(sum(right[:10].tolist()) / 10)
        recalled.append(sum(right[:relevant].tolist()) / relevant)
    assert done.value("ours") == pytest.approx(np.mean(precise))
    assert done.value("ours", "P@10") == pytest.approx(np.mean(first))
    assert done.value("ours", "recall@m") == pytest.approx(np.mean(recalled))
