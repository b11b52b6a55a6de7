"""Shards without Ray, beside one index of the same items."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import InProcess
from jobs import DIM, INFO, digest
from numpy.typing import NDArray

from lookalike.cluster import shard as shard_module
from lookalike.cluster.gallery import ShardedGallery
from lookalike.cluster.job import Job
from lookalike.cluster.parts import GONE, Parts, Share, to_batch
from lookalike.cluster.shard import Place, Shard, delete_cached
from lookalike.cluster.view import connected
from lookalike.errors import GalleryError
from lookalike.gallery.duplicates import Proposals
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.opening import GalleryModel
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Store
from lookalike.images.decoder import Limits
from lookalike.lsh import LSHIndex

COUNT, CHUNK, SHARDS = 3000, 500, 3


def made(numbers: range, seed: int) -> Embedded:
    """Images in clusters; every tenth has the content of the one before it."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((30, DIM))
    vectors = centres[rng.integers(30, size=len(numbers))]
    vectors += 0.6 * rng.standard_normal(vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = []
    for at, number in enumerate(numbers):
        content = number - 1 if number % 10 == 0 and at else number
        if content != number:
            vectors[at] = vectors[at - 1]
        path = b"%d/%d.jpg" % (number % 7, number)
        images.append(ImageRow(number, path, 9, 9, digest(seed, content), 64, 48, "JPEG"))
    return Embedded(images, vectors.astype(np.float16), [])


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    job = Job(INFO, "/photos", CHUNK, source="/photos")
    parts = Parts.create(str(tmp_path / "parts"), job, [(b"%d" % n, -1) for n in range(COUNT)])
    for number in range(parts.job.chunks):
        first = parts.job.first_id(number)
        rows = made(range(first, first + CHUNK), number)
        parts.write_chunk(number, to_batch(parts.job, rows))
    return parts


@pytest.fixture
def shards(parts: Parts, tmp_path: Path) -> Iterator[InProcess]:
    opened = InProcess(parts.where, SHARDS, tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
def gallery(shards: InProcess) -> ShardedGallery:
    return ShardedGallery(shards, "ray://test", GalleryModel(), Limits())  # type: ignore[arg-type]


def embedded(parts: Parts) -> LSHIndex:
    """All live images in one index."""
    index = LSHIndex(DIM)
    for name in parts.refresh():
        rows = parts.live(name)
        index.add_stored([row.id for row in rows.images], rows.vectors)
    index.compact()
    return index


def every(shard: Shard) -> list[tuple[int, bytes]]:
    """Id and path of every image."""
    found: list[tuple[int, bytes]] = shard.ask("paths")[1]
    return found


def shard_of(row: ImageRow) -> int:
    (shard,) = (n for n in range(SHARDS) if Share(n, SHARDS).has(row))
    return shard


def queries() -> NDArray[np.float32]:
    rows = np.random.default_rng(9).standard_normal((40, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_every_image_is_in_one_shard_and_equal_files_in_the_same(
    parts: Parts, shards: InProcess
) -> None:
    held = [dict(every(shard)) for shard in shards.shards]
    assert sum(map(len, held)) == COUNT
    rows = [row for name in parts.names() for row in parts.read(name).images]
    for row in rows:
        assert held[shard_of(row)][row.id] == row.path
    assert min(map(len, held)) > COUNT / SHARDS * 0.8


@pytest.mark.slow
def test_an_exact_search_is_that_of_one_index_to_the_bit(
    parts: Parts, gallery: ShardedGallery
) -> None:
    index = embedded(parts)
    for query in queries():
        expected = index.search(query, 17, exact=True)
        hits = gallery.search(query, 17, exact=True)
        assert [hit.id for hit in hits] == expected.ids.tolist()
        assert [np.float32(hit.cosine) for hit in hits] == expected.cosines.tolist()


def test_the_cache_is_opened_again_and_built_again_if_it_is_of_other_parts(
    parts: Parts, tmp_path: Path
) -> None:
    place = Place(parts.where, 1, SHARDS, 0, str(tmp_path / "cache"))
    first = Shard(place)
    seen: list[tuple[int, int]] = []
    first.catch_up(lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, COUNT // CHUNK) for n in range(COUNT // CHUNK)]
    held = every(first)
    first.close()
    again = Shard(place)
    again.catch_up(lambda done, total: seen.append((done, total)))
    assert len(seen) == COUNT // CHUNK  # nothing was read
    assert every(again) == held
    again.close()
    (first.directory / "gallery.sqlite").write_bytes(b"damaged")
    repaired = Shard(place)
    repaired.catch_up(lambda done, total: seen.append((done, total)))
    assert len(seen) == 2 * COUNT // CHUNK
    assert sorted(every(repaired)) == sorted(held)
    repaired.close()
    (Path(parts.where) / "job.json").unlink()
    other = replace(parts.job, source="/others")  # another job in the same folder
    other.write(parts.storage)
    for number in range(other.chunks):
        rows = made(range(other.first_id(number), other.first_id(number) + CHUNK), 90 + number)
        parts.write_chunk(number, to_batch(other, rows))
    rebuilt = Shard(place)
    rebuilt.catch_up()
    assert rebuilt.directory == first.directory and sorted(every(rebuilt)) != sorted(held)
    rebuilt.close()


def test_the_files_of_replicas_that_are_gone_are_deleted_but_not_those_in_use(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "ENDING_SECONDS", 0.0)
    cache = tmp_path / "cache"
    places = [Place(parts.where, 0, 2, replica, str(cache)) for replica in (0, 1)]
    shards = [Shard(place) for place in [*places, Place(parts.where, 0, 1, 0, str(cache))]]
    for shard in shards:
        shard.catch_up()

    def left() -> set[str]:
        return {path.name for path in cache.glob("*/*")}

    delete_cached(str(cache), parts.where, 2, 0)
    assert left() == {"0of2-0", "0of2-1", "0of1-0"}
    for shard in shards:
        shard.close()
    delete_cached(str(cache), parts.where, 2, 1)
    assert left() == {"0of2-0", "0of1-0"}
    delete_cached(str(cache), parts.where, 2, 0)
    delete_cached(str(cache), parts.where, 1, 0)
    assert list(cache.iterdir()) == []


def test_a_commit_moves_an_image_of_new_content_to_its_shard_and_drops_what_is_gone(
    parts: Parts, shards: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = parts.read(parts.names()[0])
    row = old.images[0]
    new = next(
        ImageRow(parts.next_id(), row.path, 9, 9, digest(77, n), 64, 48, "JPEG")
        for n in range(100)
        if shard_of(ImageRow(1, b"", 0, 0, digest(77, n))) != shard_of(row)
    )
    moved = ImageRow(2, b"moved.jpg", 9, 9, old.images[1].hash, 64, 48, "JPEG")
    gone = [
        ImageRow(2, old.images[1].path, 9, 9, skipped=GONE),
        ImageRow(3, old.images[2].path, 9, 9, skipped=GONE),
    ]
    name = parts.append(parts.next_id(), Embedded([new, moved], old.vectors[5:7], gone))
    assert shards.announce(parts.version(name), 0.0) == []
    held = [dict(every(shard)) for shard in shards.shards]
    everything = {number: path for some in held for number, path in some.items()}
    assert len(everything) == sum(map(len, held)) == COUNT - 1
    assert held[shard_of(new)][new.id] == row.path
    assert 1 not in everything and 3 not in everything
    assert everything[2] == b"moved.jpg"
    monkeypatch.setattr(shard_module, "ENDING_SECONDS", 0.0)
    again = Shard(shards.shards[0].place)
    with pytest.raises(GalleryError, match="is being written"):  # held by the first
        again.catch_up()


def test_a_shard_killed_anywhere_while_it_takes_in_holds_the_commit_afterwards(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(parts.where, 0, 1, 0, str(tmp_path / "cache"))
    shard = Shard(place)
    shard.catch_up()
    shard.close()
    whole = tmp_path / "whole"
    shutil.copytree(shard.directory, whole)
    rows = made(range(COUNT + 1, COUNT + 21), 50)
    gone = [ImageRow(n, b"%d/%d.jpg" % (n % 7, n), 9, 9, skipped=GONE) for n in range(1, 6)]
    parts.append(COUNT + 1, Embedded(rows.images, rows.vectors, gone))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    places: list[tuple[type, str]] = [(LSHIndex, "save"), (Store, "put"), (Shard, "_note")]
    for owner, method in places:
        shutil.rmtree(shard.directory)
        shutil.copytree(whole, shard.directory)
        victim = Shard(place)
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, killed)
            with pytest.raises(KeyboardInterrupt):
                victim.catch_up()
        victim._open_files.pop_all()  # nothing is tidied up
        assert victim._store is not None
        victim._store.close()
        (shard.directory / "lock").unlink()  # as the system does when a process ends
        again = Shard(place)
        assert again.catch_up() == COUNT + 1
        ids = sorted(number for number, _ in every(again))
        assert ids == list(range(6, COUNT + 21))
        assert again.ask("vectors_here", range(COUNT + 30))[1][0].tolist() == ids
        again.close()


@pytest.mark.slow
def test_duplicates_are_those_that_comparing_all_with_all_gives(
    parts: Parts, gallery: ShardedGallery
) -> None:
    threshold = 0.9
    index = embedded(parts)
    ids = index.ids
    vectors = index.vectors(ids)
    pairs = ids[np.argwhere(np.triu(vectors @ vectors.T >= smallest_cosine(threshold), 1))]
    rows = {row.id: row for name in parts.names() for row in parts.read(name).images}
    homes = {number: shard_of(row) for number, row in rows.items()}
    assert sum(homes[a] != homes[b] for a, b in pairs.tolist()) > 20  # between shards
    near = connected(pairs)
    table: Any = Rowed(rows)
    proposals = Proposals(table, index, gallery.root, None, None, here=False)
    expected = proposals.made(proposals.of(near, proposals.by_cosine(threshold)))
    found = gallery.duplicates(threshold)
    both = [
        {frozenset(i.row.id for i in (*g.keep, *g.duplicates)) for g in groups}
        for groups in (found, expected)
    ]
    assert len(both[0] & both[1]) >= 0.98 * len(both[1])  # each pair is found with chance 0.999
    few = gallery.duplicates(threshold, filter="3/*")
    assert few and all(item.path.startswith("3/") for group in few for item in group.keep)


class Rowed:
    """The rows of a dictionary, asked as a table."""

    def __init__(self, rows: dict[int, ImageRow]) -> None:
        self._rows = rows

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        return {number: self._rows[number] for number in ids}

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.slow
def test_searches_see_one_commit_or_the_next_never_one_between(
    parts: Parts, tmp_path: Path
) -> None:
    """An image keeps its place under new paths, while others search for it."""
    place = Place(parts.where, 0, 1, 0, str(tmp_path / "cache"))
    shard = Shard(place)
    shard.catch_up()
    rows = parts.read(parts.names()[0])
    vector, image = rows.vectors[0].astype(np.float32), rows.images[0]
    ended, seen, wrong = threading.Event(), set[bytes](), list[object]()

    def search() -> None:
        while not ended.is_set():
            found = shard.ask("matches", vector, 1)[1]
            if len(found) != 1 or found[0][2][0] < image.id or found[0][0] < 0.999:
                wrong.append(found)
            else:
                seen.add(found[0][2][1])

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    path, expected = image.path, {image.path}
    for n in range(12):
        first = parts.next_id()
        new = ImageRow(first, b"renamed %d.jpg" % n, 9, 9, image.hash, 64, 48, "JPEG")
        gone = ImageRow(first - 1, path, 9, 9, skipped=GONE)
        parts.append(first, Embedded([new], rows.vectors[:1], [gone]))
        shard.catch_up()
        path = new.path
        expected.add(path)
    ended.set()
    for thread in threads:
        thread.join()
    shard.close()
    assert wrong == []
    assert seen <= expected and len(seen) > 1
