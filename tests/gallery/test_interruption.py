from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fakes import HALF, assert_holds, images_of, updated, vectors_of, write_photos
from killing import NOTING, killing

from lookalike.encoder import BATCHES_AHEAD
from lookalike.gallery import Gallery, Hit

COMMIT, BATCH, KILLS = 4, 2, 30
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
def test_a_process_killed_at_thirty_moments_loses_nothing_and_repeats_one_batch_at_most(
    tmp_path: Path, model: Path
) -> None:
    folder, notes = tmp_path / "photos", tmp_path / "notes"
    write_photos(folder, 240)
    began = time.monotonic()
    whole = start(folder, model, tmp_path / "whole")
    _, stderr = whole.communicate()
    assert whole.returncode == 0, stderr
    length = time.monotonic() - began
    expected = vectors_of(Gallery.open(folder))
    shutil.rmtree(folder / ".lookalike")

    # Half of the kills come some notes after the process has begun to encode (so that every run
    # gets on), half of them at any time, the start of Python and the making of the gallery among
    # them.
    rng = random.Random(0)
    known, runs, killed = 0, 0, 0
    while killed < KILLS:
        runs += 1
        assert runs < 3 * KILLS
        if known == len(expected):  # all done before all kills: go on with an empty gallery
            shutil.rmtree(folder / ".lookalike")
            notes.unlink()
            known = 0
        before = lines(notes)
        process = start(folder, model, notes)
        if runs % 2:
            target = len(before) + rng.randrange(2, 30)
            while process.poll() is None and len(lines(notes)) < target:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.02)
        else:
            time.sleep(rng.random() * 0.8 * length)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
        now = assert_sound(folder)
        assert now >= known
        known = now
        encoded = lines(notes)
        # Each run encodes what the gallery did not have; of that, it may lose the batch in hand and
        # what was read ahead for it.
        assert len(encoded) - len(before) >= 0
        again = len(encoded) - len(set(encoded))
        assert again <= runs * (COMMIT + AHEAD)
        assert len(set(encoded)) <= known + COMMIT + AHEAD

    process = start(folder, model, notes)
    process.communicate()
    assert process.returncode == 0
    gallery = Gallery.open(folder, create=False)
    assert gallery.verify() == []
    found = vectors_of(gallery)
    assert set(found) == set(expected) == images_of(folder)
    for name, vector in expected.items():
        np.testing.assert_array_equal(found[name], vector, err_msg=name)
    assert max(Counter(lines(notes)).values()) <= runs


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, 36, 2))
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


def test_a_table_in_the_middle_of_a_commit_when_its_writer_was_killed_goes_back(
    gallery: Gallery, photos: Path
) -> None:
    before = gallery.search("a/000.png", 12)
    code = (
        "import os, sqlite3, sys\n"
        "table = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "table.execute('PRAGMA cache_size = 1')\n"  # so that it writes before it commits
        "table.execute('BEGIN IMMEDIATE')\n"
        "table.execute('UPDATE images SET path = path || zeroblob(3000)')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    table = gallery.directory / "gallery.sqlite"
    size = table.stat().st_size
    killed = subprocess.run([sys.executable, "-c", code, str(table)])
    assert killed.returncode == -signal.SIGKILL
    assert table.stat().st_size > size
    assert (gallery.directory / "gallery.sqlite-journal").stat().st_size > 0
    assert Gallery.open(photos, create=False).search("a/000.png", 12) == before
    assert gallery.verify() == []


@pytest.mark.slow
def test_ctrl_c_keeps_all_that_was_encoded(tmp_path: Path, model: Path) -> None:
    folder, notes = tmp_path / "photos", tmp_path / "notes"
    write_photos(folder, 900)
    rng = random.Random(1)
    known = 0
    for _ in range(5):
        before = len(lines(notes))
        process = start(folder, model, notes)
        target = before + rng.randrange(4, 40)
        while process.poll() is None and len(lines(notes)) < target:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert process.returncode == 130, stderr
        assert b"interrupted; everything committed is kept" in stderr
        assert b"Traceback" not in stderr
        now = assert_sound(folder)
        encoded = lines(notes)
        # All but what was read ahead of the model.
        assert now >= len(set(encoded)) - AHEAD
        assert now >= known
        known = now
    process = start(folder, model, notes)
    assert process.wait() == 0
    process.communicate()
    assert_holds(Gallery.open(folder), folder)
