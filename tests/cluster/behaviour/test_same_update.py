"""Changes of a folder that a gallery on disk and one in shards follow alike."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from both import assert_whole, counts, stored_times, stored_vectors
from fakes import write_photo

from lookalike.errors import GalleryError
from lookalike.gallery import Progress
from lookalike.gallery import update as update_module
from lookalike.gallery.protocol import ImageGallery


def test_an_update_without_changes_decodes_nothing(
    gallery: ImageGallery, decoded: list[str]
) -> None:
    assert counts(gallery.update()) == {}
    assert decoded == []


def test_new_files_alone_are_encoded(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    write_photo(photos / "new.png", 100)
    assert counts(gallery.update()) == {"added": 1}
    assert decoded == ["new.png"]
    assert_whole(gallery, photos)


def test_a_file_of_new_content_is_encoded_again(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    write_photo(photos / "a/000.png", 101)
    assert counts(gallery.update()) == {"changed": 1}
    assert decoded == ["000.png"]
    assert_whole(gallery, photos)


def test_a_file_that_was_only_touched_is_not_decoded(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    os.utime(photos / "a/000.png", ns=(1, 1))
    assert counts(gallery.update()) == {}
    assert decoded == []
    assert stored_times(gallery)["a/000.png"] == 1  # so that the next does not even read it
    assert_whole(gallery, photos)


def test_deleted_files_are_dropped(gallery: ImageGallery, photos: Path, decoded: list[str]) -> None:
    shutil.rmtree(photos / "b")
    assert counts(gallery.update()) == {"dropped": 4}
    assert decoded == []
    assert_whole(gallery, photos)
    assert len(gallery) == 8


def test_an_emptied_folder_leaves_an_empty_gallery(gallery: ImageGallery, photos: Path) -> None:
    for name in "abc":
        shutil.rmtree(photos / name)
    report = gallery.update()  # as if its disk were not mounted
    assert (counts(report), len(report.absent), len(gallery)) == ({}, 1, 12)
    assert counts(gallery.update(accept_missing=True)) == {"dropped": 12}
    assert len(gallery) == 0


def test_moved_and_renamed_files_keep_their_vector(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    (photos / "a").rename(photos / "albums")
    (photos / "b/001.png").rename(photos / "c/other name.png")
    assert counts(gallery.update()) == {"moved": 5}
    assert decoded == []
    assert_whole(gallery, photos)


def test_copies_share_the_vector_of_the_original(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    shutil.copy(photos / "a/000.png", photos / "copy.png")
    shutil.copy(photos / "a/000.png", photos / "b/copy.png")
    assert counts(gallery.update()) == {"added": 2, "reused": 2}
    assert decoded == []
    assert_whole(gallery, photos)


@pytest.mark.parametrize("new_name", ["0 before.png", "z after.png"])
def test_a_new_file_in_the_place_of_a_moved_one_is_all_that_is_encoded(
    gallery: ImageGallery, photos: Path, decoded: list[str], new_name: str
) -> None:
    (photos / "b/001.png").rename(photos / new_name)
    write_photo(photos / "b/001.png", 102)
    assert counts(gallery.update()) == {"changed": 1, "added": 1, "reused": 1}
    assert decoded == ["001.png"]
    assert_whole(gallery, photos)


@pytest.mark.parametrize("commit_images", [1, 512])
def test_files_that_swap_their_names_are_not_encoded(
    gallery: ImageGallery,
    photos: Path,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    commit_images: int,
) -> None:
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", commit_images)
    (photos / "a/000.png").rename(photos / "held")
    (photos / "b/001.png").rename(photos / "a/000.png")
    (photos / "held").rename(photos / "b/001.png")
    os.utime(photos / "a/000.png", ns=(1, 1))
    os.utime(photos / "b/001.png", ns=(1, 1))
    assert counts(gallery.update()) == {"changed": 2, "reused": 2}
    assert decoded == []
    assert_whole(gallery, photos)


def test_a_file_moved_onto_another_replaces_it(
    gallery: ImageGallery, photos: Path, decoded: list[str]
) -> None:
    (photos / "a/000.png").replace(photos / "b/001.png")
    assert counts(gallery.update()) == {"moved": 1}
    assert decoded == []
    assert_whole(gallery, photos)


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
