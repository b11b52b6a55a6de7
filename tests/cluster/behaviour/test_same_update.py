"""Changes of a folder that a gallery on disk and one in shards follow alike."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

import pytest
from both import assert_whole, stored_times, stored_vectors
from fakes import counts, images_of, write_photo

from lookalike.errors import GalleryError
from lookalike.gallery import Progress
from lookalike.gallery import update as update_module
from lookalike.gallery.protocol import ImageGallery

CHANGES = ("add", "rewrite", "delete", "move", "copy", "replace", "swap", "touch")


def change(folder: Path, chance: random.Random, number: int) -> None:
    """Do one thing to the images; no two have the same name in different folders."""
    one, other = chance.sample(sorted(folder.rglob("*.png")), 2)
    match chance.choice(CHANGES):
        case "add":
            write_photo(folder / f"new {number}.png", 1000 + number)
        case "rewrite":
            write_photo(one, 1000 + number)
        case "delete":
            one.unlink()
        case "move":
            one.rename(folder / f"c/moved {number}.png")
        case "copy":
            shutil.copy(one, folder / f"b/copy {number}.png")
        case "replace":
            one.replace(other)
        case "swap":
            one.rename(folder / "held")
            other.rename(one)
            (folder / "held").rename(other)
        case "touch":
            os.utime(one, ns=(number, number))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_to_files_an_update_follows_and_decodes_new_content_alone(
    gallery: ImageGallery,
    photos: Path,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", (1, 512)[seed % 2])
    chance, numbers = random.Random(seed), itertools.count(1)
    for _ in range(2):
        known = set(contents(photos).values())
        for _ in range(4):
            change(photos, chance, next(numbers))
        now = contents(photos)
        decoded.clear()
        gallery.update()
        assert {now[name] for name in decoded} == set(now.values()) - known
        assert_whole(gallery, photos)
        times = {name: (photos / name).stat().st_mtime_ns for name in images_of(photos)}
        assert stored_times(gallery) == times
    decoded.clear()
    assert counts(gallery.update()) == {}
    assert decoded == []


def test_an_emptied_folder_leaves_an_empty_gallery(gallery: ImageGallery, photos: Path) -> None:
    for name in "abc":
        shutil.rmtree(photos / name)
    report = gallery.update()  # as if its disk were not mounted
    assert (counts(report), len(report.absent), len(gallery)) == ({}, 1, 12)
    assert counts(gallery.update(accept_missing=True)) == {"dropped": 12}
    assert len(gallery) == 0


def test_a_file_replaced_by_a_damaged_one_is_skipped_and_comes_back_when_fixed(
    gallery: ImageGallery, photos: Path
) -> None:
    path = photos / "a/000.png"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    report = gallery.update()
    assert counts(report) == {"skipped": 1}
    assert [(row.path, row.skipped) for row in report.newly_skipped] == [
        (b"a/000.png", "truncated")
    ]
    assert [row.path for row in gallery.skipped()] == [b"a/000.png"]
    assert "a/000.png" not in stored_vectors(gallery)
    assert "a/000.png" not in {hit.path for hit in gallery.search(good, 12)}

    path.write_bytes(good)
    assert counts(gallery.update()) == {"added": 1}
    assert gallery.skipped() == []
    assert_whole(gallery, photos)


def test_removed_files_stay_out_even_when_they_move(gallery: ImageGallery, photos: Path) -> None:
    assert gallery.remove([photos / "a/000.png", "b/001.png"]) == 2
    assert len(gallery) == 10
    (photos / "a/000.png").rename(photos / "c/renamed.png")
    gallery.update()
    assert {row.path for row in gallery.skipped()} == {b"b/001.png", b"c/renamed.png"}
    assert len(gallery) == 10
    assert not {"a/000.png", "b/001.png", "c/renamed.png"} & set(stored_vectors(gallery))


def test_removing_an_unknown_file_removes_none(gallery: ImageGallery) -> None:
    with pytest.raises(GalleryError, match=r"b/nothing\.png is not an indexed image"):
        gallery.remove(["a/000.png", "b/nothing.png"])
    with pytest.raises(GalleryError, match=r"a/000\.png was not removed"):
        gallery.restore(["a/000.png"])
    assert len(gallery) == 12
    assert gallery.skipped() == []


def test_an_update_that_did_not_finish_leaves_a_mark_until_one_does(
    gallery: ImageGallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not gallery.unfinished()
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", 1)
    for n in range(6):
        write_photo(photos / f"new/{n}.png", 200 + n)

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.update(stop)
    assert gallery.unfinished()
    assert gallery.info().unfinished
    assert len(gallery) == 15
    assert counts(gallery.update()) == {"added": 3}
    assert not gallery.unfinished()
    assert_whole(gallery, photos)
