from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fakes import updated


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
