from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import assert_holds, images_of, write_photo

from lookalike.gallery import Gallery
from lookalike.gallery.scan import scan


def names(root: Path, *skip: Path) -> list[str]:
    """What a scan finds; a folder that cannot be listed is an error."""

    def fail(folder: bytes, error: OSError) -> None:
        raise error

    found = scan(os.fsencode(root), fail, *(os.fsencode(path) for path in skip))
    return [os.fsdecode(file.path) for file in found]


def test_size_and_time_are_those_of_the_file(photos: Path) -> None:
    for file in scan(os.fsencode(photos), lambda *_: None):
        status = (photos / os.fsdecode(file.path)).stat()
        assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_files_come_in_the_same_order_whatever_the_file_system(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = names(photos)
    assert expected == sorted(images_of(photos))
    real = os.scandir

    class Backwards:
        def __init__(self, path: bytes) -> None:
            with real(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> list[os.DirEntry[bytes]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert names(photos) == expected


def test_hidden_and_junk_files_are_passed_over(tmp_path: Path) -> None:
    write_photo(tmp_path / "seen.png", 1)
    for junk in ("._seen.png", ".hidden.png", ".folder/inside.png", "Thumbs.db", ".DS_Store"):
        write_photo(tmp_path / junk, 2)
    (tmp_path / "notes.txt").write_text("no image")
    assert names(tmp_path) == ["seen.png"]


def test_a_folder_named_like_an_image_is_entered(tmp_path: Path) -> None:
    write_photo(tmp_path / "folder.jpg/inside.png", 1)
    assert names(tmp_path) == ["folder.jpg/inside.png"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_photo(tmp_path / "top/a/1.png", 1)
    (tmp_path / "top/a/up").symlink_to("..")
    (tmp_path / "top/self").symlink_to("self")
    (tmp_path / "top/a/here").symlink_to(tmp_path / "top/a")
    assert names(tmp_path / "top") == ["a/1.png"]


def test_links_to_folders_above_are_not_followed(tmp_path: Path) -> None:
    write_photo(tmp_path / "beside/2.png", 2)
    write_photo(tmp_path / "top/1.png", 1)
    (tmp_path / "top/up").symlink_to("..")
    (tmp_path / "top/root").symlink_to("/")
    assert names(tmp_path / "top") == ["1.png"]


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
    write_photo(photos / "gallery/looks like an image.png", 1)
    assert "gallery/looks like an image.png" in names(photos)
    gallery = Gallery.open(photos, directory=photos / "gallery", model=model)
    assert gallery.update().images == 12


def test_a_folder_that_cannot_be_listed_keeps_its_images(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: Any) -> Any:
        if os.fsencode(path).endswith(b"/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    (photos / "a/000.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        report = gallery.update()
    assert report.unlisted == [(b"b", "Permission denied")]
    assert (report.dropped, report.images) == (1, 11)
    assert_holds(gallery, photos)


def test_a_root_that_cannot_be_listed_keeps_everything(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = gallery.update()
    assert report.unlisted == [(b"", "Permission denied")]
    assert (report.dropped, report.images) == (0, 12)
