"""What works without POSIX: functions and modules that Windows lacks are hidden, and what it has
instead is imitated. Nothing here was tried on Windows itself."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from fakes import write_photos
from PIL import Image

from lookalike.gallery import Gallery

HIDE = """
import concurrent.futures, fcntl, multiprocessing, os, selectors, select, shutil, signal
import socket, subprocess, sys, tempfile, types

def locking(descriptor, mode, count):
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, os.lseek(descriptor, 0, 1))

imitation = types.ModuleType("msvcrt")
imitation.LK_NBLCK, imitation.locking = 2, locking
sys.modules["msvcrt"] = imitation
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "fwalk", "getuid",
             "pwrite", "readv", "set_blocking", "fstatvfs", "sched_getaffinity"):
    delattr(os, name)
del select.poll, signal.setitimer
"""
COMMAND = "from lookalike.cli import main; main()"
HELD = "import sys; from lookalike.gallery.lock import writer_lock; from pathlib import Path\n"
HELD += "with writer_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def start(program: str, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HIDE + program, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(*words: str | Path, status: int = 0) -> tuple[str, str]:
    with start(COMMAND, *words) as process:
        out, err = process.communicate()
    assert process.returncode == status, (out, err)
    return out, err


@pytest.mark.slow
def test_a_gallery_is_made_searched_and_repaired_without_posix(tmp_path: Path, model: Path) -> None:
    write_photos(tmp_path / "photos", 12)
    (tmp_path / "photos/bad.png").write_bytes(b"no image")
    out, _ = run("index", tmp_path / "photos", "--model", model, status=1)
    assert out.startswith("12 images (12 added, 1 skipped) in ")
    query = tmp_path / "photos/a/000.png"
    out, _ = run("search", query, "--json", "-k", "12")
    here = Gallery.open(tmp_path / "photos", create=False)
    assert [hit["path"] for hit in json.loads(out)] == [hit.path for hit in here.search(query, 12)]
    (tmp_path / "photos/copy.png").write_bytes(query.read_bytes())
    assert run("update", tmp_path / "photos", status=1)[0].startswith("13 images (1 added, 1 ski")
    assert "copy.png" in run("duplicates", "--gallery", tmp_path / "photos")[0]
    (here.directory / "gallery.sqlite").unlink()
    _, err = run("verify", "--repair", "--gallery", tmp_path / "photos", status=0)
    assert "the gallery is whole" in err
    out, _ = run("index", "--rebuild", tmp_path / "photos", "--model", model, status=1)
    assert out.startswith("13 images (13 added")
    assert sorted(path.name for path in (tmp_path / "photos").glob(".*")) == [".lookalike"]


@pytest.mark.slow
def test_a_second_writer_is_refused_without_posix(gallery: Gallery, photos: Path) -> None:
    with start(HELD, gallery.directory / "lock") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        _, err = run("update", photos, status=2)
        assert f"is being written by process {holder.pid}" in err
        holder.communicate("")
    run("update", photos)


@pytest.mark.slow
def test_a_gallery_is_served_without_posix(gallery: Gallery, photos: Path) -> None:
    with start(COMMAND, "serve", photos, "--port", "0") as server:
        assert server.stderr is not None
        try:
            line = server.stderr.readline()
            found = re.search(r"12 images: (http://\S+)/ ", line)
            assert found is not None, line + server.stderr.read()

            def answer(path: str, body: bytes | None = None, kind: str = "") -> bytes:
                asked = Request(found[1] + path, body, {"Content-Type": kind} if kind else {})
                with urlopen(asked, timeout=60) as answered:
                    content: bytes = answered.read()
                return content

            query = photos / "a/000.png"
            sent = answer("/api/search/upload?k=12", query.read_bytes(), "image/png")
            paths = [hit["path"] for hit in json.loads(sent)["hits"]]
            assert paths == [hit.path for hit in gallery.search(query, 12)]
            assert answer("/api/images/1/thumbnail?size=128")[:4] == b"RIFF"
            (photos / "copy.png").write_bytes(query.read_bytes())
            answer("/api/update", b"{}", "application/json")
            while json.loads(answer("/api/update"))["updating"]:
                pass
            assert json.loads(answer("/api/health"))["images"] == 13
        finally:
            server.send_signal(signal.SIGINT)
        _, rest = server.communicate(timeout=60)
        assert (server.returncode, rest.splitlines()[-1]) == (0, "stopped"), rest


@pytest.mark.slow
def test_files_that_end_their_process_or_take_too_long_are_skipped_without_posix(
    tmp_path: Path,
) -> None:
    Image.effect_noise((3000, 3000), 50).save(tmp_path / "large.png")
    program = """
import lookalike.images.decoder as decoder
from lookalike.images.decoder import Decoder, Limits
import os, sys
from lookalike.errors import LookalikeError
from lookalike.images.process import PipedProcess, start_process
assert start_process is PipedProcess
with Decoder(Limits(max_seconds=0.001), patience=1e-3) as slow:
    try:
        slow.read_image(sys.argv[1], 64)
    except LookalikeError as error:
        print(error.reason)
with Decoder() as whole:
    process = whole._take()
    process.kill()
    decoder._idle.give(process)
    print(whole.read_image(sys.argv[1], 64).pixels.shape)
"""
    with start(program, tmp_path / "large.png") as process:
        out, err = process.communicate()
    assert out == "too-slow\n(64, 64, 3)\n", err
