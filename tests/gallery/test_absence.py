"""What looks like a disk that is not mounted is not taken for deletion."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import assert_holds, images_of, updated, write_photo, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery, UpdateReport, update
from lookalike.gallery.report import Absence
from lookalike.images import content_hash

EMPTY = "the folder is empty"
OTHER_DISK = "its disk is gone, or is another one"


@pytest.fixture
def elsewhere(photos: Path, tmp_path: Path, model: Path) -> Gallery:
    """The gallery of `photos`, with its own files beside them."""
    return updated(photos, directory=tmp_path / "gallery", model=model)


def on_disks(monkeypatch: pytest.MonkeyPatch, device_of: Callable[[str], int | None]) -> None:
    """Let folders be on the devices that a function of their path gives; None: as they are."""
    real = os.stat

    def stat(path: Any, *args: Any, **named: Any) -> Any:
        found = real(path, *args, **named)
        device = None if isinstance(path, int) else device_of(os.fsdecode(path))
        if device is None:
            return found
        values = list(found)
        values[2] = device
        names = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        return os.stat_result(values, {name: getattr(found, name) for name in names})

    monkeypatch.setattr(os, "stat", stat)


def counts(report: UpdateReport) -> tuple[int, int, int]:
    return report.images, report.added, report.dropped


def test_an_empty_folder_keeps_everything_until_it_is_accepted(
    elsewhere: Gallery, photos: Path, decoded: list[str]
) -> None:
    elsewhere.remove(["a/000.png"])
    photos.rename(photos.with_name("held"))
    photos.mkdir()
    (photos / ".hidden").touch()
    report = elsewhere.update()
    assert report.absent == [Absence(b"", 11, EMPTY)]
    assert counts(report) == (11, 0, 0)
    shutil.rmtree(photos)
    photos.with_name("held").rename(photos)
    report = elsewhere.update()
    assert (report.images, report.removed, report.absent) == (11, 1, [])
    assert decoded == []
    shutil.rmtree(photos)
    photos.mkdir()
    report = elsewhere.update(accept_missing=True)
    assert (counts(report), report.absent) == ((0, 0, 11), [])


@pytest.mark.parametrize("name", ["photos", "photos/a", "gallery"])
def test_what_goes_while_it_is_read_ends_the_update_and_nothing_is_skipped(
    photos: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A drive that is pulled out: the folder, a disk in it, or the gallery's own."""
    goes, held = tmp_path / name, tmp_path / "held"
    on_disks(monkeypatch, lambda path: 7 if path == os.fspath(photos / "a") else None)
    gallery = Gallery.open(photos, directory=tmp_path / "gallery", model=model)

    def pulled(path: Any) -> bytes:
        with suppress(FileNotFoundError):  # another thread was first
            goes.rename(held)
        return content_hash(path)

    with monkeypatch.context() as patch:
        patch.setattr("lookalike.gallery.update.content_hash", pulled)
        with pytest.raises(GalleryError, match=" is gone, its disk perhaps as well; run the "):
            gallery.update()
    assert not goes.exists()
    held.rename(goes)
    assert gallery.skipped() == []
    assert counts(gallery.update()) == (12, 12, 0)


def test_what_was_taken_out_stays_out_although_its_file_was_gone(
    gallery: Gallery, photos: Path
) -> None:
    content = (photos / "a/000.png").read_bytes()
    gallery.remove(["a/000.png"])
    (photos / "a/000.png").unlink()
    report = gallery.update(accept_missing=True)
    assert (report.images, report.dropped, report.removed) == (11, 0, 1)
    (photos / "a/000.png").write_bytes(content)
    report = gallery.update()
    assert (report.images, report.added, report.removed) == (11, 0, 1)
    gallery.restore(["a/000.png"])
    gallery.update()
    assert_holds(gallery, photos)


@pytest.mark.parametrize("commit", [1, 1024])
def test_a_file_that_was_taken_out_and_moves_stays_out_and_its_copies_come_in(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch, commit: int
) -> None:
    """The first copy took the mark, and the next one's content was known without a vector."""
    monkeypatch.setattr(update, "COMMIT_IMAGES", commit)
    gallery.remove(["a/000.png"])
    for name in ("moved.png", "b/copy.png", "z.png"):
        shutil.copy(photos / "a/000.png", photos / name)
    (photos / "a/000.png").unlink()
    report = gallery.update()
    assert (report.images, report.added, report.moved, report.removed) == (13, 2, 1, 1)
    (out,) = gallery.skipped()
    gallery.restore([os.fsdecode(out.path)])
    assert counts(gallery.update()) == (14, 1, 0)
    assert_holds(gallery, photos)


@pytest.mark.parametrize(
    ("known", "gone", "kept"), [(19, 10, True), (20, 10, False), (9, 9, False)]
)
def test_more_than_half_of_at_least_ten_files_gone_at_once_are_kept(
    tmp_path: Path, model: Path, known: int, gone: int, kept: bool
) -> None:
    files = write_photos(tmp_path / "photos", known)
    gallery = updated(tmp_path / "photos", model=model)
    for file in files[:gone]:
        file.unlink()
    write_photo(tmp_path / "photos/new.png", 99)  # what is there is taken in all the same
    report = gallery.update()
    assert [absence.files for absence in report.absent] == ([gone] if kept else [])
    assert counts(report) == (known + 1 - (0 if kept else gone), 1, 0 if kept else gone)
    report = gallery.update(accept_missing=True)
    assert (report.images, report.absent) == (known + 1 - gone, [])
    assert_holds(gallery, tmp_path / "photos")


@pytest.mark.parametrize("remains", [True, False])
def test_a_disk_below_the_folder_that_is_not_mounted_keeps_its_rows_alone(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str], remains: bool
) -> None:
    write_photo(photos / "disk/in/1.png", 50)
    write_photo(photos / "disk/2.png", 51)
    (photos / "disk/bad.png").write_bytes(b"")
    with monkeypatch.context() as patched:
        on_disks(patched, lambda path: 77 if "/disk" in path else None)
        gallery = updated(photos, model=model)
        gallery.remove(["disk/2.png"])
    (photos / "disk").rename(photos.with_name("held"))
    if remains:  # the mount point
        (photos / "disk").mkdir()
    (photos / "a/000.png").unlink()
    for _ in range(2):
        report = gallery.update()
        assert report.absent == [Absence(b"disk", 2, OTHER_DISK)]
        assert report.images == 12
    decoded.clear()
    if remains:
        (photos / "disk").rmdir()
    photos.with_name("held").rename(photos / "disk")
    with monkeypatch.context() as patched:  # renumbered after a restart
        on_disks(patched, lambda path: 78 if "/disk" in path else None)
        report = gallery.update()
        assert (report.images, report.removed, report.absent) == (12, 1, [])
        assert decoded == []
        write_photo(photos / "disk/3.png", 52)
        assert gallery.update().added == 1
        (photos / "disk/3.png").unlink()  # of a disk that is there
        assert gallery.update().dropped == 1
    shutil.rmtree(photos / "disk")
    assert gallery.update().absent == [Absence(b"disk", 2, OTHER_DISK)]
    report = gallery.update(accept_missing=True)
    assert (report.images, report.dropped, report.absent) == (11, 1, [])
    assert gallery.update().absent == []


def test_another_disk_in_the_folders_place_keeps_everything(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 4)
    gallery = updated(photos, directory=tmp_path / "gallery", model=model)
    shutil.rmtree(photos)
    write_photo(photos / "other.png", 70)
    on_disks(monkeypatch, lambda path: 77 if path.endswith("/photos") else None)
    report = gallery.update()
    assert report.absent == [Absence(b"", 4, OTHER_DISK)]
    assert counts(report) == (5, 1, 0)


def test_a_rebuild_does_not_forget_a_disk_that_is_not_mounted(
    photos: Path, model: Path, other_model: Path, decoded: list[str]
) -> None:
    write_photos(photos, 18)
    gallery = updated(photos, model=model)
    held = photos.with_name("held")
    held.mkdir()
    for name in "ab":
        (photos / name).rename(held / name)
    write_photo(photos / "more.png", 90)
    with pytest.raises(GalleryError, match=r"12 files that the gallery knows are missing") as error:
        Gallery.rebuild(photos, model=other_model)
    assert "--accept-missing" in str(error.value)
    assert len(gallery) == 18
    decoded.clear()
    for name in "ab":
        (held / name).rename(photos / name)
    rebuilt, report = Gallery.rebuild(photos, model=other_model)
    assert (report.images, len(decoded)) == (19, 12)  # goes on where the first ended
    assert_holds(rebuilt, photos, cells=2)
    shutil.rmtree(photos / "a")
    shutil.rmtree(photos / "b")
    rebuilt, report = Gallery.rebuild(photos, model=other_model, accept_missing=True)
    assert set(images_of(photos)) == {hit.path for hit in rebuilt.search("more.png", 20)}
