"""Every test here runs twice: with a gallery on disk, and with one in three shards.

The shards are those that Ray's actors hold, in this process; `test_served` asks the actors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from both import Make
from inprocess import InProcess

from lookalike.cluster import gallery as sharded
from lookalike.cluster import view
from lookalike.cluster.chunk import EmbedSettings
from lookalike.cluster.embed import embed_all, prepare
from lookalike.gallery import Gallery
from lookalike.gallery.protocol import ImageGallery


@pytest.fixture(params=["disk", "shards"])
def place(
    request: pytest.FixtureRequest, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path | str]:
    """What `Gallery.open` takes for the gallery of `photos`."""
    if request.param == "disk":
        yield photos
        return
    known: list[InProcess] = []

    def shards_of(name: str, address: str | None) -> InProcess:
        if not known:
            known.append(InProcess(str(tmp_path / "parts"), 3, tmp_path / "cache"))
        return known[0]

    monkeypatch.setattr(sharded, "Shards", shards_of)
    monkeypatch.setattr(view, "FRESH_SECONDS", 0.0)
    yield "ray://photos"
    for shards in known:
        shards.close()


@pytest.fixture
def make(place: Path | str, tmp_path: Path, model: Path) -> Make:
    """Makes the gallery of a folder, up to date, at ``place``."""

    def on_disk(folder: Path, **settings: Any) -> ImageGallery:
        gallery = Gallery.open(folder, model=model, **settings)
        gallery.update()
        return gallery

    def in_shards(folder: Path, **settings: Any) -> ImageGallery:
        file = os.fspath(model)
        parts = prepare(os.fspath(folder), str(tmp_path / "parts"), model=file, chunk_images=5)
        embed_all(parts, settings=EmbedSettings(model=file, **settings))
        return Gallery.open(place, model=model, **settings)

    return in_shards if isinstance(place, str) else on_disk


@pytest.fixture
def gallery(make: Make, photos: Path) -> ImageGallery:
    """The gallery of `photos`, up to date."""
    return make(photos)
