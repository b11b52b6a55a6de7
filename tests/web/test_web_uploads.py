"""Uploads that are too large, too slow, not images, or made to do harm."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import encode, make_hostile_files, many_scans, photo, png
from PIL import Image
from webtools import (
    TestClient,
    answer_of,
    client_of,
    connect,
    error_of,
    received,
    running,
    wait_until,
)

from lookalike.gallery import Gallery
from lookalike.images import SkipReason
from lookalike.images.decoder import Decoder, Limits
from lookalike.web import ServeSettings
from lookalike.web.errors import ApiError
from lookalike.web.workers import Decoders

PNG = {"content-type": "image/png"}
SMALL = ServeSettings(max_upload_bytes=200_000, max_upload_pixels=1_000_000)


@pytest.fixture(scope="module")
def small(served: Gallery) -> Iterator[TestClient]:
    """An application with low limits."""
    with client_of(served, SMALL) as client:
        yield client


@pytest.mark.slow
def test_every_hostile_file_is_answered_and_the_next_good_one_found(
    small: TestClient, tmp_path: Path
) -> None:
    """Files that are unreadable on disk alone (pipes, links) have no bytes to send."""
    good = encode(photo(3), "PNG")
    answered = 0
    for path, reason in make_hostile_files(tmp_path).items():
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 200_000:
            continue
        response = small.post("/api/search", content=path.read_bytes(), headers=PNG)
        large = reason is SkipReason.TOO_LARGE
        error_of(response, 413 if large else 422, "too_large" if large else "bad_image")
        answered += 1
    assert answered > 30
    assert answer_of(small.post("/api/search?k=1", content=good, headers=PNG))["hits"]


def test_more_bytes_than_allowed_are_not_read(small: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(21):
            yield bytes(10_000)

    as_json = {"content-type": "application/json"}
    for response in (
        small.post("/api/queries", content=bytes(200_001), headers=PNG),
        small.post("/api/queries", content=pieces(), headers=PNG),
        small.post("/api/queries", files={"image": ("x.png", bytes(300_000), "image/png")}),
        small.post("/api/search", content=b" " * 300_000, headers=PNG),
        small.post("/api/search", content=b" " * 1_100_000, headers=as_json),
    ):
        error_of(response, 413, "too_large")


def test_more_pixels_than_allowed_are_not_decoded(small: TestClient) -> None:
    exact = encode(Image.new("RGB", (1000, 1000)), "PNG")
    answer_of(small.post("/api/search", content=exact, headers=PNG))
    over = encode(Image.new("RGB", (1001, 1000)), "PNG")
    claims = png((60_000, 60_000), 8, 2, [b"\0" * 9])
    for content in (over, claims):
        error_of(small.post("/api/search", content=content, headers=PNG), 413, "too_large")


def test_what_is_sent_decides_not_what_it_is_called(small: TestClient) -> None:
    jpeg = encode(photo(3), "JPEG")
    for kind in ("image/png", "image/svg+xml", "application/octet-stream", "IMAGE/X; a=b"):
        headers = {"content-type": kind}
        answer_of(small.post("/api/search?k=1", content=jpeg, headers=headers))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
    headers = {"content-type": "image/svg+xml"}
    error_of(small.post("/api/search", content=svg, headers=headers), 422, "bad_image")
    error_of(small.post("/api/search", content=b"", headers=PNG), 422, "bad_image")


def test_too_many_at_once_are_asked_to_come_again(
    served: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    true_ask = Decoder.ask

    def slow(self: Decoder, *given: Any) -> Any:
        assert release.wait(60)
        return true_ask(self, *given)

    monkeypatch.setattr(Decoder, "ask", slow)
    content = encode(photo(3), "PNG")
    with client_of(served, ServeSettings(decoders=1, waiting=1)) as client:
        answers: list[Any] = []

        def send() -> None:
            answers.append(client.post("/api/search?k=1", content=content, headers=PNG))

        threads = [threading.Thread(target=send) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 3)  # those beyond the limit
        answer_of(client.post("/api/search", json={"id": 1}))  # needs no decoder
        release.set()
        for thread in threads:
            thread.join()
        busy = [answer for answer in answers if answer.status_code == 503]
        assert len(busy) == 3 and len(answers) == 5
        for answer in busy:
            error_of(answer, 503, "busy")
            assert answer.headers["retry-after"] == "1"
        assert "lookalike_busy_total 3.0" in client.get("/metrics").text
        answer_of(client.post("/api/search?k=1", content=content, headers=PNG))


@pytest.mark.slow
def test_an_image_that_takes_too_long_is_given_up_and_the_next_one_decoded() -> None:
    opened = Decoders("decoding", 1, 4, 30.0, Limits(10**7, 3.0))

    async def run() -> None:
        with pytest.raises(ApiError) as caught:
            await opened.image(many_scans(3000, 4000), size=16, side=0)
        assert caught.value.code == "timeout"
        decoded = await opened.image(encode(photo(1), "PNG"), size=16, side=0)
        assert decoded.pixels.shape == (16, 16, 3)

    try:
        asyncio.run(run())
    finally:
        opened.close()


def head(length: int, *more: str) -> bytes:
    lines = ["POST /api/queries HTTP/1.1", "Host: localhost", "Content-Type: image/png", *more]
    if length >= 0:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(opened: socket.socket) -> int:
    """Of the first answer; the connection is closed then."""
    with opened:
        return int(opened.recv(1 << 16).split(b" ")[1])


@pytest.mark.slow
def test_slow_uploads_end_and_hold_no_worker(served: Gallery) -> None:
    content = encode(photo(3), "PNG")
    with running(served, upload_seconds=1.5, decoders=1, waiting=20) as (port, service):
        slow = [connect(port, head(len(content)) + content[:100]) for _ in range(20)]
        with connect(port, head(len(content)) + content) as fast:
            assert fast.recv(1 << 16).split(b" ")[1] == b"201"
        assert service.workers.uploads.pool.taken == 0
        assert [status_of(opened) for opened in slow] == [408] * 20


@pytest.mark.slow
def test_a_length_that_lies_is_of_no_use(served: Gallery) -> None:
    content = encode(photo(3), "PNG")
    with running(served, upload_seconds=3.0, max_upload_bytes=200_000) as (port, _):
        assert status_of(connect(port, head(10**12))) == 413  # before anything was sent
        assert status_of(connect(port, head(10**4) + content[:50])) == 408
        chunked = head(-1, "Transfer-Encoding: chunked")
        chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
        assert status_of(connect(port, chunked + 13 * chunk)) == 413
        both = head(5, "Transfer-Encoding: chunked")  # smuggling needs two who disagree
        assert status_of(connect(port, both + chunk + b"0\r\n\r\n")) == 400
        assert status_of(connect(port, head(-1, "Content-Length: -5"))) == 400
        with connect(port, head(10**7, "Connection: close")) as early:
            early.sendall(bytes(10**7))
            assert received(early).startswith(b"HTTP/1.1 413")
        with connect(port, head(20) + content) as short:  # the rest is not a request
            assert received(short).count(b"HTTP/1.1 4") == 2


def test_uploads_share_a_bounded_memory(served: Gallery) -> None:
    with running(
        served, upload_seconds=600.0, max_upload_bytes=100_000, max_upload_memory=250_000
    ) as (port, service):
        waiting = [connect(port, head(100_000) + bytes(90_000)) for _ in range(2)]
        wait_until(lambda: service.bodies.held == 180_000)
        with connect(port, head(100_000) + bytes(90_000)) as third:
            answer = third.recv(1 << 16)
            assert answer.split(b" ")[1] == b"503" and b"retry-after: 1" in answer.lower()
        for opened in waiting:
            opened.close()
        wait_until(lambda: service.bodies.held == 0)
