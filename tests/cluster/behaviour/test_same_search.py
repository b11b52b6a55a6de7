"""Searches that a gallery on disk and one in shards answer alike."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import HALF, embedding, images_of, write_photo

from lookalike.encoder import Encoder
from lookalike.errors import ModelMismatchError
from lookalike.gallery import Blend, Gallery
from lookalike.gallery.protocol import ImageGallery
from lookalike.gallery.rarity import combine


def oracle(folder: Path, query: np.ndarray, without: tuple[str, ...] = ()) -> list[str]:
    """Names of the folder's images, nearest first, by comparing with all."""
    names = sorted(images_of(folder) - set(without))
    return sorted(names, key=lambda name: -float(query @ embedding(folder / name)))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "outside.png", 77)


@pytest.fixture
def no_encoder(gallery: ImageGallery, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, after `gallery` was made."""

    def refuse(*_: object) -> Encoder:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(Encoder, "open", refuse)


@pytest.mark.usefixtures("no_encoder")
def test_an_indexed_image_is_searched_by_its_stored_vector_also_when_its_file_is_gone(
    place: Path | str, photos: Path
) -> None:
    again = Gallery.open(place)
    for query in (photos / "a/000.png", "a/000.png", os.fspath(photos / "b/../a/000.png")):
        hits = again.search(query, 12)
        assert [hit.path for hit in hits] == oracle(photos, embedding(photos / "a/000.png"))
        assert (hits[0].path, hits[0].bits) == ("a/000.png", 0)
    before = again.search("a/000.png", 12)
    (photos / "a/000.png").unlink()
    for query in ("a/000.png", photos / "a/000.png"):
        assert Gallery.open(place).search(query, 12) == before


def test_a_file_that_has_changed_since_it_was_indexed_is_read_again(
    gallery: ImageGallery, photos: Path
) -> None:
    old = photos / "a/000.png"
    shutil.copy(photos / "b/001.png", old)
    (hit,) = gallery.search(old, 1)
    assert hit.path == "b/001.png"
    hits = gallery.search(old, 12, exclude_self=True)
    assert not {"a/000.png", "b/001.png"} & {hit.path for hit in hits}


def test_hits_are_the_nearest_by_exact_cosine_down_to_the_threshold(
    gallery: ImageGallery, photos: Path, outside: Path
) -> None:
    query = embedding(outside)
    hits = gallery.search(outside, 12)
    assert [hit.path for hit in hits] == oracle(photos, query)
    for hit in hits:
        assert hit.cosine == pytest.approx(query @ embedding(photos / hit.path), abs=HALF)
        assert hit.file == photos / hit.path
        assert (hit.width, hit.height, hit.format) == (64, 48, "PNG")
    limit = (hits[3].cosine + hits[4].cosine) / 2
    assert gallery.search(outside, 12, threshold=limit) == hits[:4]
    assert gallery.search(outside, 2, threshold=limit) == hits[:2]
    assert gallery.search(outside, 12, threshold=1.0) == []


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("a/*", lambda name: name.startswith("a/")),
        ("00[0-4].png", lambda name: name[-7:-4] in ("000", "001", "002", "003", "004")),
        ("*.jpg", lambda name: False),
        ("**/b/**/**/00?.png", lambda name: name.startswith("b/00")),
        ("-a/ type:png 00", lambda name: name[0] != "a" and name[2:4] == "00"),
    ],
)
def test_a_filter_is_applied_before_the_cut_to_k(
    gallery: ImageGallery, photos: Path, outside: Path, pattern: str, fits: object
) -> None:
    expected = [name for name in oracle(photos, embedding(outside)) if fits(name)]  # type: ignore[operator]
    for k in (1, 3, 12):
        hits = gallery.search(outside, k, filter=pattern)
        assert [hit.path for hit in hits] == expected[:k]


def test_exclude_self_leaves_out_the_query_and_its_copies_under_other_names(
    gallery: ImageGallery, photos: Path, outside: Path
) -> None:
    shutil.copy(photos / "a/000.png", photos / "c/copy.png")
    shutil.copy(outside, photos / "b/indexed too.png")
    gallery.update()
    for query, same in (
        ("a/000.png", ("a/000.png", "c/copy.png")),
        (photos / "c/copy.png", ("a/000.png", "c/copy.png")),
        (outside, ("b/indexed too.png",)),
        (outside.read_bytes(), ("b/indexed too.png",)),
    ):
        found = gallery.search(query, 20)
        assert {hit.path for hit in found[: len(same)]} == set(same)
        rest = gallery.search(query, 3, exclude_self=True)
        assert rest == found[len(same) : len(same) + 3]


def test_another_model_is_refused_also_when_the_stored_vector_would_do(
    gallery: ImageGallery, place: Path | str, other_model: Path, model: Path
) -> None:
    with pytest.raises(ModelMismatchError, match="coarse"):
        Gallery.open(place, model=other_model).search("a/000.png")
    assert Gallery.open(place, model=model).search("a/000.png", 1)[0].path == "a/000.png"


def test_lists_blends_and_rows_are_those_of_a_gallery_on_disk(
    gallery: ImageGallery, photos: Path, outside: Path
) -> None:
    lists = gallery.search([outside, "a/000.png"], 3)
    assert lists == [gallery.search(outside, 3), gallery.search("a/000.png", 3)]
    direction = combine([embedding(outside)], [embedding(photos / "a/000.png")])
    expected = gallery.search(direction, 5)
    hits = gallery.search(Blend([outside], ["a/000.png"]), 5)
    assert [hit.path for hit in hits] == [hit.path for hit in expected]
    assert "a/000.png" in gallery and "a/999.png" not in gallery
    assert {image.path for image in gallery} == set(oracle(photos, embedding(outside)))
    _, paths, vectors = gallery.embeddings("b/")
    np.testing.assert_allclose(vectors, [embedding(photos / path) for path in paths], atol=HALF)
    np.testing.assert_allclose(gallery.encode([outside])[0], embedding(outside), atol=HALF)
