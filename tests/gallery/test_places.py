from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import assert_holds, listing, updated, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery


def test_a_gallery_elsewhere_writes_nothing_into_the_folder(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    for path in (*photos.rglob("*"), photos):  # were this test not run as root, it would be refused
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = listing(photos)
    gallery = updated(photos, directory=tmp_path / "gallery", model=model)
    gallery.search(photos / "a/000.png")
    gallery.duplicates(0.5)
    gallery.remove(["a/000.png"])
    gallery.verify(contents=True)
    Gallery.rebuild(photos, directory=tmp_path / "gallery", model=model)
    assert listing(photos) == before
    assert (tmp_path / "gallery/gallery.sqlite").exists()
    for path in (photos, *photos.rglob("*")):
        path.chmod(0o755)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_names_the_option_that_helps(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(GalleryError, match=r"cannot write in .*; put the gallery elsewhere with "):
        Gallery.open(photos, model=model)


def test_a_gallery_that_has_become_read_only_can_be_searched_but_not_updated(
    gallery: Gallery, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert gallery.search("a/000.png", 1)[0].path == "a/000.png"
    changes: list[Callable[[], Any]] = [
        gallery.update,
        lambda: gallery.remove(["a/000.png"]),
        lambda: gallery.exclude(["*.png"]),
        lambda: gallery.tune(force=True),
        lambda: Gallery.repair(gallery.root),
        lambda: Gallery.rebuild(gallery.root, model=model),
    ]
    for change in changes:
        with pytest.raises(GalleryError, match=r"cannot write in .* searched, but not changed$"):
            change()


def test_a_gallery_inside_its_folder_moves_with_it(
    gallery: Gallery, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    before = gallery.search("a/000.png", 12)
    moved = tmp_path / "another/place"
    moved.parent.mkdir()
    photos.rename(moved)
    after = Gallery.open(moved, create=False)
    hits = after.search("a/000.png", 12)
    assert [(hit.path, hit.cosine, hit.bits) for hit in hits] == [
        (hit.path, hit.cosine, hit.bits) for hit in before
    ]
    assert all(hit.file == moved / hit.path and hit.file.exists() for hit in hits)
    report = after.update()
    assert (report.images, report.added, report.moved, report.dropped) == (12, 0, 0, 0)
    assert decoded == []


def test_a_gallery_elsewhere_follows_its_photographs_and_refuses_others(
    tmp_path: Path, model: Path, other_model: Path, decoded: list[str]
) -> None:
    photos, home = tmp_path / "disk/photos", tmp_path / "disk/gal"
    write_photos(photos, 12)
    updated(photos, directory=home, model=model)
    decoded.clear()
    photos = photos.rename(tmp_path / "disk/moved")
    assert Gallery.open(photos, directory=home).update().images == 12
    (tmp_path / "disk").rename(tmp_path / "mounted elsewhere")  # both together
    photos, home = tmp_path / "mounted elsewhere/moved", tmp_path / "mounted elsewhere/gal"
    again = Gallery.open(home)
    assert again.root == photos
    assert all(hit.file.exists() for hit in again.search("a/000.png", 12))
    assert again.update().images == 12
    assert decoded == []
    assert_holds(again, photos)
    rebuilt, _ = Gallery.rebuild(home, model=other_model)
    assert (rebuilt.root, rebuilt.directory) == (photos, home)
    assert_holds(Gallery.open(home), photos, cells=2)
    (other := tmp_path / "other").mkdir()
    with pytest.raises(GalleryError, match=f"belongs to {photos}, not to {other}"):
        Gallery.open(other, directory=home)


def test_a_gallery_that_was_moved_out_of_its_folder_asks_where_its_images_are(
    gallery: Gallery, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    """It indexed all that lay around it, and the folder that was named was not looked at."""
    (other := tmp_path / "other").mkdir()
    for open_ in (Gallery.open, Gallery.rebuild):
        with pytest.raises(GalleryError, match=f"belongs to {photos}, not to {other}"):
            open_(other, directory=gallery.directory)
    home = gallery.directory.rename(tmp_path / "gal")
    before = listing(home)
    astray = Gallery.open(home)
    assert len(astray.search("a/000.png", 12)) == 12
    for work in (astray.update, lambda: Gallery.rebuild(home)):
        with pytest.raises(GalleryError, match=f"none .* is in {tmp_path}; say where they are: "):
            work()
    assert listing(home) == before
    assert Gallery.open(photos, directory=home).update().images == 12
    again = Gallery.open(home)
    assert (again.root, again.update().moved, decoded) == (photos, 0, [])


def test_a_gallery_takes_no_folder_of_other_files_which_a_rebuild_would_move_away(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    before = listing(photos)
    (folder := tmp_path / "other").mkdir()
    with pytest.raises(GalleryError, match=rf"{photos} .* other files \(a, for instance\)"):
        Gallery.open(folder, directory=photos, model=model)
    assert listing(photos) == before
    write_photos(folder, 12)
    home = updated(folder, directory=tmp_path / "gal", model=model).directory
    (home / "mine.txt").write_text("mine")  # put there later
    with pytest.raises(GalleryError, match=r"other files \(mine.txt, for instance\)"):
        Gallery.rebuild(folder, directory=home, model=model)
    assert (home / "mine.txt").read_text() == "mine"
    assert Gallery.open(home).update().images == 12


def test_nothing_is_made_where_there_is_no_gallery_or_no_folder(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    before = listing(tmp_path)
    with pytest.raises(GalleryError, match="lookalike index"):
        Gallery.open(photos, create=False)
    with pytest.raises(GalleryError, match="is not a folder"):
        Gallery.open(tmp_path / "nowhere", model=model)
    with pytest.raises(GalleryError, match="there is no gallery"):
        Gallery.repair(photos)
    assert listing(tmp_path) == before
