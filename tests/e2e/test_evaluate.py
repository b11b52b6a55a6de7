"""``lookalike evaluate`` and ``lookalike data``, as users start them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import lookalike
from fakes import embedding
from hostile import encode, photo
from test_start_up import loaded

from lookalike.evaluation.metrics import rank
from lookalike.evaluation.protocol import METRICS, query_split
from lookalike.models.data import class_folders

FEW = ("--queries-per-class", "3", "--seeds", "2", "--threads", "1")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two classes of eight images that are somewhat alike."""
    for label, seed in (("north sea", 1), ("south", 2)):
        home = tmp_path / "labelled" / label
        home.mkdir(parents=True)
        for number in range(8):
            pixels = 0.3 * photo(seed) + 0.7 * photo(100 * seed + number)
            (home / f"{number}.png").write_bytes(encode(pixels.astype(np.uint8), "PNG"))
    return tmp_path / "labelled"


def exact(folder: Path, seed: int) -> dict[str, float]:
    images = class_folders(folder)[0]
    vectors = np.stack([embedding(path) for path in images.paths])
    queries, gallery = query_split(images.labels, seed, 3)
    labels = images.labels
    order = rank(vectors[queries] @ vectors[gallery].T)
    relevance = labels[gallery[order]] == labels[queries, None]
    return {name: float(metric(relevance).mean()) for name, metric in METRICS.items()}


def test_evaluate_prints_json_with_the_metrics_of_each_split(labelled: Path, model: Path) -> None:
    done = lookalike("evaluate", labelled, "--model", model, *FEW, "--worst", "2", "--json")
    found = json.loads(done.stdout)
    assert (found["images"], found["queries_per_class"]) == (16, 3)
    assert (found["model"]["name"], found["skipped"]) == ("pooled", [])
    for seed, split in enumerate(found["splits"]):
        assert (split["seed"], split["queries"], split["gallery"]) == (seed, 6, 10)
        assert split["exact"] == pytest.approx(exact(labelled, seed))
    values = [split["exact"]["mAP"] for split in found["splits"]]
    assert found["exact"]["mAP"]["mean"] == pytest.approx(np.mean(values))
    assert found["exact"]["mAP"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert {each["name"]: each["images"] for each in found["classes"]} == {
        "north sea": 8,
        "south": 8,
    }
    assert [len(search["returned"]) for search in found["worst"]] == [10, 10]
    first = found["worst"][0]
    right = [Path(p).parent == Path(first["path"]).parent for p in first["returned"]]
    assert first["P@10"] == pytest.approx(np.mean(right))


def test_unreadable_and_misplaced_files_are_listed_and_the_status_is_1(
    labelled: Path, model: Path
) -> None:
    words = ("evaluate", labelled, "--model", model, *FEW, "--json")
    before = json.loads(lookalike(*words).stdout)
    (labelled / "south/broken\n.jpg").write_bytes(b"\xff\xd8\xff")
    (labelled / "beside.png").write_bytes(b"")
    (labelled / "south/deeper").mkdir()
    done = lookalike(*words, status=1)
    after = json.loads(done.stdout)
    skipped = [Path(file["path"]).name for file in after.pop("skipped")]
    assert skipped == ["beside.png", "deeper", "broken\n.jpg"]
    assert before.pop("skipped") == []
    assert after == before
    assert rf"skipped {labelled}/south/broken\n.jpg: truncated" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labelled"], "'north sea' (8), 'south' (8): use --queries-per-class 7, add images"),
        (["labelled/south"], "no folder of images was found: give a folder"),
        (["nowhere"], "give one that holds a folder of images for each class"),
    ],
)
def test_what_cannot_be_measured_is_an_error_with_a_remedy(
    labelled: Path, model: Path, words: list[str], message: str
) -> None:
    done = lookalike("evaluate", *words, "--model", model, status=2, cwd=labelled.parent)
    assert message in done.stderr
    assert done.stdout == ""


def test_evaluate_loads_no_pytorch(labelled: Path, model: Path) -> None:
    modules = loaded(labelled, "evaluate", ".", "--model", str(model), *FEW)
    assert "onnxruntime" in modules
    assert not modules & {"torch", "skimage", "sklearn", "matplotlib", "rich"}


# ---- data ----------------------------------------------------------------------------------------


def test_data_lays_out_files_of_another_make_with_a_warning_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "image.orig").mkdir()
    for number in range(1000):
        (tmp_path / f"image.orig/{number}.jpg").write_bytes(b"%d" % number)
    (tmp_path / "image.orig/300.jpg").unlink()
    words = ("data", "corel1k", "--from", "image.orig", "--out", "out")
    done = lookalike(*words, status=1, cwd=tmp_path)
    assert done.stderr.splitlines() == [
        "class buses has 99 images of 100; missing: 300.jpg",
        "not the exact files this project's numbers were made with: 10 of 10 classes differ "
        "(africans, beaches, buildings, buses, dinosaurs and 5 more); results will differ",
    ]
    assert done.stdout.splitlines() == [
        "dataset   corel1k, 10 classes",
        "images    999 of 1,000",
        "content   of 10 classes, 10 differ",
        "laid out  out: 999 linked, 0 copied, 0 there already",
    ]
    assert (tmp_path / "out/horses/712.jpg").read_bytes() == b"712"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corel1k", "--from", "nowhere"], "nowhere does not exist"),
        (["corel5k", "--from", "."], "has no image of corel5k"),
        (["corel2k", "--from", "."], "'corel1k', 'corel5k'"),
        (["corel1k"], "Missing option '--from'"),
    ],
)
def test_bad_input_of_data_is_an_error(tmp_path: Path, words: list[str], message: str) -> None:
    done = lookalike("data", *words, status=2, cwd=tmp_path)
    assert message in done.stderr
    assert done.stdout == ""
