from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import counts, write_photo, write_photos
from jobs import of_gallery, reasons, stored

from lookalike.cluster import convert
from lookalike.cluster.convert import export_gallery, import_gallery
from lookalike.cluster.parts import Parts, part_name, to_batch
from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.lsh import LSHSettings


def gallery_of(folder: Path, model: Path, settings: LSHSettings | None = None) -> Gallery:
    """Forty images in two commits, a file that is not one, holes in the ids, and one taken out."""
    write_photos(folder, 20)
    gallery = Gallery.open(folder, model=model, lsh=settings)
    gallery.update()
    write_photos(folder / "more", 20, first_seed=50)
    (folder / "bad.jpg").write_bytes(b"nothing")
    write_photo(folder / "a/003.png", 99)
    gallery.update()
    gallery.remove([folder / "b/001.png"])
    return gallery


@pytest.mark.parametrize(
    "settings",
    [
        None,
        LSHSettings(48, key_bits=5, tables=2, seed=4, vectors="float32"),  # rounded
    ],
)
def test_parts_of_a_gallery_hold_its_rows_and_vectors(
    settings: LSHSettings | None, tmp_path: Path, model: Path
) -> None:
    gallery = gallery_of(tmp_path / "photos", model, settings)
    exported = export_gallery(gallery, str(tmp_path / "parts"), chunk_images=16)
    parts = Parts.open(str(tmp_path / "parts"))
    assert parts.job == exported.job
    assert parts.job.model == gallery.info().model
    parts.check_complete()
    assert parts.names() == [part_name(first) for first in (1, 17, 33, 49)]
    assert parts.job.images == 40 and parts.next_id() == 50
    assert stored(parts) == of_gallery(gallery)
    why = reasons(parts)
    assert {name: reason[0] for name, reason in why.items()} == {
        "bad.jpg": "not-an-image",
        "b/001.png": "removed",
    }


def test_a_gallery_made_of_the_parts_is_the_gallery_again(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    gallery = gallery_of(photos, model)
    parts = export_gallery(gallery, str(tmp_path / "parts"))
    import_gallery(parts, photos, directory=tmp_path / "again", model=model)
    again = Gallery.open(photos, directory=tmp_path / "again", create=False)
    assert of_gallery(again) == of_gallery(gallery)
    assert again.info().removed == 1
    assert counts(again.update()) == {"skipped": 1} and len(again) == 39


def test_what_cannot_be_exported_is_refused_with_a_remedy(tmp_path: Path, model: Path) -> None:
    (tmp_path / "empty").mkdir()
    where = str(tmp_path / "parts")
    with pytest.raises(GalleryError, match="no images to export"):
        export_gallery(Gallery.open(tmp_path / "empty", model=model), where)
    gallery = gallery_of(tmp_path / "photos", model)
    with pytest.raises(GalleryError, match="holds other files"):
        export_gallery(gallery, str(tmp_path / "photos"))
    export_gallery(gallery, where)
    with pytest.raises(GalleryError, match="holds a job already"):
        export_gallery(gallery, where)


def test_an_interrupted_export_leaves_no_parts(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, calls = gallery_of(tmp_path / "photos", model), [0]

    def interrupted(*arguments: object) -> object:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return to_batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(convert, "to_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_gallery(gallery, str(tmp_path / "parts"), chunk_images=8)
    with pytest.raises(GalleryError, match="not complete"):
        Parts.open(str(tmp_path / "parts"))
    monkeypatch.undo()
    parts = export_gallery(gallery, str(tmp_path / "parts"), chunk_images=8)
    with gallery._files.reading() as store:
        assert set(stored(parts)) == {os.fsdecode(row.path) for row in store.indexed()}
