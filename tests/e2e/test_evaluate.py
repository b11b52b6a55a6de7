"""``lookalike evaluate`` and ``lookalike data``, as users start them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import lookalike
from hostile import encode, photo
from test_start_up import loaded

from lookalike.encoder import Encoder
from lookalike.evaluation.folder import evaluate_images
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


def test_evaluate_prints_json_with_the_metrics_of_each_split(labelled: Path, model: Path) -> None:
    done = lookalike("evaluate", labelled, "--model", model, *FEW, "--worst", "2", "--json")
    found = json.loads(done.stdout)
    images = class_folders(labelled)[0]
    report = evaluate_images(images.classes, images.paths, images.labels, Encoder.open(model), 3, 2)
    for number, (split, measured) in enumerate(zip(found["splits"], report.splits, strict=True)):
        assert (split["seed"], split["queries"], split["gallery"]) == (number, 6, 10)
        for name, values in measured.exact.items():
            assert split["exact"][name] == pytest.approx(values.mean())
    summary = report.summary()["exact"]["mAP"]
    shown = found["exact"]["mAP"]
    assert [shown["mean"], shown["deviation"]] == pytest.approx([summary.mean, summary.deviation])
    classes = {each["name"]: each["images"] for each in found["classes"]}
    assert classes == {"north sea": 8, "south": 8}
    for search in found["worst"]:
        right = [Path(p).parent == Path(search["path"]).parent for p in search["returned"]]
        assert len(right) == 10 and search["P@10"] == pytest.approx(np.mean(right))
    assert (found["model"]["name"], found["skipped"], len(found["worst"])) == ("pooled", [], 2)


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
    assert "class buses has 99 images of 100; missing: 300.jpg\n" in done.stderr
    assert "10 of 10 classes differ" in done.stderr
    assert "999 of 1,000\n" in done.stdout and "999 linked, 0 copied" in done.stdout
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
