from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import assert_holds, images_of, updated, write_photo

from lookalike.gallery import Gallery, update
from lookalike.gallery.scan import scan
from lookalike.images import SkippedImageError, SkipReason


def names(root: Path, *skip: Path) -> list[str]:
    """What a scan finds; a folder that cannot be listed is an error."""

    def fail(folder: bytes, error: OSError) -> None:
        raise error

    found = scan(os.fsencode(root), fail, *(os.fsencode(path) for path in skip))
    return [os.fsdecode(file.path) for file in found]


def test_hidden_and_junk_files_are_passed_over(tmp_path: Path) -> None:
    write_photo(tmp_path / "seen.png", 1)
    for junk in ("._seen.png", ".hidden.png", ".folder/inside.png", "Thumbs.db", ".DS_Store"):
        write_photo(tmp_path / junk, 2)
    for folder in ("@eaDir/seen.png", "a/@Recycle", "#recycle", "$RECYCLE.BIN"):
        write_photo(tmp_path / folder / "thumbnail.png", 2)
    write_photo(tmp_path / "a/#recycled.png", 3)
    (tmp_path / "notes.txt").write_text("no image")
    assert names(tmp_path) == ["seen.png", "a/#recycled.png"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_photo(tmp_path / "top/a/1.png", 1)
    (tmp_path / "top/a/up").symlink_to("..")
    (tmp_path / "top/self").symlink_to("self")
    (tmp_path / "top/a/here").symlink_to(tmp_path / "top/a")
    assert names(tmp_path / "top") == ["a/1.png"]


def test_a_linked_folder_is_listed_once_under_its_real_name(tmp_path: Path) -> None:
    write_photo(tmp_path / "z real/1.png", 1)
    write_photo(tmp_path / "outside/2.png", 2)
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "z real").rename(top / "z real")
    (top / "a link").symlink_to("z real")
    (top / "b link").symlink_to(tmp_path / "outside")
    (top / "c link").symlink_to(tmp_path / "outside")
    assert names(top) == ["z real/1.png", "b link/2.png"]


def test_the_gallerys_own_folder_is_passed_over(photos: Path, model: Path) -> None:
    gallery = Gallery.open(photos, directory=photos / "gallery", model=model)
    write_photo(photos / "gallery/looks like an image.png", 1)
    assert gallery.update().images == 12


@pytest.mark.parametrize(("folder", "dropped"), [(b"b", 1), (b"", 0)])
def test_a_folder_that_cannot_be_listed_keeps_its_images(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch, folder: bytes, dropped: int
) -> None:
    real = os.scandir

    def refuse(path: Any) -> Any:
        if Path(os.fsdecode(path)) == photos / os.fsdecode(folder):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    (photos / "a/000.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        report = gallery.update()
    assert report.unlisted == [(folder, "Permission denied")]
    assert (report.dropped, report.images) == (dropped, 12 - dropped)
    gallery.update()
    assert_holds(gallery, photos)


def with_status(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, Any], Any]) -> None:
    """Let every stat, also those of directory entries, give what ``change(path, status)`` does."""
    real_scandir, real_stat = os.scandir, os.stat

    def changed(entry: os.DirEntry[bytes]) -> SimpleNamespace:
        own = {name: getattr(entry, name) for name in ("name", "path", "is_symlink", "is_dir")}
        return SimpleNamespace(stat=lambda: change(os.fsdecode(entry.path), entry.stat()), **own)

    def stat(path: Any, *args: Any, **named: Any) -> Any:
        found = real_stat(path, *args, **named)
        own = isinstance(path, int) or ".lookalike" in os.fsdecode(path)  # compared with fstat
        return found if own else change(os.fsdecode(path), found)

    def scandir(path: Any) -> Any:
        if not isinstance(path, bytes):
            return real_scandir(path)
        return nullcontext([changed(entry) for entry in real_scandir(path)])

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "stat", stat)


def altered(status: os.stat_result, **fields: int) -> SimpleNamespace:
    """A stat result of which some fields are replaced."""
    own = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
    return SimpleNamespace(**{**own, **fields})


@pytest.mark.parametrize("number", [0, 7])
def test_inode_numbers_that_are_all_equal_hide_nothing(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_photo(tmp_path / "outside/1.png", 50)
    (photos / "link").symlink_to(tmp_path / "outside")
    (photos / "again").symlink_to(tmp_path / "outside")
    (photos / "a/up").symlink_to("..")
    expected = sorted([*images_of(photos), "again/1.png"])
    with_status(monkeypatch, lambda _, status: altered(status, st_ino=number))
    assert sorted(names(photos)) == expected
    gallery = Gallery.open(photos, model=model)
    assert gallery.update().images == 13
    report = gallery.update()
    assert (report.images, report.added, report.changed) == (13, 0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("st_mtime_ns", 10**20),
        ("st_mtime_ns", -(10**20)),
        ("st_ctime_ns", 1 << 63),
        ("st_ino", (1 << 64) - 1),
        ("st_size", 1 << 70),
    ],
)
def test_values_of_the_file_system_beyond_64_bits_stop_nothing(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: int
) -> None:
    """Searches assume that the file is unchanged; only its content could prove it."""

    def change(path: str, status: Any) -> Any:
        return altered(status, **{field: value}) if path.endswith("a/000.png") else status

    with_status(monkeypatch, change)
    gallery = Gallery.open(photos, model=model)
    assert gallery.update().added == 12
    report = gallery.update()
    assert (report.images, report.added, report.changed, report.skipped) == (12, 0, 0, 0)
    assert gallery.search("a/000.png", 1)[0].path == "a/000.png"
    assert gallery.verify(contents=True) == []


@pytest.mark.parametrize(
    ("refused", "code", "listed"),
    [
        (".*/a/.*", errno.EACCES, [b"a"]),  # a folder that can be listed, but not entered
        (".*(a/000.png|a/deep|notes.txt)", errno.EACCES, [b"a/000.png", b"a/deep"]),
        (".*(a/000.png|a/deep|notes.txt)", errno.EIO, [b"a/000.png", b"a/deep"]),
    ],
)
def test_what_cannot_be_looked_at_is_reported_and_kept(
    photos: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    decoded: list[str],
    refused: str,
    code: int,
    listed: list[bytes],
) -> None:
    write_photo(photos / "a/deep/inside.png", 30)
    (photos / "a/notes.txt").write_text("")
    gallery = updated(photos, model=model)
    decoded.clear()

    def change(path: str, status: Any) -> Any:
        if re.fullmatch(refused, path):
            raise OSError(code, os.strerror(code), path)
        return status

    with monkeypatch.context() as patched:
        with_status(patched, change)
        report = gallery.update()
    assert report.unlisted == [(path, os.strerror(code)) for path in listed]
    assert (report.images, report.dropped, report.skipped) == (13, 0, 0)
    assert gallery.update().images == 13
    assert decoded == []
    assert_holds(gallery, photos)


def test_a_path_beyond_the_systems_limit_is_reported(gallery: Gallery, photos: Path) -> None:
    """Made step by step, since no call takes a path of this length."""
    here = os.open(photos, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=here)
        here, before = os.open("x" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(before)
    os.close(here)
    report = gallery.update()
    ((path, why),) = report.unlisted
    assert (path.startswith(b"xxx"), why) == (True, "File name too long")
    assert report.images == 12
    shutil.rmtree(photos / ("x" * 250))


def test_a_link_that_leads_to_nothing_any_more_keeps_what_was_behind_it(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    write_photo(tmp_path / "disk/1.png", 50)
    (photos / "disk").symlink_to(tmp_path / "disk")
    (photos / "other").symlink_to(tmp_path / "never there")
    (photos / "one.png").symlink_to(tmp_path / "disk/1.png")
    gallery = updated(photos, model=model)
    (tmp_path / "disk").rename(tmp_path / "not mounted")
    report = gallery.update()
    assert report.unlisted == [
        (b"disk", "the link leads to nothing"),
        (b"one.png", "the file is gone, or a link points to nothing"),
    ]
    assert (report.images, report.dropped) == (14, 0)
    (photos / "disk").unlink()
    (photos / "one.png").unlink()
    report = gallery.update()
    assert (report.images, report.dropped, report.unlisted) == (12, 2, [])


def test_an_indexed_file_that_cannot_be_read_any_more_keeps_its_vector(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(photos / "a/000.png", ns=(1, 1))

    def refuse(path: Any) -> bytes:
        raise SkippedImageError(SkipReason.UNREADABLE, "it cannot be read (Input/output error)")

    with monkeypatch.context() as patched:
        patched.setattr(update, "content_hash", refuse)
        report = gallery.update()
    assert report.unlisted == [(b"a/000.png", "it cannot be read (Input/output error)")]
    assert (report.images, report.skipped) == (12, 0)
    assert_holds(gallery, photos)
    assert gallery.update().unlisted == []


def test_galleries_are_known_by_what_they_hold_and_not_entered(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    updated(photos, directory=photos / "b/other", model=model)
    write_photo(photos / "b/other/thumbnails/0-128-1.png", 60)
    shutil.copytree(photos / "b/other", photos / "c/half")
    (photos / "c/half/gallery.json").unlink()
    shutil.copytree(photos / "b/other", photos / "c/rest")
    (photos / "c/rest/gallery.sqlite").write_bytes(b"")
    write_photo(photos / "c/mine/1.png", 61)
    (photos / "c/mine/gallery.json").write_text('{"format": "of something else"}')
    (photos / "c/mine/gallery.sqlite").mkdir()
    Gallery.open(photos / "a", model=model).update()
    (photos / "b/.lookalike").mkdir()
    assert "c/mine/1.png" in names(photos) and len(names(photos)) == 13
    report = Gallery.open(photos, model=model).update()
    assert report.galleries == [b"b/other", b"c/half", b"c/rest"]
    assert (report.nested, report.images) == ([b"a"], 13)
