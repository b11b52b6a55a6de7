"""Embedding on real Ray nodes, while nodes, workers and drivers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command import COMMAND
from fakes import write_photo
from jobs import assert_equal
from rays import RayNodes, wait_until

from lookalike.cluster import embed
from lookalike.cluster.chunk import EmbedSettings
from lookalike.cluster.embed import embed_all, prepare
from lookalike.cluster.parts import Parts
from lookalike.errors import ClusterError
from lookalike.progress import Progress

pytestmark = pytest.mark.slow  # they start Ray

IMAGES, CHUNK = 100, 5
CHUNKS = IMAGES // CHUNK
EMBED = [*COMMAND, "cluster", "embed"]


@pytest.fixture(scope="module")
def rays() -> Iterator[RayNodes]:
    """A head and one node more; the last test kills the head."""
    nodes = RayNodes.start(2)
    yield nodes
    nodes.stop()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "images"
    for n in range(IMAGES):
        write_photo(folder / f"{n:03}.png", n, width=384, height=256)
    return folder


@pytest.fixture(scope="module")
def here(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """All of them, embedded in this process."""
    where = tmp_path_factory.mktemp("ray") / "here"
    parts = prepare(str(images), str(where), chunk_images=CHUNK)
    embed_all(parts, settings=EmbedSettings(threads=1))
    return parts


def assert_same(parts: Parts, expected: Parts, names: list[str]) -> None:
    """These parts are, to the byte, as the other job has them, and no row is there twice."""
    ids = [row.id for name in names for row in parts.read(name).images]
    assert len(set(ids)) == len(ids) == CHUNK * len(names)
    for name in names:
        assert_equal(parts.read(name), expected.read(name))


def assert_complete(parts: Parts, expected: Parts) -> None:
    """The same of all parts, and all are there."""
    names = parts.names()
    assert names == expected.names()
    assert len(names) == CHUNKS
    assert_same(parts, expected, names)


def stopped_by(number: signal.Signals, words: list[str], out: Path, parts: int) -> int:
    """Run the command, send it a signal when there are so many parts, and return its status."""
    driver = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(list(out.glob("part-*"))) >= parts, 180, f"{parts} parts are there")
    except BaseException:
        driver.kill()
        raise
    driver.send_signal(number)
    return driver.wait(120)


def test_a_driver_that_is_stopped_leaves_whole_parts_and_only_the_others_are_done_again(
    rays: RayNodes, images: Path, here: Parts, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    words = [*EMBED, str(images), "--out", str(out), "--address", rays.address]
    words += ["--chunk-images", str(CHUNK), "--json"]
    assert stopped_by(signal.SIGINT, words, out, 2) == 130
    assert stopped_by(signal.SIGKILL, words, out, 5) == -signal.SIGKILL
    wait_until(lambda: not rays.at_work(), 120, "the workers of a driver that is gone end")
    before = {part.name: part.stat().st_mtime_ns for part in out.glob("part-*")}
    assert 5 <= len(before) < CHUNKS
    again = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    left = CHUNKS - len(before)
    assert (summary["chunks"], summary["images"], summary["skipped"]) == (left, left * CHUNK, 0)
    assert f"{CHUNKS} chunks, {left} of them to do" in again.stderr
    for name, written in before.items():
        assert (out / name).stat().st_mtime_ns == written
    assert_complete(Parts.open(str(out)), here)


def test_another_token_is_refused_with_the_variables_to_set(
    rays: RayNodes, images: Path, model: Path, tmp_path: Path
) -> None:
    words = [*EMBED, str(images), "--out", str(tmp_path / "parts"), "--model", str(model)]
    words += ["--address", rays.address]  # in a process of its own: Ray reads its token once
    environment = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert f"Ray at {rays.address} does not answer this process: " in done.stderr
    assert "or it needs another token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in done.stderr


def test_a_chunk_that_loses_every_worker_is_named_and_not_tried_for_ever(
    rays: RayNodes, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "TRIES", 1)
    parts = prepare(str(images), str(tmp_path / "parts"), chunk_images=IMAGES)
    ended = threading.Event()

    def kill_all() -> None:
        while not ended.wait(0.05):
            for pid in rays.at_work():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(
            ClusterError, match=r"chunk 0, from '000\.png' to '099\.png', has lost its worker 2 tim"
        ):
            embed_all(parts, rays.address)
    finally:
        ended.set()
        killer.join()


def test_a_node_killed_at_work_costs_no_row_and_doubles_none(
    rays: RayNodes, images: Path, here: Parts, tmp_path: Path
) -> None:
    parts = prepare(str(images), str(tmp_path / "parts"), chunk_images=CHUNK)
    head, victim = rays.hosts
    seen: list[Progress] = []
    ended = threading.Event()

    def kill_at_work() -> None:
        while not ended.is_set():
            if len(seen) >= 4 and rays.freeze(victim):
                rays.kill(victim)
                return

    killer = threading.Thread(target=kill_at_work)
    killer.start()
    try:
        reports = embed_all(parts, rays.address, progress=seen.append)
    finally:
        ended.set()
        killer.join()
    assert rays.hosts == [head]
    assert sorted(report.number for report in reports) == list(range(CHUNKS))
    assert [progress.done for progress in seen] == list(range(CHUNK, IMAGES + 1, CHUNK))
    assert_complete(parts, here)
    assert embed_all(parts, rays.address) == []


def test_the_loss_of_the_head_ends_the_command_with_what_to_do(
    rays: RayNodes, images: Path, here: Parts, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    hasty = f"""
import time
from lookalike.cluster import embed as driver
driver.HEAD_SECONDS = driver.LOOK_SECONDS = 1.0
report = driver._report

def report_and_wait(*given):  # or all chunks may be done before the head is lost
    made = report(*given)
    while driver.is_listening({rays.address!r}):
        time.sleep(0.05)
    return made

driver._report = report_and_wait
"""
    words = [sys.executable, "-c", hasty + EMBED[2], *EMBED[3:], str(images)]
    words += ["--out", str(out), "--chunk-images", str(CHUNK), "--address", rays.address]
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(out.glob("part-*")), 180, "a part is there")
    rays.kill(rays.hosts[0])
    stdout, stderr = driver.communicate(timeout=180)
    assert (driver.returncode, stdout) == (2, "")
    assert "is lost; what is done is kept: start the cluster again" in stderr
    assert "Traceback" not in stderr
    parts = Parts.open(str(out))
    assert 1 <= len(parts.names()) < CHUNKS
    assert_same(parts, here, parts.names())
