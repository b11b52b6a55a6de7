from __future__ import annotations

from pathlib import Path

import pytest
from fakes import write_photo, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "outside.png", 77)


def test_an_empty_gallery_finds_nothing(tmp_path: Path, model: Path, outside: Path) -> None:
    (tmp_path / "empty").mkdir()
    gallery = Gallery.open(tmp_path / "empty", model=model)
    assert gallery.search(outside, 3) == []
    assert gallery.search(outside, 3, filter="*", threshold=0.5, exclude_self=True) == []
    assert gallery.duplicates() == []
    assert gallery.update().images == 0
    assert gallery.search(outside, 3) == []
    facts = gallery.info()
    assert (facts.images, facts.skipped, facts.pairs) == (0, 0, None)
    assert gallery.verify() == []


def test_tuning_a_small_gallery_takes_force_and_can_be_undone(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 60)
    gallery = Gallery.open(folder, model=model)
    with pytest.raises(GalleryError, match="cannot tune: the index holds 0 items"):
        gallery.tune(force=True)
    gallery.update()
    before = gallery.info()
    assert before.tuning is None
    with pytest.raises(GalleryError, match="has 60 images; below 10,000"):
        gallery.tune()
    with pytest.raises(GalleryError, match=r"cannot tune: target_recall is 2"):
        gallery.tune(2, force=True)
    for target in (0.9, 1.0):  # both times the settings from before the first are noted
        report = gallery.tune(target, 5, force=True)
        facts = gallery.info()
        assert facts.lsh == report.settings != before.lsh
        recall = report.expected.recall
        assert facts.tuning == {"target_recall": target, "k": 5, "recall": recall, "images": 60}
    assert gallery.reset_tuning() == before.lsh
    again = Gallery.open(folder)
    assert (again.info().lsh, again.info().tuning) == (before.lsh, None)
    assert again.verify() == []
    assert len(again.search("a/000.png", 60)) == 60
