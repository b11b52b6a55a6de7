from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder, load_embedder, save_embedder
from lookalike.models.settings import EmbedderSettings
from lookalike.models.trunks import LeNet5

SETTINGS = EmbedderSettings(
    trunk="lenet5", fuse=(1,), pool="gem", dim=4, input_size=40, reduction=60, neutral=False
)


def saved(path: Path) -> Embedder:
    torch.manual_seed(0)
    embedder = Embedder(SETTINGS, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.5)).eval()
    save_embedder(embedder, path)
    return embedder


def test_weights_settings_and_preprocessing_come_back(tmp_path: Path) -> None:
    embedder = saved(tmp_path / "model.pt")
    loaded = load_embedder(tmp_path / "model.pt")
    assert loaded.settings == SETTINGS and not loaded.training
    assert (loaded.mean, loaded.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.5))
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in embedder.state_dict().items())
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(images), embedder(images))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    for length in (0, 1, 4, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "model.pt").write_bytes(content[:length])
        with pytest.raises(ModelError, match="not a readable checkpoint"):
            load_embedder(tmp_path / "model.pt")


@pytest.mark.slow
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """PyTorch does not check its files; padding and unread fields may change without harm."""
    expected = saved(tmp_path / "model.pt").state_dict()
    content = (tmp_path / "model.pt").read_bytes()
    refused = 0
    places = range(7, len(content), len(content) // 150)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        (tmp_path / "model.pt").write_bytes(damaged)
        try:
            loaded = load_embedder(tmp_path / "model.pt")
        except ModelError:
            refused += 1
            continue
        assert loaded.settings == SETTINGS
        assert (loaded.mean, loaded.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.5))
        state = loaded.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert refused > len(places) * 0.8


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda c: c["settings"].update(pool="gap"), r"unexpected pools\.1\.p"),
        (lambda c: c["settings"].pop("pool"), r"missing \['pool'\]"),
        (lambda c: c.update(mean=[2.0, 2.0, 3.0]), "content has SHA-256 .* saved was"),
        (lambda c: c.update(mean=[1.0, 2.0]), "damaged checkpoint"),
        (lambda c: c.update(std=[4.0, 0.0, 6.5]), "std must be positive"),
        (lambda c: c.update(format=2), "checkpoint format 2, this version reads 1"),
        (lambda c: c.update(state=[1]), "its weights are a list"),
        (
            lambda c: c["state"].pop("fc.bias"),
            r"not the weights of its own settings: missing fc\.bias",
        ),
        (lambda c: c.update(epoch=3), r"its parts are \['epoch', 'format'"),
    ],
)
def test_a_forged_file_is_refused(
    tmp_path: Path, forge: Callable[[dict[str, Any]], object], message: str
) -> None:
    saved(tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    forge(content)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=message):
        load_embedder(tmp_path / "model.pt")


def test_a_file_of_trunk_weights_is_recognised(tmp_path: Path) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match=r"not a checkpoint of an embedder; .* goes to --weights"):
        load_embedder(tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match="no such checkpoint"):
        load_embedder(tmp_path / "none.pt")
