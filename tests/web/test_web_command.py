"""``lookalike serve`` as users start it, and the client in the documentation."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, lookalike
from fakes import write_photo
from webtools import connect, received

from lookalike.gallery import Gallery

ENDLESS = """
import time
from lookalike.gallery import Gallery
def duplicates(self, *_, **__):
    print("began", flush=True)
    while True:
        time.sleep(0.01)
Gallery.duplicates = duplicates
"""
MEASURED = """
import time
from lookalike.web import statistics
def measure(index):
    print("began", flush=True)
    time.sleep(0.5)
    return {"recall": None, "curve": []}
statistics.measure = measure
"""
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "web.md"


@contextmanager
def started(
    *arguments: str | Path, first: str = "", **environment: str
) -> Iterator[tuple[Any, str]]:
    """The process and the address that it prints; the test ends it. ``first``: run before it."""
    words = [*COMMAND[:2], first + COMMAND[2], "serve"]
    words += [*(os.fspath(word) for word in arguments), "--port", "0"]
    env = {**os.environ, **environment}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"http://\S+/", line)
            assert address, line + process.stderr.read()
            yield process, address[0]
        finally:
            process.kill()


def get(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_serves_and_stops_well(
    served: Gallery, number: signal.Signals
) -> None:
    with started(served.root) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert get(f"{address}api/health")["images"] == 31
        with urllib.request.urlopen(f"{address}api/images/1/thumbnail", timeout=60) as answer:
            assert answer.read()[:4] == b"RIFF"  # so that there is a decoding process to end
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        port = int(address.rstrip("/").rpartition(":")[2])
        stream = connect(port, b"GET /api/update/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stream.recv(1 << 16)
        idle = connect(port)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        stream.close()
        idle.close()
        assert process.returncode == 0, err
        assert (out, err) == ("", "stopped\n")
        assert not children.exists()


@pytest.mark.slow
def test_a_request_in_progress_is_answered_before_it_stops(served: Gallery) -> None:
    with started(served.root, first=MEASURED) as (process, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        get(f"{address}api/stats")  # the model is there
        head = b"POST /api/stats/measure HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        with connect(port, head) as opened:
            assert process.stdout.readline() == "began\n"
            process.send_signal(signal.SIGTERM)
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert process.wait(60) == 0


@pytest.mark.slow
def test_a_task_without_end_is_left_behind_when_it_stops(served: Gallery) -> None:
    head = b"POST /api/duplicates HTTP/1.1\r\nHost: localhost\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with started(served.root, first=ENDLESS) as (process, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        with connect(port, head + body) as opened:
            assert process.stdout.readline() == "began\n"
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            answer = received(opened)
            assert process.wait(60) == 0
        assert time.monotonic() - began > 4  # those in progress have five seconds
        assert answer.startswith(b"HTTP/1.1 503") and b"the server is stopping" in answer
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_an_update_that_runs_is_ended_and_keeps_what_it_did(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    write_photo(photos / "first.png", 0)
    gallery = Gallery.open(photos, model=model)
    gallery.update()
    for n in range(700):
        write_photo(photos / f"new/{n:04}.png", 1 + n, width=24, height=16)
    with started(photos) as (process, address):
        request = urllib.request.Request(f"{address}api/update", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 202
        while (state := get(f"{address}api/update"))["done"] < 20:
            assert state["updating"], state
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert 20 < len(gallery) <= 701
    assert gallery.update().images == 701


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--host", "0.0.0.0", "--token", "short"], "8 to 200 characters"),
        (["--host", "198.51.100.7", "--token", "long-enough"], "cannot listen on 198.51.100.7"),
        (["--port", "99999"], "99999"),
        (["--proxy", "https://photos.example"], "is not a name or address of a host"),
    ],
)
def test_what_cannot_be_served_is_reported_and_fails(
    served: Gallery, arguments: list[str], what: str
) -> None:
    done = lookalike("serve", served.root, *arguments, status=2)
    assert done.stdout == "" and what in done.stderr


@pytest.mark.slow
def test_the_client_in_the_documentation_works(served: Gallery, tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    client, use = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    (tmp_path / "lookalike_client.py").write_text(client)
    (tmp_path / "query.jpg").write_bytes((served.root / "b/004.png").read_bytes())
    with started(served.root) as (_, address):
        code = use.replace("http://127.0.0.1:8765", address.rstrip("/"))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    hits = served.search("b/004.png", 5)
    first = done.stdout.splitlines()[0]
    assert first == f"{hits[0].path}: {hits[0].describe()}"


@pytest.mark.slow
def test_a_token_may_come_from_the_environment(served: Gallery) -> None:
    with started(served.root, LOOKALIKE_TOKEN="from-the-environment") as (_, address):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"{address}api/images")
        request = urllib.request.Request(f"{address}api/images")
        request.add_header("Authorization", "Bearer from-the-environment")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["total"] == 31
