"""A labelled folder, measured: against embeddings, splits and metrics made independently."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from fakes import embedding
from hostile import encode, photo
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from lookalike.errors import LookalikeError
from lookalike.evaluation.folder import FolderReport, evaluate_images
from lookalike.evaluation.metrics import precision_at, rank
from lookalike.evaluation.protocol import (
    METRICS,
    hashed_ranking,
    index_of,
    query_split,
)
from lookalike.images import DecodedImage
from lookalike.images.decoder import Decoder
from lookalike.models.data import LabelledImages, class_folders

COUNTS = {"mixed": 30, "reds": 26, "waves": 40}
SETTINGS = (6, 3)
"""Queries of a class, seeds."""
# Embeddings are float32 here and float64 in the oracle, so that neighbours that are alike to 1e-7
# may change places: one such swap moves the mean of 18 queries by less than this.
SWAP = 6e-3


def write_class(home: Path, count: int, seed: int, share: float) -> None:
    """Images that have `share` of their light in common."""
    home.mkdir(parents=True)
    common = photo(seed)
    for number in range(count):
        pixels = share * common + (1 - share) * photo(1000 * seed + number)
        content = encode(pixels.astype(np.uint8), "PNG", compress_level=1)
        (home / f"{number:03}.png").write_bytes(content)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; those of "mixed" have hardly anything in common."""
    home = tmp_path_factory.mktemp("labelled")
    for seed, (name, count) in enumerate(COUNTS.items(), 1):
        write_class(home / name, count, seed, 0.02 if name == "mixed" else 0.25)
    return home


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return Encoder.open(model)


@pytest.fixture(scope="module")
def images(labelled: Path) -> LabelledImages:
    return class_folders(labelled)[0]


@pytest.fixture(scope="module")
def vectors(images: LabelledImages) -> NDArray[np.float64]:
    """By numpy, from the files."""
    return np.stack([embedding(path) for path in images.paths])


def evaluate(
    images: LabelledImages, encoder: Encoder, settings: tuple[int, int] = SETTINGS
) -> FolderReport:
    return evaluate_images(images.classes, images.paths, images.labels, encoder, *settings)


@pytest.fixture(scope="module")
def report(images: LabelledImages, encoder: Encoder) -> FolderReport:
    return evaluate(images, encoder)


def test_metrics_are_those_of_embeddings_made_independently_and_the_loss_is_paired(
    report: FolderReport, images: LabelledImages, vectors: NDArray[np.float64]
) -> None:
    labels, rows = images.labels, vectors.astype(np.float32)
    found: dict[tuple[str, str], list[float]] = {}
    for seed, measured in enumerate(report.splits):
        queries, gallery = query_split(labels, seed, 6)
        assert np.array_equal(measured.queries, queries)
        assert np.array_equal(measured.gallery, gallery)
        exact = rank(vectors[queries] @ vectors[gallery].T)
        hashed = hashed_ranking(index_of(rows[gallery]), rows[queries], exact)
        for name, metric in METRICS.items():
            values = [
                float(metric(labels[gallery[order]] == labels[queries, None]).mean())
                for order in (exact, hashed)
            ]
            for kind, value in zip(
                ("exact", "hashed", "loss"), [*values, values[0] - values[1]], strict=True
            ):
                found.setdefault((kind, name), []).append(value)
    assert 0.4 < mean(found["exact", "mAP"]) < 0.95  # neither is all found, nor nothing
    for (kind, name), values in found.items():
        summary = report.summary()[kind][name]
        assert summary.mean == pytest.approx(mean(values), abs=2 * SWAP), (kind, name)
        assert summary.deviation == pytest.approx(stdev(values), abs=2 * SWAP), (kind, name)
    for name in METRICS:
        by_split = [float((s.exact[name] - s.hashed[name]).mean()) for s in report.splits]
        assert report.summary()["loss"][name].mean == pytest.approx(mean(by_split))


def test_the_hashed_ranking_is_the_hits_of_a_search_and_then_the_rest_in_exact_order() -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((3000, 48)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, gallery = rows[:20], rows[20:]
    exact = rank(queries @ gallery.T)
    index = index_of(gallery)
    order = hashed_ranking(index, queries, exact)
    assert np.array_equal(np.sort(order, axis=1), np.sort(exact, axis=1))  # each exactly once
    hits = index.search(queries, k=100).ids
    assert np.array_equal(order[:, :100], hits)
    for row, found, best in zip(order, hits, exact, strict=True):
        assert row[100:].tolist() == [i for i in best.tolist() if i not in set(found.tolist())]


def test_classes_come_worst_first_with_the_mean_over_all_their_queries(
    report: FolderReport, images: LabelledImages
) -> None:
    assert report.classes[0].name == "mixed"
    assert {score.name: score.images for score in report.classes} == COUNTS
    assert report.relevant == (20, 34)
    for found in report.classes:
        label = images.classes.index(found.name)
        values = [
            split.hashed["P@10"][images.labels[split.queries] == label] for split in report.splits
        ]
        assert found.precision_10 == pytest.approx(np.concatenate(values).mean())
    values = [found.precision_10 for found in report.classes]
    assert values == sorted(values) and values[0] < 0.6 < values[-1]


def test_the_worst_queries_come_with_the_ten_that_are_nearest_to_them(
    report: FolderReport, images: LabelledImages, vectors: NDArray[np.float64]
) -> None:
    worst = report.worst_queries(4)
    assert len({search.path for search in worst}) == 4
    every = np.concatenate([split.hashed["P@10"] for split in report.splits])
    assert worst[0].precision_10 == every.min()
    precisions = [search.precision_10 for search in worst]
    assert precisions == sorted(precisions)
    for search in worst:
        gallery = query_split(images.labels, search.seed, 6).gallery
        cosines = vectors[gallery] @ embedding(search.path)
        nearest = {images.paths[i] for i in gallery[np.argsort(-cosines)[:10]].tolist()}
        assert len(set(search.returned) & nearest) >= 9  # of ten, by an index
        own = [path.parent == search.path.parent for path in search.returned]
        assert search.precision_10 == precision_at(np.array([own]), 10)[0]
    assert report.worst_queries(0) == []
    queries = {row for split in report.splits for row in split.queries.tolist()}
    assert len(report.worst_queries(1000)) == len(queries)


# ---- what cannot be measured ---------------------------------------------------------------------


def refused(images: LabelledImages, encoder: Encoder, queries: int) -> str:
    with pytest.raises(LookalikeError) as caught:
        evaluate(images, encoder, (queries, 1))
    return str(caught.value)


def test_too_small_classes_are_named_with_the_largest_number_that_works(
    images: LabelledImages, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object, **__: object) -> DecodedImage:
        raise AssertionError("nothing need be read to know that")

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "read_images", unwanted)
        message = refused(images, encoder, 30)
    assert "at least 31 readable images" in message
    assert "'mixed' (30), 'reds' (26): use --queries-per-class 25, add images" in message
    assert evaluate(images, encoder, (25, 1)).relevant == (1, 15)


def test_one_class_is_refused_and_two_are_measured(
    images: LabelledImages, encoder: Encoder
) -> None:
    def first(count: int) -> LabelledImages:
        rows = np.flatnonzero(images.labels < count)
        paths = tuple(images.paths[row] for row in rows.tolist())
        return LabelledImages(images.classes[:count], paths, images.labels[rows])

    assert "only one class, 'mixed', was found" in refused(first(1), encoder, 6)
    measured = evaluate(first(2), encoder, (6, 1)).classes
    assert [score.name for score in measured] == ["mixed", "reds"]
