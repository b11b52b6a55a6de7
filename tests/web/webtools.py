"""Clients of an application in this process, and a server in a thread."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lookalike.gallery import Gallery
from lookalike.web import ServeSettings, create_app
from lookalike.web.server import listen, make_server
from lookalike.web.service import Service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have another HTTP library
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "HOST",
    "TestClient",
    "answer_of",
    "client_of",
    "connect",
    "error_of",
    "received",
    "running",
    "service_of",
    "wait_until",
]

HOST = "http://127.0.0.1:8765"
TestClient.__test__ = False


@contextmanager
def client_of(gallery: Gallery, settings: ServeSettings | None = None) -> Iterator[TestClient]:
    """Of an application that lives as long as the block."""
    app = create_app(gallery, settings or ServeSettings())
    with TestClient(app, base_url=HOST) as client:
        yield client


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def answer_of(response: httpx2.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def error_of(response: httpx2.Response, status: int, code: str) -> dict[str, str]:
    """The error, after checking its shape and that it gives nothing away."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error: dict[str, str] = response.json()["error"]
    assert set(error) == {"code", "message", "remedy"}
    assert error["code"] == code
    assert error["message"] and error["remedy"]
    for secret in ("Traceback", "site-packages", "/tmp", "/home", "sqlite"):
        assert secret not in response.text
    return error


@contextmanager
def running(gallery: Gallery, **settings: Any) -> Iterator[tuple[int, Service]]:
    """A real server in a thread: its port and what is behind it."""
    chosen = replace(ServeSettings(port=0), **settings)
    app = create_app(gallery, chosen)
    with listen(chosen) as listener:
        server = make_server(app, chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1], app.state.service
        finally:
            server.should_exit = True
            app.state.service.begin_stop()
            thread.join(60)
    assert not thread.is_alive()


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Raises AssertionError if it does not become true."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def connect(port: int, sent: bytes = b"") -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=60)
    opened.sendall(sent)
    return opened


def received(opened: socket.socket) -> bytes:
    """All until the server closes."""
    parts = []
    try:
        while part := opened.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
