"""Patterns of what an update leaves out, in the folders and beside the gallery."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import images_of, updated, write_photo, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery


def paths(gallery: Gallery) -> set[str]:
    return {image.path for image in gallery}


def test_an_ignore_file_holds_for_what_is_below_it_as_gits_does(photos: Path, model: Path) -> None:
    write_photo(photos / "a/raw/1.png", 50)
    write_photo(photos / "b/raw/1.png", 51)
    (photos / ".lookalikeignore").write_text("# camera files\nraw/\n/c/00*\n*9.png\n")
    (photos / "a" / ".lookalikeignore").write_text("!009.png\n")
    gallery = Gallery.open(photos, model=model)
    report = gallery.update()
    left_out = {"a/raw/1.png", "b/raw/1.png", "c/002.png", "c/005.png", "c/008.png"}
    assert paths(gallery) == images_of(photos) - left_out
    assert report.ignored == 5
    assert "a/009.png" in paths(gallery)


def test_a_pattern_for_all_in_a_folder_leaves_room_for_exceptions_as_gits_does(
    photos: Path, model: Path
) -> None:
    """`a/**` was taken for the folder itself, and `!c/` for all that is in it."""
    gallery = Gallery.open(photos, model=model)
    gallery.exclude(["*5.png"])
    (photos / ".lookalikeignore").write_text("a/**\n!a/003.png\n!c/\n")
    gallery.update()
    inside = {path for path in images_of(photos) if path[0] != "a"} - {"c/005.png"}
    assert paths(gallery) == inside | {"a/003.png"}


def test_what_is_excluded_later_is_dropped_however_much_it_is(photos: Path, model: Path) -> None:
    write_photos(photos, 40, 100)
    gallery = updated(photos, model=model)
    gallery.exclude(["a/", "b/"])
    report = gallery.update()
    assert report.absent == [] and report.dropped == 27
    assert {path[0] for path in paths(gallery)} == {"c"}
    gallery.exclude(["a/", "!a/"])  # the later one holds
    assert (gallery.directory / "exclude").read_text() == "a/\nb/\n!a/\n"
    assert {path[0] for path in paths(Gallery.open(photos))} == {"c"}
    gallery.update()
    assert {path[0] for path in paths(gallery)} == {"a", "c"}
    again, _ = Gallery.rebuild(photos, model=model)
    assert {path[0] for path in paths(again)} == {"a", "c"}


def test_files_that_are_really_gone_are_still_kept_beside_excluded_ones(
    photos: Path, model: Path
) -> None:
    write_photos(photos, 40, 100)
    gallery = updated(photos, model=model)
    for path in [*photos.glob("b/*"), *photos.glob("c/*")]:
        path.unlink()
    gallery.exclude(["a/00*"])
    report = gallery.update()
    assert sum(absence.files for absence in report.absent) == 26
    assert report.dropped == 4
    assert len(gallery) == 36


def test_a_pattern_or_a_file_that_is_wrong_is_named(gallery: Gallery, photos: Path) -> None:
    for pattern in ("!", "", "a\nb"):
        with pytest.raises(GalleryError, match="pattern"):
            gallery.exclude([pattern])
    assert not (gallery.directory / "exclude").exists()
    (photos / "a" / ".lookalikeignore").write_text("!\n")
    with pytest.raises(GalleryError, match=r"a/\.lookalikeignore"):
        gallery.update()
    assert len(gallery) == 12


def test_folders_and_patterns_are_removed_and_restored(gallery: Gallery, photos: Path) -> None:
    assert gallery.remove(["b", "*3.png"]) == 5
    expected = {path for path in images_of(photos) if path[0] != "b"} - {"a/003.png"}
    assert paths(gallery) == expected
    gallery.update()
    assert paths(gallery) == expected
    assert gallery.restore([photos / "b"]) == 4
    gallery.update()
    assert paths(gallery) == expected | {path for path in images_of(photos) if path[0] == "b"}
    with pytest.raises(GalleryError, match="nothing is not an indexed image"):
        gallery.remove(["c", "nothing"])
    assert "c/002.png" in gallery
