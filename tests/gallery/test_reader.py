"""Many small queries: the same answers as from the gallery, and never old ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fakes import vectors_of, write_photo, write_photos

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.gallery.rarity import rarities
from lookalike.gallery.reader import Snapshot
from lookalike.lsh import LSHIndex
from lookalike.lsh.expand import Expansion, search_expanded
from lookalike.lsh.graph import NeighbourGraph


@pytest.fixture
def segmented(photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """A gallery of several segments, with tombstones, and a copy of an image."""
    opened = Gallery.open(photos, model=model)
    for step in range(3):
        write_photos(photos / f"{step}", 10 + 20 * step, 100 * (step + 1))
        opened.update()
    os.unlink(photos / "0/a/000.png")
    (photos / "copy.png").write_bytes((photos / "a/003.png").read_bytes())
    monkeypatch.setattr(LSHIndex, "compact", lambda self, **_: None)
    opened.update()
    return opened


def test_searches_vectors_and_scores_are_those_of_the_gallery(segmented: Gallery) -> None:
    snapshot = segmented.reader().now()
    assert len(snapshot.index.segments()) > 1
    assert len(snapshot) == len(segmented) == len(snapshot.index)
    stored = vectors_of(segmented)
    ids = snapshot.matching(None).tolist()
    rows = snapshot.rows(ids)
    assert list(rows) == ids
    assert [os.fsdecode(row.path) for row in rows.values()] == sorted(stored)
    for number, row in rows.items():
        np.testing.assert_array_equal(snapshot.vectors([number])[0], stored[os.fsdecode(row.path)])
    for number in ids[::7]:
        row = rows[number]
        query = snapshot.vectors([number])[0]
        found = snapshot.search(query, 20, without=row.hash)
        hits = segmented.search(segmented.root / os.fsdecode(row.path), 20, exclude_self=True)
        assert [item.row.id for item in found] == [hit.id for hit in hits]
        assert [item.cosine for item in found] == [hit.cosine for hit in hits]
        bits = snapshot.index.hamming(query, [item.row.id for item in found]).tolist()
        assert [item.bits for item in found] == [hit.bits for hit in hits] == bits
        shares = rarities(snapshot.pairs, [item.cosine for item in found])
        assert shares == [hit.rarity for hit in hits]
        few = snapshot.search(query, 20, without=row.hash, filter="1/* -c/", threshold=0.1)
        chosen = set(snapshot.matching("1/* -c/").tolist())
        everything = snapshot.search(query, 500, without=row.hash)
        assert few == [i for i in everything if i.row.id in chosen and i.cosine >= 0.1][:20]
    gone = 1  # the first by path, which was deleted
    assert snapshot.row(gone) is None and not snapshot.has(gone)
    for number in (0, gone, 10**9, 2**63 - 1):
        assert snapshot.rows([number]) == {} and not snapshot.has(number)
        with pytest.raises(KeyError):
            snapshot.vectors([2, number])
    with pytest.raises(GalleryError, match="filter is empty"):
        snapshot.matching("")


def test_no_hit_comes_twice_in_the_pages_of_a_list(gallery: Gallery) -> None:
    """Each page is the end of a longer list, which a search with more effort began with others."""
    rng = np.random.default_rng(0)
    rows = np.maximum(rng.standard_normal((3020, 256)), -0.3).astype(np.float32)
    index = LSHIndex(256)
    index.add(np.arange(3000), rows[:3000])
    graph = NeighbourGraph.build(index)
    snapshot = Snapshot(gallery._files, index, None, (), True)
    for query in rows[3000:]:
        whole = snapshot.near(query, 200).ids.tolist()
        ordered = search_expanded(index, graph, Expansion(), query, 200).ids.tolist()
        for k in (1, 31, 61, 121):
            assert snapshot.near(query, k).ids.tolist() == whole[:k]
            assert search_expanded(index, graph, Expansion(), query, k).ids.tolist() == ordered[:k]


def test_every_commit_of_others_is_seen(gallery: Gallery, photos: Path) -> None:
    reader, writer = gallery.reader(), Gallery.open(photos)
    for step in range(5):
        before = reader.now()
        write_photo(photos / "one.png", 700 + step)
        writer.update()
        now = reader.now()
        (number,) = now.matching("one.png").tolist()
        assert now is not before and now.has(number)
        os.rename(photos / "one.png", photos / "two.png")  # the table changes, the index does not
        writer.update()
        assert reader.now().matching("one.png").size == 0
        assert reader.now().matching("two.png").tolist() == [number]
        row = reader.now().row(number)
        assert row is not None and row.path == b"two.png"
        writer.remove(["two.png"])
        assert not reader.now().has(number) and reader.now().row(number) is None
        writer.restore(["two.png"])
        os.unlink(photos / "two.png")
        writer.update()


def test_files_that_a_writer_deletes_while_they_are_opened_are_not_a_failure(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gallery.search("a/000.png", 5)
    true_open = LSHIndex.open
    failures = [FileNotFoundError(2, "gone")] * 3

    def race(folder: Path, owner: str | None = None) -> LSHIndex:
        if failures:
            raise failures.pop()
        return true_open(folder, owner)

    monkeypatch.setattr(LSHIndex, "open", race)
    fresh = Gallery.open(gallery.root)
    assert fresh.search("a/000.png", 5) == expected
    failures += [FileNotFoundError(2, "gone")] * 3
    assert len(Gallery.open(gallery.root).reader().now()) == 12
