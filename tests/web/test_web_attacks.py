"""Whatever is sent, nothing outside the gallery comes back, and the server stays."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from command import COMMAND
from webtools import TestClient, answer_of, connect, service_of, wait_until

from lookalike.gallery import Gallery

SECRET = "the secret of the machine"
STEPS = ["../", "..\\", "....//", "%2e%2e/", "..%2f", "%2e%2e%2f", "..%5c", "%252e%252e%252f",
         "..%252f", "..%c0%af", "%uff0e%uff0e/", "..;/", "/", "//", "file://",
         "\x00../"]  # fmt: skip


def traversals(target: Path) -> list[str]:
    """Ways to spell the path of a file from somewhere within the server."""
    plain = os.fspath(target).lstrip("/")
    found = [step * times + plain for step in STEPS for times in (1, 3, 12)]
    once = [quote(text, safe="") for text in found]
    found += [*once, *(quote(text, safe="") for text in once[:12])]
    assert len(set(found)) == len(found) > 100
    return found


@pytest.fixture(scope="module")
def secret(folder: Path) -> Path:
    path = folder.parent / "secret.txt"
    path.write_text(SECRET)
    return path


PLACES = [
    "/{}", "/page/{}", "/page/x/{}", "/api/{}", "/api/images/{}", "/api/images/{}/thumbnail",
    "/api/images/{}/info", "/api/images/1/{}", "/api/images/1/thumbnail?size={}",
    "/api/images?filter={}", "/api/images?offset={}", "/api/queries/{}/image", "/search?id={}",
    "/api/skipped?limit={}", "/gallery/{}",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_no_address_leads_out_of_the_gallery(client: TestClient, secret: Path, place: str) -> None:
    for attempt in traversals(secret):
        url = place.format(attempt.replace("?", "").replace("#", "").replace("\x00", "%00"))
        response = client.get(f"http://127.0.0.1:8765{url}")
        assert response.status_code in (200, 400, 403, 404), (url, response.text)
        assert SECRET not in response.text and os.fspath(secret.parent) not in response.text


def test_no_value_leads_out_of_the_gallery(client: TestClient, secret: Path) -> None:
    for attempt in traversals(secret)[::3]:
        for path, body in (
            ("/api/search", {"id": attempt}),
            ("/api/search", {"query": attempt}),
            ("/api/search", {"id": 1, "filter": attempt[:200]}),
            ("/api/search", {"id": 1, "crop": attempt}),
            ("/api/explain", {"id": 1, "hit": attempt}),
            ("/api/feedback", {"id": 1, "relevant": [attempt]}),
            ("/api/duplicates", {"threshold": attempt}),
            ("/api/session", {"token": attempt}),
        ):
            response = client.post(path, json=body)
            assert response.status_code in (200, 204, 400), response.text
            assert SECRET not in response.text
        headers = {"content-type": "image/png", "content-disposition": f"x; filename={attempt!r}"}
        response = client.post("/api/search", content=b"x", headers=headers)
        assert response.status_code == 422
        files = {"image": (attempt, b"x", "image/png")}
        assert client.post("/api/queries", files=files).status_code == 422


def test_forged_ids_are_not_images(client: TestClient) -> None:
    forged = ["0", "-1", "33", "999999", str(2**63 - 1), str(2**63), str(10**400), "1.5", "1e3",
              "0x1", "null", "true", "NaN",
              "1;drop table images", "1'--", "1%00", "q_" + "0" * 32, "*"]  # fmt: skip
    for name in forged:
        for place in ("/api/images/{}", "/api/images/{}/info", "/api/images/{}/thumbnail"):
            url = place.format(quote(name, safe="/%"))
            response = client.get(url)
            assert response.status_code in (400, 404), (url, response.text)
    for query in ("q_" + "0" * 32, "q_" + "F" * 32, "q_", "q_" + "0" * 31 + "\n"):
        response = client.get(f"/api/queries/{quote(query)}/image")
        assert response.status_code in (400, 404)


def test_head_answers_as_get_does_without_the_body_and_other_methods_name_those_allowed(
    client: TestClient,
) -> None:
    for path in (
        "/", "/page/main.js", "/page/nothing", "/metrics", "/api/health", "/api/images",
        "/api/images/1", "/api/images/1/info", "/api/images/1/thumbnail", "/api/images/999",
        "/api/images/+1", "/api/stats", "/api/skipped", "/api/update", "/api/openapi.json",
    ):  # fmt: skip
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        if path not in ("/metrics", "/api/stats"):  # whose length may change
            assert dict(head.headers) == dict(got.headers)
    events = client.head("/api/update/events")  # does not wait for its end
    assert (events.status_code, events.content) == (200, b"")
    assert service_of(client).streams == 0
    evil = client.head("/", headers={"host": "evil.example"})
    assert (evil.status_code, evil.content) == (403, b"")
    for path, allowed in (
        ("/", "GET, HEAD"),
        ("/api/search", "POST"),
        ("/api/update", "GET, HEAD, POST"),
    ):
        for method in {"DELETE", "OPTIONS", "TRACE", "BREW", "GET", "HEAD"} - {
            *allowed.split(", ")
        }:
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed), method


def test_globs_cost_no_more_than_they_may(client: TestClient) -> None:
    worst = ["*a" * 500, "*" * 1000, "[" * 1000, "[!" * 500, "**/" * 4 + "a", "?" * 1000,
             "**/a" * 4, "[a-z]*" * 33, "(a+)+" * 40, "{a,b}" * 40]  # fmt: skip
    began = time.process_time()
    for pattern in worst:
        answer_of(client.get("/api/images", params={"filter": pattern}))
        answer_of(client.post("/api/search", json={"id": 1, "filter": pattern}))
    assert time.process_time() - began < 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_ten_thousand_slow_connections_are_survived(served: Gallery) -> None:
    """Each sends half a head and then nothing. Meanwhile others are answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(10_000, (hard if hard != resource.RLIM_INFINITY else 20_000) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    command = [*COMMAND, "serve", os.fspath(served.root), "--port", "0"]
    opened: list[socket.socket] = []
    half = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    search = (
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 9\r\nConnection: close\r\n\r\n{"id": 1}'
    )
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:

        def is_answered() -> bool:
            with connect(port, search) as asked:
                return asked.recv(1 << 16).startswith(b"HTTP/1.1 200")

        def memory() -> int:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            return pages * resource.getpagesize()

        def files() -> int:
            return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))

        try:
            assert process.stderr is not None
            port = int(process.stderr.readline().split("/ (")[0].rpartition(":")[2])
            assert is_answered()
            before = memory()
            for number in range(wanted):
                slow = connect(port)
                opened.append(slow)
                with suppress(OSError):  # dropped already
                    slow.sendall(half)
                assert number % 1000 != 999 or is_answered()
            assert files() < 512 + 100
            assert memory() - before < 100 << 20
            wait_until(lambda: files() <= 60, 120)  # each has ten seconds
            assert is_answered()
        finally:
            for slow in opened:
                slow.close()
            process.terminate()
            process.wait(30)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert process.returncode == 0
