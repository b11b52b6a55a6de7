from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from fakes import HALF, assert_holds, counts, embedding, updated, vectors_of
from hostile import encode, photo

from lookalike.errors import GalleryError, LookalikeError
from lookalike.gallery import Gallery, Progress
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Store
from lookalike.gallery.update import why_skipped
from lookalike.images import SkippedImageError, SkipReason


def test_a_missing_folder_drops_nothing(photos: Path, tmp_path: Path, model: Path) -> None:
    elsewhere = updated(photos, directory=tmp_path / "elsewhere", model=model)
    photos.rename(tmp_path / "unmounted")
    with pytest.raises(GalleryError, match="not mounted"):
        elsewhere.update()
    assert len(elsewhere) == 12


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


def test_files_of_equal_size_and_time_that_exchange_their_names_are_noticed(
    tmp_path: Path, model: Path, decoded: list[str]
) -> None:
    """As unpacked from an archive."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, number in (("first", 0), ("second", 1), ("third", 0)):
        (folder / f"{name}.bmp").write_bytes(encode(photo(number, 48, 64), "BMP"))
        os.utime(folder / f"{name}.bmp", (10**9, 10**9))
    gallery = updated(folder, model=model)
    for old, new in (("second", "held"), ("third", "second"), ("held", "third")):
        (folder / f"{old}.bmp").rename(folder / f"{new}.bmp")
    # before the update: what it holds is known by its old name
    hit = gallery.search(folder / "third.bmp", 1)[0]
    assert (hit.path, round(hit.cosine, 3)) == ("second.bmp", 1)
    decoded.clear()
    assert counts(gallery.update()) == {"changed": 2, "reused": 2}
    for name, vector in vectors_of(gallery).items():
        np.testing.assert_allclose(vector, embedding(folder / name), atol=HALF)
    assert decoded == []
    assert gallery.update().changed == 0
    assert gallery.verify(contents=True) == []


def test_a_file_whose_permissions_changed_is_read_but_not_encoded(
    gallery: Gallery, photos: Path, decoded: list[str]
) -> None:
    (photos / "a/000.png").chmod(0o600)
    os.link(photos / "b/001.png", photos.with_name("second name"))
    progress: list[Progress] = []
    assert counts(gallery.update(progress.append)) == {}
    assert [step.total for step in progress] == [2, 2]
    assert counts(gallery.update(progress.append)) == {}
    assert (len(progress), decoded) == (2, [])


def test_a_copy_of_a_gallery_on_another_disk_is_read_once_and_not_encoded(
    gallery: Gallery, photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    copy = Gallery.open(tmp_path / "copy", create=False)
    progress: list[Progress] = []
    assert counts(copy.update(progress.append)) == {}
    assert counts(copy.update(progress.append)) == {}
    assert (len(progress), decoded) == (12, [])
    assert_holds(copy, tmp_path / "copy")


def test_a_reason_that_is_not_text_goes_into_the_table() -> None:
    """Names of files, in messages of the system, need not be UTF-8."""
    error = SkippedImageError(SkipReason.DAMAGED, "bad \udcff", "look at a\udc80.png")
    assert why_skipped(error) == ("damaged", "bad \\udcff", "look at a\\udc80.png")
    assert why_skipped(LookalikeError("\udcff")) == (
        "failed",
        "\\udcff",
        "report it, with the file",
    )
