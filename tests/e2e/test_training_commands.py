"""From class folders to a search with the trained model, through the command alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from command import lookalike
from fakes import write_model
from PIL import Image
from shapes import CLASSES as SHAPES
from shapes import write_classes

from lookalike.cli.train import settings_of, train
from lookalike.encoder import Encoder
from lookalike.errors import install_command
from lookalike.models.settings import AugmentSettings

CLASSES = SHAPES[:3]
LENET = ["--trunk=lenet5", "--weights=none", "--size=40", "--dim=16", "--batch-size=16"]
LENET += ["--threads=1", "--learning-rate=0.004", "--trunk-learning-rate=0.004"]
LENET += ["--augment=rotation=0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `data` to train on, and `model.onnx`, `model.json` that came of it."""
    home = tmp_path_factory.mktemp("training")
    write_classes(home / "data", 24, CLASSES, 0)
    words = ["train", "data", "--out", "model.onnx", "--epochs=8", *LENET]
    done = lookalike(*words, "--json", cwd=home)
    (home / "model.json").write_text(done.stdout)
    (home / "stderr").write_text(done.stderr)
    return home


def test_train_prints_each_epoch_on_stderr_and_the_result_on_stdout(home: Path) -> None:
    report = json.loads((home / "model.json").read_text())
    assert (report["images"], report["held_out"]) == (66, 6)
    assert report["classes"] == sorted(CLASSES)
    assert (report["skipped"], report["resumed"]) == ([], None)
    before, kept = (report["history"][i]["mean_average_precision"] for i in (0, report["kept"]))
    assert kept > 0.95 > before
    lines = (home / "stderr").read_text().splitlines()
    labels = [line.partition(":")[0] for line in lines if "mAP" in line]
    assert labels == ["before training", *(f"epoch {n} of 8" for n in range(1, 9))]
    assert lines[-1] == "use it: lookalike index PHOTOS --model model.onnx"
    for name in ("model.onnx", "model.pt", "model.csv", "model.svg"):
        assert (home / name).stat().st_size > 0
    assert not (home / "model.onnx.checkpoint").exists()


def test_a_search_with_the_trained_model_finds_the_members_of_the_class(
    home: Path, tmp_path: Path
) -> None:
    gallery = write_classes(tmp_path / "gallery", 8, CLASSES, 1)
    lookalike("index", gallery, "--model", home / "model.onnx")
    queries = write_classes(tmp_path / "queries", 1, CLASSES, 2)
    for label in CLASSES:
        query = queries / label / "000.png"
        done = lookalike("search", query, "--gallery", gallery, "-k", "5", "--json")
        assert [hit["path"].split("/")[0] for hit in json.loads(done.stdout)] == [label] * 5


WAITING = """
import time
import lookalike.models.train as training
true_write, left = training.write_checkpoint, [3]
def write(*given):
    true_write(*given)
    left[0] -= 1
    if not left[0]:  # wait to be killed
        print("written", flush=True)
        time.sleep(600)
training.write_checkpoint = write
from lookalike.cli import main
main()
"""


def test_a_killed_training_goes_on_and_ends_in_the_same_model_file(
    home: Path, tmp_path: Path
) -> None:
    out, checkpoint = tmp_path / "model.onnx", tmp_path / "model.onnx.checkpoint"
    words = ["train", os.fspath(home / "data"), "--out", os.fspath(out), "--epochs=8", *LENET]
    words.append("--set=checkpoint_seconds=0")
    words_of_child = [sys.executable, "-c", WAITING, *words]
    with subprocess.Popen(words_of_child, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert checkpoint.exists()
    assert not out.exists()
    done = lookalike(*words)
    assert ", after going on in epoch " in done.stdout
    assert out.read_bytes() == (home / "model.onnx").read_bytes()
    assert not checkpoint.exists()


def test_an_unreadable_image_is_reported_and_int8_weights_with_their_cost(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 4, CLASSES, 0)
    (data / "rows" / "bad.png").write_bytes(b"no image")
    words = ["train", "data", "--out", "m.onnx", "--epochs", "1", "--storage", "int8", *LENET]
    done = lookalike(*words, cwd=tmp_path, status=1)
    assert "skipped data/rows/bad.png: not-an-image" in done.stderr
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert lines["images"].strip() == "9 trained, 3 held out, 3 classes, 1 skipped"
    found = re.search(
        r"storage cost +cosine to .* (\d\.\d+), at worst (\d\.\d+)$", done.stdout, re.M
    )
    assert found is not None
    assert 0.99 < float(found[2]) <= float(found[1]) <= 1
    facts = json.loads(lookalike("model", "info", "m.onnx", "--json", cwd=tmp_path).stdout)
    assert (facts["name"], facts["input_size"], facts["dim"]) == ("m", 40, 16)
    assert facts["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert facts["sha256"] == Encoder.open(tmp_path / "m.onnx").info.sha256


# ---- what goes wrong -----------------------------------------------------------------------------


def one_class(data: Path) -> None:
    for name in CLASSES[1:]:
        (data / name).rename(data.parent / name)


def empty_class(data: Path) -> None:
    (data / "empty").mkdir()


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (one_class, LENET, "lookalike: only one class, 'rows', was found: training compares"),
        (empty_class, LENET, "lookalike: class 'empty' has no images: put some into"),
        (None, ["--trunk", "lenet5"], "lookalike: there are no ImageNet weights of lenet5"),
        (None, [*LENET, "--freeze", "7"], "lookalike: freeze is 7; lenet5 has stages from -3 to 2"),
        (None, [*LENET, "--fuse", "9"], "Error: fuse must be within -3..2, not [9]"),
    ],
)
def test_what_cannot_be_trained_is_status_2_with_the_reason(
    tmp_path: Path, prepare: Callable[[Path], None] | None, options: list[str], message: str
) -> None:
    data = write_classes(tmp_path / "data", 3, CLASSES, 0)
    if prepare is not None:
        prepare(data)
    done = lookalike("train", data, "--out", tmp_path / "m.onnx", *options, status=2)
    assert done.stdout == ""
    assert message in done.stderr
    assert not list(tmp_path.glob("m.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train data", "Missing option '--out'"),
        ("train data --out m", "m must end in .onnx or .pt"),
        ("train data --out m.pt --epochs 0", "Invalid value for '--epochs'"),
        ("train data --out m.pt --learning-rate 0", "Invalid value for '--learning-rate'"),
        ("train data --out m.pt --fuse x", "'x' is not a list of integers, such as 2,-1"),
        ("augment x.png --out y.html --augment spin=1", "'spin' is not one of scale, rotation"),
        (
            "augment x.png --out y.html --augment noise=65",
            "noise is 65.0; it must be a number at least 0 and",
        ),
        ("augment x.png --out y.html --augment noise=high", "noise=high must be a number"),
        ("augment x.png --out y.html", "x.png: "),
        ("model info x.onnx", "File 'x.onnx' does not exist"),
        (
            "model adopt x --out y.onnx --name z --size 9 --mean 1,2 --std 1,1,1",
            "'1,2' is not three numbers, such as 127,127,127",
        ),
    ],
)
def test_a_bad_option_is_status_2_with_the_reason(tmp_path: Path, words: str, message: str) -> None:
    done = lookalike(*words.split(), cwd=tmp_path, status=2)
    assert done.stdout == ""
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("torch", "train data --out m.onnx", "train"),
        ("onnx", "model adopt x --out y.onnx --name z --size 9 --mean 1,1,1 --std 1,1,1", "onnx"),
    ],
)
def test_a_missing_package_is_reported_with_the_extra_that_brings_it(
    tmp_path: Path, package: str, words: str, extra: str
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from lookalike.cli import main; main()"
    command = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (f"lookalike: this command needs {package}: {install_command(extra)}\n")


# ---- the other commands --------------------------------------------------------------------------


def test_an_adopted_encoder_indexes_and_searches(tmp_path: Path) -> None:
    write_model(tmp_path / "foreign.onnx", "any", "spatial_attention")
    words = ["model", "adopt", "foreign.onnx", "--out", "mine.onnx", "--name", "colours"]
    words += ["--size", "16", "--mean", "127.5,127.5,127.5", "--std", "127.5,127.5,127.5"]
    done = lookalike(*words, cwd=tmp_path, status=2)
    assert "name the output to use, one of: embeddings (n, 48), spatial_attention" in done.stderr
    assert not (tmp_path / "mine.onnx").exists()
    done = lookalike(*words, "--output", "embeddings", cwd=tmp_path)
    assert "model   colours 1\n" in done.stdout and "gives   48 dimensions\n" in done.stdout
    shown = lookalike("model", "info", "mine.onnx", cwd=tmp_path).stdout.splitlines()
    facts, adopted = (
        dict(line.split(None, 1) for line in lines) for lines in (shown, done.stdout.splitlines())
    )
    assert facts.pop("runtime").startswith("onnxruntime ")
    assert facts == adopted
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, colour in (("red", (250, 20, 20)), ("green", (20, 250, 20)), ("blue", (20, 20, 250))):
        Image.new("RGB", (30, 20), colour).save(photos / f"{name}.png")
    lookalike("index", "photos", "--model", "mine.onnx", cwd=tmp_path)
    Image.new("RGB", (50, 50), (30, 200, 40)).save(tmp_path / "query.png")
    done = lookalike("search", "query.png", "--gallery", photos, "-k", "1", "--json", cwd=tmp_path)
    assert [hit["path"] for hit in json.loads(done.stdout)] == ["green.png"]


def test_the_page_on_training_lists_every_setting_that_set_takes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    table = page.partition("| setting | default | |")[2].partition("\n\n")[0]
    names = "".join(row.split("|")[1] for row in table.splitlines() if row)
    listed = re.findall(r"`(\w+)`", names)
    with pytest.raises(click.UsageError) as caught:
        given = train.make_context("train", ["data", "--out", "m.onnx"]).params
        settings_of(given, ("nothing=1",), AugmentSettings())
    taken = caught.value.message.partition(" is not one of ")[2].split(", ")
    assert sorted(listed) == sorted(taken)
