"""Changes of a gallery in a cluster: to the parts first, whole or finished by the next writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from both import assert_whole, counts, stored_vectors
from fakes import images_of, write_photo, write_photos
from served import interrupt, load_parts, opened, serve, skipped_of
from servers import Servers

from lookalike.cluster import updating
from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.embed.chunk import embed_batch
from lookalike.cluster.embed.embedding import embed_here, prepare
from lookalike.cluster.gallery import ClusterGallery
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.relisting import check_here
from lookalike.errors import GalleryError, GalleryLockedError, ModelMismatchError


def change_much(gallery: ClusterGallery, photos: Path) -> None:
    """Add, change, move, copy, delete, damage, take out and bring back."""
    write_photo(photos / "new.png", 100)
    write_photo(photos / "a/000.png", 101)
    (photos / "b/001.png").rename(photos / "moved.png")
    (photos / "copy.png").write_bytes((photos / "c/002.png").read_bytes())
    (photos / "a/003.png").unlink()
    (photos / "b/004.png").write_bytes(b"no picture")
    gallery.update()
    gallery.remove(["c/005.png", "a/006.png", "b/004.png"])
    gallery.restore(["a/006.png"])
    gallery.update()


def test_loading_the_parts_anew_gives_what_all_changes_have_left(
    served: ClusterGallery, photos: Path, where: Path, uri: str
) -> None:
    change_much(served, photos)
    vectors, skipped = stored_vectors(served), skipped_of(served)
    assert set(vectors) == images_of(photos) - {"c/005.png", "b/004.png"}
    assert skipped == {"b/004.png": "removed", "c/005.png": "removed"}
    hits = served.search("new.png", 50)
    load_parts(where, uri)
    again = opened(uri)
    assert again.info().generation == 2
    for path, vector in stored_vectors(again).items():
        np.testing.assert_array_equal(vector, vectors.pop(path))
    assert not vectors
    assert skipped_of(again) == skipped
    found = [(hit.path, hit.cosine, hit.bits) for hit in again.search("new.png", 50)]
    assert found == [(hit.path, hit.cosine, hit.bits) for hit in hits]


def test_without_vectors_a_file_that_moved_is_one_gone_and_one_new(
    photos: Path, where: Path, uri: str, model: Path
) -> None:
    served = serve(photos, where, uri, model, vectors="none")
    (photos / "a/000.png").rename(photos / "c/moved.png")
    assert counts(served.update()) == {"added": 1, "dropped": 1}
    assert served.search("c/moved.png", 1)[0].path == "c/moved.png"
    assert len(served) == 12


def test_a_missing_folder_drops_nothing(
    served: ClusterGallery, photos: Path, tmp_path: Path
) -> None:
    photos.rename(tmp_path / "unmounted")
    with pytest.raises(GalleryError, match="not mounted"):
        served.update()
    assert len(served) == 12


def test_an_update_reads_the_list_that_the_parts_were_made_of(
    photos: Path, where: Path, uri: str, model: Path
) -> None:
    listing = photos / "chosen.txt"
    listing.write_text("a/000.png\nb/001.png\n")
    served = serve(listing, where, uri, model)
    assert counts(served.update()) == {}
    listing.write_text("a/000.png\nc/002.png\n")
    assert counts(served.update()) == {"added": 1, "dropped": 1}
    assert set(stored_vectors(served)) == {"a/000.png", "c/002.png"}


def test_pair_statistics_follow_a_tenth_of_the_images(served: ClusterGallery, photos: Path) -> None:
    before = served.info().pairs
    assert before is not None
    write_photos(photos / "more", 6, first_seed=400)
    served.update()
    after = served.info().pairs
    assert after is not None
    assert (before.images, after.images) == (12, 18)
    assert after.newest_id > before.newest_id


# ---- what a killed writer leaves -----------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["put", "delete", "mark_loaded"])
def test_the_next_writer_finishes_what_one_that_was_killed_had_begun(
    served: ClusterGallery,
    photos: Path,
    uri: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    after: bool,
) -> None:
    write_photo(photos / "a/000.png", 101)
    write_photo(photos / "new.png", 102)
    with monkeypatch.context() as patched:
        patched.setattr(Collection, method, interrupt(getattr(Collection, method), after=after))
        with pytest.raises(KeyboardInterrupt):
            served.update()
    paths = [hit.path for hit in served.search((photos / "b/001.png").read_bytes(), 50)]
    assert len(paths) == len(set(paths)) >= 11
    again = opened(uri, model)
    assert counts(again.update()) == {}
    assert_whole(again, photos)
    scanned = again._index.collection.connection.scan(f"r:{again._index.collection.name}:1:*")
    assert len(set(scanned)) == 13


@pytest.mark.parametrize("method", ["put", "delete", "drop_skipped"])
def test_a_removal_that_was_cut_short_is_finished_by_the_next_writer(
    served: ClusterGallery, photos: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Collection, method, interrupt(getattr(Collection, method), after=False))
        with pytest.raises(KeyboardInterrupt):
            served.remove(["a/000.png"])
    report = served.update()
    assert (report.images, report.removed) == (11, 1)
    assert skipped_of(served) == {"a/000.png": "removed"}
    assert "a/000.png" not in stored_vectors(served)


def test_the_death_of_a_server_stops_neither_searches_nor_changes(
    served: ClusterGallery, servers: Servers, photos: Path, name: str
) -> None:
    before = served.search("a/000.png", 12)
    write_photo(photos / "new.png", 100)
    try:
        servers.kill(servers.master_of(Keys(name, 1, 1).record(before[1].id)))
        assert served.search("a/000.png", 12) == before
        assert counts(served.update()) == {"added": 1}
        assert_whole(served, photos)
    finally:
        servers.heal()
    assert_whole(served, photos)


# ---- what is refused -----------------------------------------------------------------------------

Change = Callable[[ClusterGallery], object]
CHANGES: dict[str, Change] = {
    "update": lambda gallery: gallery.update(),
    "remove": lambda gallery: gallery.remove(["a/000.png"]),
    "restore": lambda gallery: gallery.restore(["a/000.png"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_without_the_parts_nothing_is_changed(
    served: ClusterGallery,
    photos: Path,
    where: Path,
    uri: str,
    model: Path,
    tmp_path: Path,
    change: Change,
) -> None:
    write_photo(photos / "new.png", 100)
    where.rename(tmp_path / "elsewhere")
    with pytest.raises(GalleryError, match=rf"nothing was changed: .*{where} .*\?parts=DIR"):
        change(served)
    assert len(served) == 12
    assert served.search("a/000.png", 1)[0].path == "a/000.png"
    there = opened(f"{uri}?parts={tmp_path / 'elsewhere'}", model)
    assert counts(there.update()) == {"added": 1}
    assert served.search("new.png", 1)[0].path == "new.png"


def test_the_parts_of_another_job_are_refused(
    served: ClusterGallery, photos: Path, uri: str, model: Path, tmp_path: Path
) -> None:
    file = os.fspath(model)
    embed_here(prepare(os.fspath(photos), str(tmp_path / "others"), model=file, seed=3), model=file)
    other = opened(f"{uri}?parts={tmp_path / 'others'}", model)
    with pytest.raises(GalleryError, match=r"nothing was changed: .* are not those of"):
        other.remove(["a/000.png"])
    assert len(served) == 12


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_one_writes_at_a_time(
    served: ClusterGallery, photos: Path, where: Path, name: str, change: Change
) -> None:
    write_photo(photos / "new.png", 100)
    before = sorted(os.listdir(where))
    with (
        WriterLock(served._index.collection.connection, name),
        pytest.raises(GalleryLockedError, match=f"being written by process {os.getpid()} on"),
    ):
        change(served)
    assert sorted(os.listdir(where)) == before
    assert len(served) == 12


def test_another_model_changes_nothing(
    served: ClusterGallery, photos: Path, where: Path, uri: str, other_model: Path
) -> None:
    write_photo(photos / "new.png", 100)
    before = sorted(os.listdir(where))
    for gallery in (opened(uri, other_model), opened(uri)):  # that one has the default model
        with pytest.raises(ModelMismatchError, match="pooled 1"):
            gallery.update()
    assert sorted(os.listdir(where)) == before
    assert (len(served), served.unfinished()) == (12, False)


def test_a_gallery_of_a_table_is_searched_but_not_updated(
    photos: Path, where: Path, uri: str, model: Path, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted(images_of(photos))
    content = [(photos / name).read_bytes() for name in names]
    table = pa.table({"path": [f"row of {name}" for name in names], "bytes": content})
    pq.write_table(table, tmp_path / "table.parquet")
    served = serve(tmp_path / "table.parquet", where, uri, model)
    assert served.search("row of a/000.png", 1)[0].path == "row of a/000.png"
    assert served.search(photos / "b/001.png", 1)[0].path == "row of b/001.png"
    with pytest.raises(GalleryError, match="only a gallery of files on this machine"):
        served.update()
    assert served.remove(["row of a/000.png"]) == 1
    assert len(served) == 11


def test_a_gallery_of_files_elsewhere_is_not_updated() -> None:
    with pytest.raises(GalleryError, match=r"on this machine .* is of s3://bucket/photos; embed"):
        check_here("s3://bucket/photos")


def test_a_change_ends_the_mark_of_an_update_that_was_killed(
    served: ClusterGallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(photos / "new.png", 100)
    with monkeypatch.context() as patched:
        patched.setattr(updating, "embed_batch", interrupt(embed_batch, after=False))
        with pytest.raises(KeyboardInterrupt):
            served.update()
    assert served.unfinished()
    (photos / "new.png").unlink()
    served.update()
    assert not served.unfinished()


def test_parts_that_are_missing_are_told_before_anything_is_changed(
    served: ClusterGallery, where: Path
) -> None:
    with closing(served):
        (part,) = Parts.open(os.fspath(where)).names()
        (where / part).unlink()
        with pytest.raises(GalleryError, match=r"1 of 1 parts in .* are missing"):
            served.remove(["a/000.png"])
        assert len(served) == 12
