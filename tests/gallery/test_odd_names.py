from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import lookalike
from fakes import updated

from lookalike.errors import GalleryError


def test_a_name_in_another_unicode_form_finds_the_image(photos: Path, model: Path) -> None:
    shutil.move(photos / "a/000.png", photos / "a/caf\u00e9.png")
    gallery = updated(photos, model=model)
    (hit,) = gallery.search("a/cafe\u0301.png", 1)
    assert hit.path == "a/caf\u00e9.png"
    assert gallery.remove([photos / "a/cafe\u0301.png"]) == 1


def test_both_unicode_forms_of_a_name_are_two_files(photos: Path, model: Path) -> None:
    composed, apart = "caf\u00e9.png", "cafe\u0301.png"
    (photos / "a/000.png").rename(photos / composed)
    (photos / "b/001.png").rename(photos / apart)
    if len(set(os.listdir(photos)) & {composed, apart}) < 2:
        pytest.skip("this file system keeps one form only")
    gallery = updated(photos, model=model)
    for name in (composed, apart):
        assert gallery.search(name, 1)[0].path == name
        assert {hit.path for hit in gallery.search(name, 12, filter=name)} == {composed, apart}


def test_a_link_to_itself_is_dismissed_as_index_says(photos: Path, model: Path) -> None:
    (photos / "loop.png").symlink_to("loop.png")
    gallery = updated(photos, model=model)
    assert [row.path for row in gallery.skipped()] == [b"loop.png"]
    assert gallery.remove([photos / "loop.png"]) == 1
    assert gallery.update().skipped == 0
    with pytest.raises(GalleryError, match=r"loop\.png is not a folder"):
        gallery.duplicates(reference="loop.png")


def test_a_folder_that_may_not_be_entered_hides_no_other_images(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rights are forged, since root may enter any folder."""
    for folder in ("copies", "closed"):
        shutil.copytree(photos / "a", photos / folder)
    gallery = updated(photos, model=model)

    def forbidden(call: Any) -> Any:
        def stat(path: Any, *more: Any, **names: Any) -> Any:
            if not isinstance(path, int) and b"/closed/" in os.fsencode(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *more, **names)

        return stat

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, forbidden(getattr(os, name)))
    groups, names = gallery.duplicates(), sorted(os.listdir(photos / "a"))
    going = {item.path for group in groups for item in group.duplicates}
    assert going == {f"copies/{name}" for name in names}
    assert groups.changed == tuple(f"closed/{name}" for name in names)
    done = lookalike("search", f"a/{names[0]}", "-k", "3", "--paths", "--exact", cwd=photos)
    found = {f"{folder}/{names[0]}" for folder in ("a", "copies", "closed")}
    assert set(done.stdout.split()) == found
    assert "1 file of these is not where it was" in done.stderr
