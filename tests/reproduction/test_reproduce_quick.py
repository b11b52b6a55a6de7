"""`python -m reproduction run --quick` on textures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import reproduce
from textures import write_textures

pytest.importorskip("torch")
pytest.importorskip("cv2")

from sklearn.metrics import average_precision_score

from reproduction.confs import Settings
from reproduction.rank import rank
from reproduction.results import Results
from reproduction.study import Study

EACH, QUERIES = 9, 3
ROWS = ("sift", "svm", "lenet", "cnn-exhaustive", "cnn-lsh", "ours-exhaustive", "ours")


@pytest.mark.slow
def test_methods_come_in_the_order_of_the_paper_with_the_numbers_of_scikit_learn(
    tmp_path: Path,
) -> None:
    folder = write_textures(tmp_path / "data" / "corel1k", EACH)
    command = ("run", "--quick", "--data", folder.parent, f"--queries-per-class={QUERIES}")
    reproduce(*command, "table1", *(f"--row={row}" for row in ROWS), cwd=tmp_path)
    out = tmp_path / "reproduced-quick"
    found = json.loads((out / "results" / "corel1k.json").read_text())["paper"]
    precision = {row: found[row]["0"]["mAP"] for row in ROWS}
    networks = ("cnn-exhaustive", "cnn-lsh", "ours-exhaustive", "ours")
    assert min(precision[row] for row in networks) >= max(precision["sift"], precision["lenet"])
    for hashed, exact in (("cnn-lsh", "cnn-exhaustive"), ("ours", "ours-exhaustive")):
        assert precision[hashed] == pytest.approx(precision[exact], abs=0.005)

    settings = Settings(quick=True, queries_per_class=QUERIES)
    study = Study.open(folder, out / "work", Results(out / "results"), settings)
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
    ours = found["ours"]["0"]
    assert ours["mAP"] == pytest.approx(np.mean(precise))
    assert ours["P@10"] == pytest.approx(np.mean(first))
    assert ours["recall@m"] == pytest.approx(np.mean(recalled))
