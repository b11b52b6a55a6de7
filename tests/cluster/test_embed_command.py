"""``lookalike cluster embed`` in its own process, and what it says when there is no Ray."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import COMMAND, Done, lookalike
from fakes import HALF, embedding, write_photos
from rays import wait_until

from lookalike.cluster.chunk import EmbedSettings
from lookalike.cluster.connect import is_listening
from lookalike.cluster.embed import embed_all, prepare
from lookalike.cluster.parts import Parts
from lookalike.errors import ClusterError, MissingExtraError, install_command

pytestmark = pytest.mark.slow  # they start Ray


def embed(*words: object, status: int = 0) -> Done:
    return lookalike("cluster", "embed", *map(str, words), status=status)


def embedded(out: Path) -> dict[str, Any]:
    """Path -> stored embedding, of all parts."""
    parts = Parts.open(str(out))
    rows = [parts.read(name) for name in parts.names()]
    return {
        image.path.decode(): vector
        for part in rows
        for image, vector in zip(part.images, part.vectors, strict=True)
    }


def test_every_image_is_embedded_once_and_a_second_run_has_nothing_to_do(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    words = (photos, "--out", out, "--model", model, "--chunk-images", 5)
    first = embed(*words)
    assert first.stderr == "12 images in 3 chunks, 3 of them to do\n"
    assert first.stdout.startswith("12 images embedded in 3 chunks, in ")
    assert first.stdout.endswith(f"; {out} is complete\n")
    found = embedded(out)
    assert sorted(found) == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    for path, vector in found.items():
        np.testing.assert_allclose(vector, embedding(photos / path), atol=HALF)
    again = embed(*words, "--json")
    assert again.stderr == (
        "12 images in 3 chunks, all of them done\n"
        "what earlier runs skipped is in the column skipped of their parts\n"
    )
    summary = json.loads(again.stdout)
    assert summary.pop("seconds") >= 0
    assert summary == {"chunks": 0, "images": 0, "skipped": 0, "out": str(out)}


def test_an_interrupted_command_leaves_whole_parts(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 100)
    out = tmp_path / "parts"
    words = [str(tmp_path / "photos"), "--out", str(out), "--chunk-images", "1", "--threads", "1"]
    command = subprocess.Popen(
        [*COMMAND, "cluster", "embed", *words], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(out.glob("part-*")), 180, "a part is there")
    command.send_signal(signal.SIGINT)
    _, stderr = command.communicate(timeout=120)
    assert command.returncode == 130
    assert stderr.endswith("everything committed is kept, run it again to go on\n")
    parts = Parts.open(str(out))
    assert 0 < len(parts.names()) < 100
    assert all(len(parts.read(name).images) == 1 for name in parts.names())


def test_without_pyarrow_or_ray_the_extra_is_named(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = f"import sys; sys.modules['pyarrow'] = None; {COMMAND[2]}"
    words = [*COMMAND[:2], bare, "cluster", "embed", str(photos), "--out", str(tmp_path / "parts")]
    assert subprocess.run(words, capture_output=True, text=True).stderr == (
        f"lookalike: this command needs pyarrow: {install_command('cluster')}\n"
    )
    parts = prepare(str(photos), str(tmp_path / "parts"), model=str(model))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs ray: pip install 'fsspec"):
        embed_all(parts, "127.0.0.2:6379", EmbedSettings(model=str(model)))


@pytest.mark.parametrize("address", ["", "6379", "auto", "ray://127.0.0.2:10001", "h:p", ":6379"])
def test_what_is_not_an_address_is_an_error(address: str) -> None:
    with pytest.raises(ClusterError, match="is not the address of a Ray cluster; give HOST:PORT"):
        is_listening(address)
