from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from lookalike.errors import ModelError
from lookalike.models.weights import fetch, load_weights

CONTENT = bytes(range(256)) * 10_000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"net-{DIGITS}.pth"


class Handler(BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.path.startswith("/gone/"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        cut = len(CONTENT) // 2 if self.path.startswith("/cut/") else len(CONTENT)
        self.wfile.write(CONTENT[:cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_is_kept_whole_and_not_made_twice(server: str, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    before = Handler.requests
    path = fetch(f"{server}/{NAME}", tmp_path / "new", lambda *numbers: calls.append(numbers))
    assert path == tmp_path / "new" / NAME and path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [arrived for arrived, _ in calls] == sorted(arrived for arrived, _ in calls)
    assert fetch(f"{server}/{NAME}", tmp_path / "new") == path
    assert Handler.requests == before + 1
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(CONTENT[:-1])  # a kept file that has changed is not used
    assert fetch(f"{server}/{NAME}", tmp_path / "new").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/net-00000000.pth", f"its SHA-256 begins with {DIGITS}, not 00000000"),
        (f"/gone/{NAME}", r"404.*Not Found.*put it at .*--weights FILE"),
        (f"/cut/{NAME}", r"IncompleteRead.*--weights FILE"),
    ],
)
def test_a_failed_download_leaves_nothing_that_looks_whole(
    server: str, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        fetch(server + path, tmp_path)
    kept = {f".{NAME}.part"} if path.startswith("/cut/") else set()
    assert {file.name for file in tmp_path.iterdir()} == kept


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot write"):
        fetch(f"http://127.0.0.1:1/{NAME}", tmp_path / "file")


def test_all_that_is_wrong_is_listed_and_the_module_stays(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = module.state_dict()
    del state["1.bias"], state["1.num_batches_tracked"]
    state["0.weight"] = torch.zeros(3, 4)
    state["0.bias"] = torch.zeros(3, dtype=torch.int64)
    torch.save({**state, "2.gamma": torch.zeros(1), "1.weight": 5}, tmp_path / "wrong.pth")
    with pytest.raises(ModelError) as caught:
        load_weights(module, tmp_path / "wrong.pth", "a small net")
    message = str(caught.value)
    assert "not the weights of a small net" in message
    for part in (
        "missing 1.bias",
        "unexpected 2.gamma",
        "0.weight is (3, 4), not (3, 2)",
        "0.bias is torch.int64, not torch.float32",
        "1.weight is a int, not a tensor",
    ):
        assert part in message
    assert "tracked" not in message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_only_the_declared_classifier_may_be_left_out(tmp_path: Path) -> None:
    state = {**nn.Linear(2, 3).state_dict(), "fc.weight": torch.zeros(1), "fcx": torch.zeros(1)}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"unexpected fcx$"):
        load_weights(nn.Linear(2, 3), tmp_path / "net.pth", "a layer", classifier="fc.")
