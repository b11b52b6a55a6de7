from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from fakes import write_photo, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery, Hit


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


def test_a_hit_shows_itself_in_words_and_as_json() -> None:
    hit = Hit("a.png", Path("/p/a.png"), 0.9126, 31, 256, 0.99812, 7, 4, 3, "PNG")
    assert hit.describe() == "0.913, 31 of 256 bits differ, closer than 99.812 % of pairs"
    assert hit.as_dict() == {
        "path": "a.png",
        "file": "/p/a.png",
        "cosine": 0.9126,
        "bits": 31,
        "code_bits": 256,
        "rarity": 0.99812,
        "id": 7,
        "width": 4,
        "height": 3,
        "format": "PNG",
    }


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


def test_a_pickled_gallery_answers_as_the_first(gallery: Gallery, outside: Path) -> None:
    gallery.search(outside, 3)  # with the model and the files open
    other = pickle.loads(pickle.dumps(gallery))
    assert other.search(outside, 9, exact=True) == gallery.search(outside, 9, exact=True)
    assert other.info() == gallery.info()


def test_asking_for_more_than_any_gallery_holds_gives_what_there_is(
    gallery: Gallery, outside: Path
) -> None:
    assert len(gallery.search(outside, 10**12)) == len(gallery)
