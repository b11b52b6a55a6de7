"""Every test here runs twice: with a gallery on disk, and with one in six real servers."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from both import Make

from lookalike.cluster.collection.loading import load
from lookalike.cluster.embed import reading
from lookalike.cluster.embed.embedding import embed_here, prepare
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.gallery import Gallery
from lookalike.images import Picture, Source, read_picture
from lookalike.images.decoder import Decoder
from lookalike.lsh import LSHSettings


@pytest.fixture(params=["disk", "cluster"])
def place(request: pytest.FixtureRequest, photos: Path) -> Path | str:
    """What `Gallery.open` takes for the gallery of `photos`."""
    if request.param == "disk":
        return photos
    servers, name = request.getfixturevalue("servers"), request.getfixturevalue("name")
    return str(servers.uri(name))


@pytest.fixture
def make(place: Path | str, tmp_path: Path, model: Path) -> Make:
    """Makes the gallery of a folder, up to date, at ``place``."""

    def on_disk(folder: Path, *, key_bits: int | None = None, **settings: Any) -> Gallery:
        lsh = LSHSettings(dim=48, key_bits=key_bits)
        gallery = Gallery.open(folder, model=model, lsh=lsh, **settings)
        gallery.update()
        return gallery

    def in_cluster(folder: Path, *, key_bits: int | None = None, **settings: Any) -> Gallery:
        assert isinstance(place, str)
        file, uri = os.fspath(model), ClusterURI.parse(place)
        out = os.fspath(tmp_path / "parts")
        parts = prepare(os.fspath(folder), out, model=file, key_bits=key_bits, chunk_images=512)
        embed_here(parts, model=file, **settings)
        with closing(Connection.open(uri)) as connection:
            load(parts, connection, uri.name)
        return Gallery.open(place, model=model, **settings)

    return in_cluster if isinstance(place, str) else on_disk


@pytest.fixture
def gallery(make: Make, photos: Path) -> Gallery:
    """The gallery of `photos`, up to date."""
    return make(photos)


@pytest.fixture
def decoded(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that updates have decoded, in order, since `gallery` was made."""
    names: list[str] = []

    def noting(source: bytes, size: int, *, max_pixels: int) -> Picture:
        names.append(os.path.basename(os.fsdecode(source)))
        return read_picture(source, size, max_pixels=max_pixels)

    def noting_apart(self: Decoder, source: Source, size: int) -> Picture:
        assert isinstance(source, bytes)
        return noting(source, size, max_pixels=self.limits.max_pixels)

    monkeypatch.setattr(reading, "read_picture", noting)
    monkeypatch.setattr(Decoder, "read_picture", noting_apart)
    return names
