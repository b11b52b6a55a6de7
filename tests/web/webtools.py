"""Clients of an application in this process, a server in a thread, and a model with attention."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from fakes import CELLS, MEAN, SIZE
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lookalike.encoder import ModelInfo
from lookalike.gallery import Gallery
from lookalike.images import read_image
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
    "gate_of",
    "received",
    "running",
    "service_of",
    "wait_until",
    "write_attentive_model",
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


def write_attentive_model(path: Path, *outputs: str) -> Path:
    """The model of `fakes` with gates: of places, a sigmoid of each square's mean; of channels."""
    dim, side = 3 * CELLS**2, SIZE // CELLS
    info = ModelInfo("attentive", "1", "", SIZE, (MEAN,) * 3, (64.0,) * 3, dim)
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["pooled"], kernel_shape=[side] * 2, strides=[side] * 2
        ),
        helper.make_node("Flatten", ["pooled"], ["embeddings"], axis=1),
        helper.make_node("ReduceMean", ["pooled"], ["grey"], axes=[1], keepdims=0),
        helper.make_node("Sigmoid", ["grey"], ["spatial_attention"]),
        helper.make_node("ReduceMean", ["pooled"], ["channel_attention"], axes=[2, 3], keepdims=0),
    ]
    shapes: dict[str, tuple[str | int, ...]] = {
        "embeddings": ("n", dim),
        "spatial_attention": ("n", CELLS, CELLS),
        "channel_attention": ("n", 3),
    }
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
        for name in ("embeddings", *outputs)
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, SIZE, SIZE))
    graph = helper.make_graph(nodes, "attentive", [images], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def gate_of(path: Path) -> NDArray[np.float64]:
    """The spatial gate of a file, by numpy alone: (CELLS, CELLS)."""
    pixels = (read_image(path, SIZE).pixels.astype(np.float64) - MEAN) / 64
    side = SIZE // CELLS
    grey = pixels.reshape(CELLS, side, CELLS, side, 3).mean(axis=(1, 3, 4))
    gate: NDArray[np.float64] = 1 / (1 + np.exp(-grey))
    return gate
