"""Nothing is sent, and nothing is left lying about: commands run where the kernel kills whatever
opens a socket, with a home and a temporary folder that were empty."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fakes import write_photo, write_photos
from sealed import IS_POSSIBLE, KILLED

pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="needs Linux on x86-64 or ARM")
TESTS = Path(__file__).resolve().parents[1]
SEALED = "import sys; sys.path.insert(0, {!r}); from sealed import seal; seal({}); sys.path.pop(0);"
MAIN = "from lookalike.cli import main; main()"

COMPILED = re.compile(r"home/\.cache(/lookalike(/openvino(/[0-9a-f]{16}-\d+\.blob)?)?)?")
"""What OpenVINO keeps of a model for the next command (docs/commands.md)."""


class Place:
    """A home, a temporary and a current folder, all empty, and photographs beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("home", "temporary", "current"):
            (root / name).mkdir()
        write_photos(root / "photos", 16)
        self._before = self.files()

    def files(self) -> set[str]:
        """Of all folders, but for the gallery's own."""
        paths = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
        return {path for path in paths if not path.startswith("photos/.lookalike")}

    def new_files(self) -> set[str]:
        return {path for path in self.files() - self._before if not COMPILED.fullmatch(path)}

    def has_compiled_model(self) -> bool:
        return any(path.endswith(".blob") for path in self.files())

    def start(self, code: str, *words: str | Path, listens: bool = False) -> subprocess.Popen[str]:
        kept = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {
            "HOME": os.fspath(self.root / "home"),
            "TMPDIR": os.fspath(self.root / "temporary"),
            "USER": "tester",  # without it the C library asks its daemon for names over a socket
        }
        sealed = SEALED.format(os.fspath(TESTS), listens)
        return subprocess.Popen(
            [sys.executable, "-c", sealed + code, *words],
            cwd=self.root / "current",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str | Path) -> str:
        """The standard output of a command that ends with status 0."""
        with self.start(MAIN, *words) as process:
            out, err = process.communicate()
        assert process.returncode == 0, (process.returncode, err)
        return out


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("code", "listens", "status"),
    [
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", False, KILLED),
        ("socket.getaddrinfo('example.com', 80)", False, KILLED),
        ("threading.Thread(target=socket.socket).start()", False, KILLED),
        (
            "s = 'import socket; socket.socket()';"
            "sys.exit(subprocess.run([sys.executable, '-c', s]).returncode)",
            False,
            KILLED % 256,
        ),
        ("socket.create_server(('127.0.0.1', 0))", True, 0),
        ("socket.socket().connect_ex(('127.0.0.1', 1))", True, KILLED),
    ],
    ids=["datagram", "name", "thread", "child", "listen", "connect"],
)
def test_a_sealed_process_is_killed_when_it_opens_a_socket_that_it_should_not(
    place: Place, code: str, listens: bool, status: int
) -> None:
    code = f"import socket, subprocess, sys, threading; {code}"
    with place.start(code, listens=listens) as process:
        process.communicate()
    assert process.returncode == status


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_index_and_search_open_no_socket_and_leave_no_file(place: Place, runtime: str) -> None:
    photos = place.root / "photos"
    query = write_photo(place.root / "query.png", 99)
    place.run("index", photos, "--runtime", runtime)
    place.run("search", query, "--gallery", photos, "--runtime", runtime)
    place.run("duplicates", "--gallery", photos, "--kind", "shot", "--threshold", "0.2")
    place.run("verify", "--gallery", photos)
    assert place.new_files() == {"query.png"}
    assert place.has_compiled_model() == (runtime == "openvino")


def test_train_opens_no_socket_and_leaves_no_file_but_the_model(place: Place) -> None:
    words = ["--trunk", "lenet5", "--weights", "none", "--epochs", "1", "--size", "32"]
    place.run("train", place.root / "photos", "--out", "made.onnx", *words, "--batch-size", "4")
    made = {f"current/made.{kind}" for kind in ("onnx", "pt", "csv", "svg")}
    assert place.new_files() == made


def test_serve_opens_no_socket_but_its_own_and_leaves_no_file(place: Place) -> None:
    photos = place.root / "photos"
    query = write_photo(place.root / "query.png", 99)
    place.run("index", photos)
    with place.start(MAIN, "serve", photos, "--port", "0", listens=True) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split()[2]

            def ask(path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
                request = urllib.request.Request(address + path, body, {"Content-Type": kind})
                with urllib.request.urlopen(request, timeout=120) as answer:
                    content = answer.read()
                    is_json = answer.headers["Content-Type"] == "application/json"
                    return json.loads(content) if is_json else content

            assert ask("api/health")["images"] == 16
            assert ask("api/images/1/thumbnail")[:4] == b"RIFF"
            hits = ask("api/search?k=16", query.read_bytes(), "image/png")["hits"]
            assert len(hits) == 16
            first, last = hits[0]["id"], hits[-1]["id"]
            lesson = {"id": first, "relevant": [first], "irrelevant": [last]}
            assert ask("api/feedback", json.dumps(lesson).encode())["judged"] == 2
            assert len(ask("api/explain", json.dumps({"id": first, "hit": last}).encode()))
            assert ask("api/update", b"") == {"updating": True}
            while ask("api/update")["updating"]:
                time.sleep(0.01)
            assert ask("api/update")["error"] is None
        finally:
            process.terminate()
            _, err = process.communicate()
    assert (process.returncode, err) == (0, "stopped\n")
    assert place.new_files() == {"query.png"}
