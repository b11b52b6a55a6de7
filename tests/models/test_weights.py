from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub import Hub, served
from torch import nn

from lookalike.errors import ModelError
from lookalike.models.download import download
from lookalike.models.weights import fetch, load_weights

CONTENT = bytes(range(256)) * 10_000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"net-{DIGITS}.pth"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "*")
    with served() as hub:
        hub.files = {f"/{name}": CONTENT for name in (NAME, "net-00000000.pth")}
        yield hub


def test_a_download_is_kept_whole_and_not_made_twice(hub: Hub, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    url, path = f"{hub.address}/{NAME}", tmp_path / "lookalike" / NAME
    download(url, path, DIGITS, progress=lambda *numbers: calls.append(numbers))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [arrived for arrived, _ in calls] == sorted(arrived for arrived, _ in calls)
    assert fetch(url) == path
    assert len(hub.requests) == 1
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(CONTENT[:-1])  # a kept file that has changed is not used
    assert fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "cuts", "message"),
    [
        ("net-00000000.pth", [], f"its SHA-256 begins with {DIGITS}, not 00000000"),
        (f"gone/{NAME}", [], r"404.*Not Found.*put it at .*--weights FILE"),
        (NAME, [1000, 0], r"IncompleteRead.*--weights FILE"),
    ],
)
def test_a_failed_download_leaves_nothing_that_looks_whole(
    hub: Hub, tmp_path: Path, name: str, cuts: list[int], message: str
) -> None:
    hub.cuts = cuts[:]
    with pytest.raises(ModelError, match=message):
        fetch(f"{hub.address}/{name}")
    left = {file.name for file in (tmp_path / "lookalike").iterdir()}
    assert left == ({f".{NAME}.part"} if cuts else set())


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lookalike").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot write"):
        fetch(f"http://127.0.0.1:1/{NAME}")


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable PyTorch weight file"),
        (b"not weights", "not a readable PyTorch weight file"),
        ({"weight": torch.zeros(9)}, "not a readable PyTorch weight file"),  # cut short
        ([1, 2], "holds a list"),
    ],
)
def test_a_damaged_file_or_one_of_something_else_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    path = tmp_path / "damaged.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
        if isinstance(content, dict):
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=message):
        load_weights(nn.Linear(2, 3), path, "a layer")


def test_code_in_a_weight_file_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    torch.save({"bias": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(ModelError):
        load_weights(nn.Linear(2, 3), tmp_path / "hostile.pth", "a layer")
    assert not (tmp_path / "ran").exists()
