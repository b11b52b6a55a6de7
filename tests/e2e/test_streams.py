"""Every command, where streams are closed, full or broken, or the current folder is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import COMMAND
from fakes import write_model, write_photos

from lookalike.cli.output import prepare_streams
from lookalike.gallery import Gallery

TESTS = Path(__file__).resolve().parents[1]
TRAIN = "--trunk lenet5 --weights none --epochs 1 --size 32 --batch-size 4"
ADOPT = "--name mine --size 16 --mean 127,127,127 --std 64,64,64"
SAMPLES = {
    "index": "index PLACE/photos",
    "update": "update PLACE/photos",
    "search": "search PLACE/photos/a/000.png --gallery PLACE/photos",
    "duplicates": "duplicates --threshold 0 --gallery PLACE/photos",
    "info": "info --gallery PLACE/photos",
    "verify": "verify --repair --gallery PLACE/photos",
    "remove": "remove PLACE/photos/b/001.png --gallery PLACE/photos",
    "tune": "tune --reset --gallery PLACE/photos",
    "demo": "demo --folder PLACE/photos --out PLACE/demo",
    "train": f"train PLACE/photos --out PLACE/made.onnx {TRAIN}",
    "augment": "augment PLACE/photos/a/000.png --out PLACE/augmented.html",
    "model info": "model info PLACE/model.onnx",
    "model adopt": f"model adopt PLACE/model.onnx --out PLACE/adopted.onnx {ADOPT}",
    "evaluate": "evaluate PLACE/photos --model PLACE/model.onnx --seeds 1 --queries-per-class 1",
    "data": "data corel1k --from PLACE/photos",
    "serve": "serve PLACE/photos --host 192.0.2.1 --token 0123456789 --port 0",
    "cluster embed": "cluster embed PLACE/photos --out PLACE/parts --model PLACE/model.onnx",
    "cluster export": "cluster export PLACE/photos --out PLACE/exported",
}
"""What runs the command through, with little work."""

ALIKE = {"update", "remove", "tune", "data"}
"""Of which another command is tried that prints in the same way."""

GONE = 'mkdir gone; cd gone; rmdir "$PWD";'


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery and its model."""
    place = tmp_path_factory.mktemp("original")
    write_photos(place / "photos", 12)
    model = write_model(place / "model.onnx")
    Gallery.open(place / "photos", model=model).update()
    return place


def start(
    original: Path,
    place: Path,
    words: str,
    streams: str = "",
    *,
    stdout: int = subprocess.PIPE,
    first: str = "",
) -> subprocess.Popen[str]:
    """The command on a copy of the gallery, its streams redirected as a shell does."""
    shutil.copytree(original, place)
    given = [word.replace("PLACE", os.fspath(place)) for word in words.split()]
    return subprocess.Popen(
        ["sh", "-c", f'{first} exec "$@" {streams}', "sh", *COMMAND, *given],
        cwd=place,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    assert "Traceback" not in err and "Exception ignored" not in err, err
    return process.returncode, out or "", err


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ALIKE])
def test_a_command_ends_as_it_should_whatever_its_streams_are(
    original: Path, tmp_path: Path, name: str
) -> None:
    """Messages that nothing can take are dropped, and closed streams are as /dev/null. Output that
    nothing can take is an error. No command but `train` needs the current folder."""
    words = SAMPLES[name]
    # First, as compiling what has not been compiled needs the current folder.
    mute = end(start(original, tmp_path / "mute", words, "2>/dev/full"))
    running = [
        start(original, tmp_path / "closed", words, "<&- >&- 2>&-", first=GONE * (name != "train")),
        start(original, tmp_path / "full", words, ">/dev/full"),
    ]
    closed, full = (end(process) for process in running)
    assert mute[0] in (0, 1) or not mute[1]
    assert closed == (mute[0], "", "")
    if mute[1]:
        assert full[0] == 2
        last = full[2].splitlines()[-1]
        assert last == "lookalike: standard output: No space left on device"
    else:
        assert full[0] == mute[0]
        assert full[2]  # what went wrong, or what was written


def test_a_reader_that_has_seen_enough_ends_the_command_without_a_word(
    original: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(["info", "search", "verify"]):
        unread, written = os.pipe()
        os.close(unread)
        process = start(original, tmp_path / str(number), SAMPLES[name], stdout=written)
        os.close(written)
        status, _, err = end(process)
        assert (status, err) == (1, "" if name != "verify" else err)


def test_a_closed_standard_input_is_an_empty_one(original: Path, tmp_path: Path) -> None:
    words = "search - --gallery PLACE/photos"
    status, out, err = end(start(original, tmp_path / "place", words, "<&-"))
    assert (status, out) == (2, "")
    assert err.startswith("lookalike: standard input: empty")


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    """What a native library prints there would end up in them."""
    code = (
        "import os; from lookalike.cli.output import prepare_streams; prepare_streams();"
        "file = open('file', 'w'); os.write(1, b'out'); os.write(2, b'err'); read = os.read(0, 1);"
        "file.write(f'{file.fileno() > 2} {read}')"
    )
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(shell, cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == "True b''"


def test_without_a_current_folder_relative_paths_are_an_error_with_the_remedy(
    original: Path, tmp_path: Path
) -> None:
    for number, words in enumerate(["info", "index", "search x.png", SAMPLES["train"]]):
        status, out, err = end(start(original, tmp_path / str(number), words, first=GONE))
        assert (status, out) == (2, "")
        assert re.fullmatch(r"lookalike: .*the current folder no longer exists; .*cd.*\n", err), err


UNPRIVILEGED = """
import ctypes, json, sys
assert ctypes.CDLL(None).capset(b"\\x22\\x05\\x08\\x20" + bytes(4), bytes(24)) == 0
tests, gallery = sys.argv[1:]
sys.path.insert(0, tests)
from command import lookalike
for words in json.load(sys.stdin):
    done = lookalike(*words, status=2)
    assert done.stdout == "" and gallery in done.stderr.splitlines()[-1], (words, done.stderr)
"""
"""Commands without root's right to read everything; each must fail and name the gallery."""


@pytest.mark.parametrize("mode", [0o755, 0])
def test_a_gallery_of_another_user_is_an_error_that_names_it(
    original: Path, tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "place"
    shutil.copytree(original, place)
    gallery = place / "photos/.lookalike"
    for path in gallery.rglob("*"):
        path.chmod(mode if path.is_dir() else 0)
    gallery.chmod(mode)
    names = ("index", "search", "duplicates", "info", "verify", "remove", "tune", "cluster export")
    samples = [SAMPLES[name] for name in names]
    samples += ["serve PLACE/photos --port 0", "verify --gallery PLACE/photos"]
    samples += ["index --rebuild PLACE/photos"]
    words = [sample.replace("PLACE", os.fspath(place)).split() for sample in samples]
    code = [sys.executable, "-c", UNPRIVILEGED, os.fspath(TESTS), os.fspath(gallery)]
    done = subprocess.run(code, input=json.dumps(words), capture_output=True, text=True)
    gallery.chmod(0o755)
    assert done.returncode == 0, done.stderr


def test_a_line_that_was_interrupted_is_written_once_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted at each call and return in turn, and written out at the end, as a command is."""
    steps = 0
    while True:
        reading, writing = os.pipe()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", os.fdopen(writing, "w", closefd=False))
            prepare_streams()
            left = steps

            def interrupt(frame: object, event: str, argument: object) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

            try:
                sys.setprofile(interrupt)
                click.echo("a line")
                sys.setprofile(None)
            except KeyboardInterrupt:
                pass
            stream = sys.stdout
            stream.flush()
            ended = left > 0
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found = pipe.read()
        assert found in ("", "a line\n") and (found or not ended), (steps, found)
        if ended:
            break
        steps += 1
    assert steps > 10
