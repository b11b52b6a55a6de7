from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from fakes import assert_holds

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery, Progress, UpdateReport
from lookalike.gallery import update as update_module
from lookalike.gallery.store import ImageRow, Store


def counts(report: UpdateReport) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("added", "changed", "moved", "dropped", "reused", "skipped")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def test_the_first_update_encodes_every_image_once(
    photos: Path, model: Path, decoded: list[str]
) -> None:
    gallery = Gallery.open(photos, model=model)
    report = gallery.update()
    assert counts(report) == {"added": 12}
    assert (report.images, len(gallery)) == (12, 12)
    assert sorted(decoded) == [f"{n:03}.png" for n in range(12)]
    assert_holds(gallery, photos)


@pytest.mark.parametrize("commit_images", [1, 512])
def test_files_that_swap_their_names_are_not_encoded(
    gallery: Gallery,
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
    assert_holds(gallery, photos)


def test_a_missing_folder_drops_nothing(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    elsewhere = Gallery.open(photos, directory=tmp_path / "elsewhere", model=gallery._model)
    elsewhere.update()
    photos.rename(tmp_path / "unmounted")
    with pytest.raises(GalleryError, match="not mounted"):
        elsewhere.update()
    assert len(elsewhere) == 12


def test_progress_counts_every_file_that_was_read(photos: Path, model: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    seen: list[tuple[int, int, int]] = []
    gallery = Gallery.open(photos, model=model)
    gallery.update(lambda progress: seen.append((progress.done, progress.total, progress.skipped)))
    assert [done for done, _, _ in seen] == list(range(1, 14))
    assert {total for _, total, _ in seen} == {13}
    assert seen[-1] == (13, 13, 1)


def test_a_second_interruption_while_the_first_is_committed_loses_nothing(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.open(photos, model=model)
    put, left = Store.put, [1]

    def interrupted(store: Store, rows: Iterable[ImageRow]) -> None:
        put(store, rows)
        if left and left.pop():
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "put", interrupted)

    def stop(progress: Progress) -> None:
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.update(stop)
    assert left == []
    assert len(gallery) == 7
    assert gallery.verify() == []
