"""Hash functions that a job learns from a sample of its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import write_photos
from jobs import embedded, stored

from lookalike.cluster.embed.embedding import embed_here, prepare
from lookalike.cluster.embed.reading import Item, Read, read_item
from lookalike.cluster.job.parts import Parts
from lookalike.encoder import Encoder
from lookalike.errors import GalleryError
from lookalike.images import read_picture
from lookalike.lsh import LSHSettings
from lookalike.lsh.hashing import Hasher


def learned(photos: Path, where: Path, model: Path) -> Parts:
    return prepare(str(photos), str(where), model=str(model), learn=True, chunk_images=32)


def test_they_are_those_of_a_local_index_fitted_on_the_same_images(
    tmp_path: Path, model: Path
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 100)
    parts = learned(photos, tmp_path / "parts", model)
    assert parts.job.settings == LSHSettings(48, tables=1, key_bits=4)
    names = [item for chunk in parts.chunks() for item in chunk.items]
    assert len(names) == 100  # fewer than a sample, so all of them were in it
    encoder = Encoder.open(model)
    pixels = np.stack([read_picture(photos / str(name), 16).pixels for name in names])
    expected = Hasher.fit(parts.job.settings, encoder.embed(pixels))
    for name in ("mean", "code_planes", "key_map", "key_points"):
        np.testing.assert_allclose(
            getattr(parts.hasher, name), getattr(expected, name), atol=1e-5, err_msg=name
        )
    embed_here(parts, model=str(model), threads=1)
    assert len(stored(parts)) == 100


def test_the_sample_comes_from_all_chunks_and_is_the_seeds(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 200)
    monkeypatch.setattr("lookalike.cluster.embed.learning.SAMPLE", 40)
    monkeypatch.setattr("lookalike.cluster.embed.learning.PER_CHUNK", 8)
    read: list[bytes] = []

    def noting(item: Item, size: int, max_pixels: int) -> Read:
        read.append(item.path)
        return read_item(item, size, max_pixels)

    monkeypatch.setattr("lookalike.cluster.embed.learning.read_item", noting)
    hashers = [learned(photos, tmp_path / str(i), model).hasher for i in range(2)]
    assert len(read) == 2 * 40
    assert sorted(read[:40]) == sorted(read[40:])
    assert len({name.split(b"/")[0] for name in read}) == 3
    assert hashers[0].fitted_on == 40
    np.testing.assert_array_equal(hashers[0].code_planes, hashers[1].code_planes)


def test_fewer_images_than_buckets_give_fewer_buckets(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 6)
    parts = learned(photos, tmp_path / "parts", model)
    assert parts.job.key_bits == parts.job.settings.key_bits == parts.hasher.max_key_bits <= 2
    embed_here(parts, model=str(model), threads=1)
    assert len(stored(parts)) == 6


def test_nothing_to_learn_from_and_a_job_that_did_not_learn(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 9)
    embedded(photos, tmp_path / "plain", model, chunk_images=32)
    with pytest.raises(GalleryError, match="leave out --learn"):
        learned(photos, tmp_path / "plain", model)
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(GalleryError, match="nothing to learn from"):
        learned(photos, tmp_path / "parts", model)
