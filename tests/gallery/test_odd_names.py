from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fakes import embedding, updated, vectors_of
from hostile import make_good_files, make_hostile_files

from lookalike.gallery import Gallery


@pytest.mark.slow
def test_every_good_file_is_indexed_and_every_bad_one_listed_with_its_reason(
    tmp_path: Path, model: Path
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    expected = make_hostile_files(bad)
    made = make_good_files(good)
    report = Gallery.open(tmp_path, model=model).update()
    gallery = Gallery.open(tmp_path, create=False)

    listed = {os.fsdecode(row.path): row.skipped for row in gallery.skipped()}
    folders = {path for path in expected if path.is_dir()}  # entered, not read
    assert listed == {
        path.relative_to(tmp_path).as_posix(): str(reason)
        for path, reason in expected.items()
        if path not in folders
    }
    assert all(row.detail and row.remedy for row in gallery.skipped())
    stored = vectors_of(gallery)
    assert set(stored) == {path.relative_to(tmp_path).as_posix() for path in made}
    assert (report.images, report.skipped) == (len(made), len(listed))
    assert len(listed) >= 20

    for path in made:  # each name leads to its own image, by every spelling of the path
        name = path.relative_to(tmp_path).as_posix()
        assert stored[name] @ embedding(path) == pytest.approx(1, abs=2e-3)
        for query in (path, name):
            (hit,) = gallery.search(query, 1, exact=True)
            assert hit.path == name
            assert hit.cosine == pytest.approx(1, abs=2e-3)


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
