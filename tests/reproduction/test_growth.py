"""A gallery grown by augmentation, and altered queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reproduction import score, timing
from reproduction.collection import Collection, Pixels
from reproduction.confs import OURS, ROWS, Budget, Settings
from reproduction.distortions import distort
from reproduction.maps import VIEWS, augmented
from reproduction.methods import network_method
from reproduction.results import Results
from reproduction.study import Study
from reproduction.train import Networks

SMALL = OURS.but(input_size=64, dim=32, epochs=1, batch_size=8)


@pytest.fixture
def study(collection: Collection, networks: Networks, tmp_path: Path) -> Study:
    return Study(collection, networks, Results(tmp_path), Settings(queries_per_class=2))


@pytest.mark.slow
def test_views_follow_each_other_and_an_interrupted_encoding_goes_on(
    study: Study, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "CHUNK", 10)
    gallery = study.split("paper", 0).gallery
    network = networks.network(SMALL, gallery)
    count, size = len(gallery), 8 * len(gallery) - 3
    vectors, labels = timing.grown_vectors(study, network, gallery, size)
    assert vectors.shape == (size, 32)
    assert labels.tolist() == np.tile(gallery.labels, 8)[:size].tolist()
    for view in range(VIEWS + 1):
        assert np.array_equal(
            vectors[view * count : (view + 1) * count], network.embed(gallery, view)
        )
    images = list(gallery)
    views = [augmented(images[i], 64, VIEWS + 2, int(gallery.rows[i])) for i in range(count)]
    encoded = network.encoder().embed(np.stack(views))
    start = (VIEWS + 2) * count
    assert np.abs(vectors[start : start + count] - encoded).max() < 1e-5
    # Killed after two chunks: what was written stays, the rest is made again.
    (done,) = networks.directory.glob("*.views8.done")
    done.write_text("20")
    again, _ = timing.grown_vectors(study, network, gallery, size)
    assert np.array_equal(again, vectors)
    # Cut short, the file is not taken for a whole one.
    (rows,) = networks.directory.glob("*.views8.f32")
    with rows.open("r+b") as file:
        file.truncate(rows.stat().st_size // 2)
    again, _ = timing.grown_vectors(study, network, gallery, size)
    assert np.array_equal(again, vectors)


def test_quality_of_the_first_hits_does_not_see_what_comes_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "LSH_HITS", 4)
    ranking = np.array([[1, 0, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0]], bool)
    found = timing._quality(ranking)
    # Four are relevant, as many as could be among the first four: (1/1 + 2/3) / 4; one: 1/4.
    assert found["mAP@4"].tolist() == pytest.approx([(1 + 2 / 3) / 4, 1 / 4])
    assert found["mAP"].tolist() == pytest.approx([(1 + 2 / 3 + 3 / 5 + 4 / 6) / 4, 1 / 4])
    assert found["P@30"].tolist() == pytest.approx([4 / 30, 1 / 30])


@pytest.mark.slow
def test_an_interrupted_measurement_goes_on_with_the_kinds_that_are_missing(
    study: Study, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = network_method(ROWS["ours-exhaustive"], networks, SMALL)
    monkeypatch.setattr(Study, "method", lambda *_: some)
    levels = {"rotation": (0, 90), "jpeg": (100, 5)}
    monkeypatch.setattr(Settings, "budget", Budget(levels=levels))
    asked: list[str] = []
    limit = 3

    def noted(image: Pixels, kind: str, level: float, seed: int) -> Pixels:
        asked.append(kind)
        if asked.count("jpeg") == limit:
            raise KeyboardInterrupt
        return distort(image, kind, level, seed)

    monkeypatch.setattr(score, "distort", noted)
    with pytest.raises(KeyboardInterrupt):
        score.robustness(study, "some", 0)
    first = study.known("robustness", "some", "0", "P@10")
    assert set(first) == {"rotation"}
    asked.clear()
    limit = -1
    score.robustness(study, "some", 0)
    whole = study.known("robustness", "some", "0", "P@10")
    assert whole["rotation"] == first["rotation"]
    assert set(whole["jpeg"]) == {"100", "5"}
    queries = len(study.split("paper", 0).queries)
    assert asked.count("rotation") == asked.count("jpeg") == queries  # rotation: as they are
