from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import HALF, assert_holds, images_of, updated, vectors_of, write_photos
from killing import NOTING, killing

from lookalike.encoder import BATCHES_AHEAD
from lookalike.gallery import Gallery, Hit

COMMIT, BATCH = 4, 2
AHEAD = (BATCHES_AHEAD + 1) * BATCH


def start(
    folder: Path, model: Path, notes: Path, *more: str, kill_at: int = 0
) -> subprocess.Popen[bytes]:
    options = ["--model", str(model), "--batch-size", str(BATCH), "--threads", "1", *more]
    code = killing(kill_at) + NOTING
    command = [sys.executable, "-c", code, str(notes), str(COMMIT), "index", str(folder)]
    return subprocess.Popen(
        command + options,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )


def lines(notes: Path) -> list[str]:
    return notes.read_text().split() if notes.exists() else []


def assert_sound(folder: Path) -> int:
    """Whatever happened, the gallery opens, is whole and can be searched; its size is returned."""
    if not (folder / ".lookalike/gallery.sqlite").exists():  # killed before there was a gallery
        return 0
    gallery = Gallery.open(folder, create=False)
    assert gallery.verify() == []
    stored = vectors_of(gallery)
    hits: list[Hit] = []
    for name in list(stored)[:1]:
        hits = gallery.search(name, len(stored) + 5)
        assert {hit.path for hit in hits} == set(stored)
        for hit in hits:
            assert abs(hit.cosine - stored[name] @ stored[hit.path]) < HALF
    return len(stored)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "times"), [(signal.SIGKILL, 30), (signal.SIGINT, 5)])
def test_a_process_stopped_at_any_moment_loses_nothing_and_repeats_one_batch_at_most(
    tmp_path: Path, model: Path, sent: signal.Signals, times: int
) -> None:
    folder, notes = tmp_path / "photos", tmp_path / "notes"
    write_photos(folder, 240)
    # Half of the kills come some notes after the process has begun to encode (so that every run
    # gets on), half of them at any time, the start of Python and the making of the gallery among
    # them. What Ctrl-C interrupts is committed.
    in_hand = AHEAD if sent is signal.SIGINT else AHEAD + COMMIT
    rng = random.Random(0)
    known, runs, stopped = 0, 0, 0
    while stopped < times:
        runs += 1
        assert runs < 3 * times
        if known == 240:  # all done before all kills: go on with an empty gallery
            shutil.rmtree(folder / ".lookalike")
            notes.unlink()
            known = 0
        before = len(lines(notes))
        process = start(folder, model, notes)
        if sent is signal.SIGKILL and runs % 2:
            time.sleep(rng.random() * 2)
        else:
            target = before + rng.randrange(2, 40)
            while process.poll() is None and len(lines(notes)) < target:
                time.sleep(0.001)
        process.send_signal(sent)
        _, stderr = process.communicate()
        stopped += process.returncode != 0
        if process.returncode and sent is signal.SIGINT:
            assert process.returncode == 130, stderr
            assert b"interrupted; everything committed is kept" in stderr
            assert b"Traceback" not in stderr
        now = assert_sound(folder)
        assert now >= known
        known = now
        encoded = lines(notes)
        # Each run encodes what the gallery did not have.
        assert len(encoded) - len(set(encoded)) <= runs * in_hand
        assert len(set(encoded)) <= known + in_hand
    process = start(folder, model, notes)
    process.communicate()
    assert process.returncode == 0
    gallery = Gallery.open(folder, create=False)
    assert gallery.verify() == []
    assert_holds(gallery, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, 36, 3))
def test_a_process_killed_inside_a_commit_leaves_the_state_before_or_after(
    tmp_path: Path, model: Path, decoded: list[str], kill_at: int
) -> None:
    folder, notes = tmp_path / "photos", tmp_path / "notes"
    write_photos(folder, 16)
    process = start(folder, model, notes, kill_at=kill_at)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    known = assert_sound(folder)
    assert known % COMMIT == 0
    gallery = updated(folder, model=model)
    assert len(decoded) == 16 - known
    assert gallery.verify() == []
    assert_holds(gallery, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, 17, 3))
@pytest.mark.parametrize("command", ["remove", "repair"])
def test_a_removal_or_repair_that_is_killed_is_repeated_and_loses_nothing_else(
    gallery: Gallery, photos: Path, command: str, kill_at: int
) -> None:
    names = images_of(photos)
    words = ["remove", str(photos / "a/000.png"), str(photos / "b/001.png")]
    if command == "repair":
        words = ["verify", "--repair", "--gallery", str(photos)]
        (gallery.directory / "index/manifest.json").write_bytes(b"damaged")
    code = killing(kill_at) + "from lookalike.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    if command == "repair":
        Gallery.repair(photos)
        gone = set[str]()
    else:
        assert Gallery.find_damage(photos) == []
        gone = {"a/000.png", "b/001.png"}
    again = updated(photos, create=False)
    assert again.verify() == []
    assert names - gone <= set(vectors_of(again)) <= names
    again.restore(sorted(gone))
    again.update()
    assert_holds(again, photos)
