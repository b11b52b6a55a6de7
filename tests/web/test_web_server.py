"""Connections of clients who are slow, many, or do not speak HTTP, against a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h11
import pytest
from hostile import encode
from webtools import connect, received, running, wait_until

from lookalike.errors import LookalikeError
from lookalike.gallery import Gallery
from lookalike.web import ServeSettings
from lookalike.web.server import BoundedProtocol, Connection, address_of, listen

HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port(served: Gallery) -> Iterator[int]:
    with running(served) as (port, _):
        yield port


def is_alive(port: int) -> bool:
    with connect(port, HEALTH) as opened:
        return opened.recv(1 << 16).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", HEALTH[:-10]])
@pytest.mark.parametrize("drips", [False, True])
def test_a_head_that_does_not_come_to_its_end_ends_the_connection(
    served: Gallery, sent: bytes, drips: bool
) -> None:
    with running(served, header_seconds=1.0) as (port, _):
        began = time.monotonic()
        with connect(port, sent) as opened, suppress(OSError):
            while drips and time.monotonic() - began < 60:
                opened.sendall(b"x")
                time.sleep(0.05)
            assert received(opened) == b""
        assert 0.8 < time.monotonic() - began < 60
        assert is_alive(port)


def answer(opened: socket.socket) -> bytes:
    """Of HEALTH, whole: a JSON object, which may come in pieces."""
    found = b""
    while not found.endswith(b"}"):
        found += opened.recv(1 << 16)
    return found


@pytest.mark.slow
def test_the_second_request_of_a_connection_has_its_deadline_too(served: Gallery) -> None:
    with running(served, header_seconds=3.0) as (port, _), connect(port) as opened:
        began = time.monotonic()
        while time.monotonic() - began < 4:  # each in time: the connection is kept
            last = time.monotonic()
            opened.sendall(HEALTH)
            assert answer(opened).startswith(b"HTTP/1.1 200")
            time.sleep(0.05)
        opened.sendall(HEALTH[:10])
        received(opened)
        assert time.monotonic() - last > 2.8


@pytest.mark.slow
def test_a_body_that_goes_on_after_its_answer_ends_the_connection(served: Gallery) -> None:
    begin = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    with running(served) as (port, _):
        began = time.monotonic()
        with connect(port, begin) as opened:
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200")
            with pytest.raises(OSError):
                while time.monotonic() - began < 60:
                    opened.sendall(b"x")
                    time.sleep(0.05)
        assert 1.5 < time.monotonic() - began < 60


@pytest.mark.slow
def test_a_client_that_does_not_take_its_answer_is_dropped(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    lost = threading.Event()
    true_lost = BoundedProtocol.connection_lost

    def noted(self: BoundedProtocol, error: Exception | None) -> None:
        true_lost(self, error)
        lost.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", noted)

    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    (photos / "big.bmp").write_bytes(encode(noise, "BMP"))
    gallery.update()
    number = next(hit.id for hit in gallery.search("a/000.png", 100) if hit.path == "big.bmp")
    asked = f"GET /api/images/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with running(gallery, stall_seconds=1.0) as (port, service):
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.connect(("127.0.0.1", port))
        opened.settimeout(60)
        opened.sendall(asked)
        assert lost.wait(60)
        wait_until(lambda: service.workers.files.taken == 0)  # nothing waits for it
        with opened:
            assert len(received(opened)) < 9_000_000
        with connect(port, asked[:-2] + b"Connection: close\r\n\r\n") as fast:
            content = received(fast)
        assert content.endswith((photos / "big.bmp").read_bytes())


def test_a_full_house_drops_the_client_that_kept_it_waiting_longest(served: Gallery) -> None:
    with running(served, max_connections=4) as (port, _):
        slow = [connect(port, HEALTH[:20]) for _ in range(4)]
        assert is_alive(port)  # a fifth
        assert received(slow[0]) == b""
        for opened in slow[2:]:
            opened.sendall(HEALTH[20:])
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200")
        for opened in slow:
            opened.close()


def test_a_house_full_of_work_refuses_with_a_time_to_come_again(
    served: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    true_skipped = Gallery.skipped
    monkeypatch.setattr(Gallery, "skipped", lambda self: [release.wait(60), true_skipped(self)][1])
    asked = b"GET /api/skipped HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(served, max_connections=3) as (port, service):
        working = [connect(port, asked) for _ in range(3)]
        wait_until(lambda: service.workers.files.taken == 3)
        with connect(port, HEALTH) as refused:
            answer = received(refused)
        assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in answer
        assert b'"code": "busy"' in answer
        release.set()
        for opened in working:
            with opened:
                assert opened.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert is_alive(port)


TOO_LONG = b"HTTP/1.1 431"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_head_has_a_limit_however_it_comes(port: int, at_once: bool) -> None:
    for size, status in ((15_000, b"HTTP/1.1 200"), (17_000, TOO_LONG)):
        head = HEALTH[:-2] + b"Connection: close\r\nX: " + b"y" * size
        with connect(port, head + b"\r\n\r\n" if at_once else head) as opened:
            if not at_once:
                with suppress(OSError):  # it may have been refused already
                    opened.sendall(b"\r\n\r\n")
            assert received(opened).startswith(status)


@pytest.mark.parametrize(
    ("version", "head"),
    [
        (1, b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        (1, b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        (1, b"Content-Length: 4\r\nContent-Length: 5\r\n"),
        (1, b"Transfer-Encoding: chunked, chunked\r\n"),
        (1, b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n"),
        (0, b"Transfer-Encoding: chunked\r\n"),  # which the old protocol lacks
    ],
)
def test_a_body_whose_end_is_ambiguous_ends_the_connection(
    port: int, version: int, head: bytes
) -> None:
    start = b"POST /api/session HTTP/1.%d\r\nHost: localhost\r\n" % version
    hidden = b"\r\n0\r\n\r\n" + HEALTH  # would also be answered if it were another request
    with connect(port, start + head + hidden) as opened:
        answer = received(opened)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1 + answer.count(b"send HTTP/1.1")


def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(served: Gallery) -> None:
    paths = [b"/api/images/1", b"/api/update/events", b"/api/health", b"/nothing", b"/"]
    sent = b"".join(b"HEAD " + path + HEALTH[HEALTH.index(b" HTTP") :] for path in paths)
    last = HEALTH[:-2] + b"Connection: close\r\n\r\n"
    with running(served) as (port, service), connect(port, sent + last) as opened:
        *heads, body = received(opened).split(b"\r\n\r\n")
        assert service.streams == 0
    statuses = [head.split(b" ")[1] for head in heads]
    assert statuses == [b"200", b"200", b"200", b"404", b"200", b"200"]
    assert json.loads(body)["status"] == "ok"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"A" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 900_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_what_is_not_http_gets_an_error(port: int, sent: bytes) -> None:
    try:
        with connect(port, sent) as opened:
            answer = received(opened)
    except (BrokenPipeError, ConnectionResetError):  # it would not even listen to the end
        answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", TOO_LONG))
    assert b"Traceback" not in answer
    assert is_alive(port)


def test_who_comes_while_the_server_stops_does_not_hold_it_up(served: Gallery) -> None:
    with running(served) as (port, service):
        service.begin_stop()
        with connect(port) as late:
            assert received(late) == b""


def test_an_address_that_is_taken_is_said_to_be(served: Gallery) -> None:
    with listen(ServeSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        assert address_of(taken) == f"http://127.0.0.1:{port}/"
        with pytest.raises(LookalikeError, match=f"port {port}.*--port"):
            listen(ServeSettings(port=port))


@pytest.mark.parametrize(
    ("length", "begun"), [({"content-length": "2"}, b""), ({}, b"HTTP/1.1 200")]
)
def test_the_head_of_a_stream_does_not_wait_for_its_first_part(
    length: dict[str, str], begun: bytes
) -> None:
    connection = Connection(h11.SERVER)
    connection.receive_data(HEALTH)
    assert isinstance(connection.next_event(), h11.Request)
    head = connection.send(h11.Response(status_code=200, headers=list(length.items())))
    body = connection.send(h11.Data(data=b"{}"))
    assert head is not None and body is not None
    assert head.startswith(begun) and bool(head) == bool(begun)
    assert (head + body).startswith(b"HTTP/1.1 200") and b"{}" in body
