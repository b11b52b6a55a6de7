"""What is put into a collection, read from it and taken out, also by writers that are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
from made import Cut, CutError, MadeParts, contents, hasher_of, image, rows_of, take, unit_vectors
from servers import Servers

from lookalike.cluster.collection.collection import Collection, ReplacedError
from lookalike.cluster.collection.loading import load
from lookalike.cluster.job.schema import Rows
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import GalleryDamagedError, GalleryError
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHSettings

DIM = 48
BITS = 3
SETTINGS = LSHSettings(
    DIM, tables=2, key_bits=BITS, keys="orthogonal", codes="orthogonal", center=False
)
HASHER = hasher_of(SETTINGS)
ROWS = rows_of(HASHER, BITS, unit_vectors(40))
SKIPPED = [
    ImageRow(50, b"broken.jpg", 7, 8, skipped="damaged", detail="cut", remedy="copy it again"),
    ImageRow(51, b"a.jpg", 7, 8, skipped="removed"),
]
Layout = Literal["inline", "packed"]
LAYOUTS = pytest.mark.parametrize("layout", ["inline", "packed"])


@pytest.fixture
def connection(servers: Servers, name: str) -> Iterator[Connection]:
    opened = Connection.open(ClusterURI.parse(servers.uri(name)))
    yield opened
    opened.close()


def made(
    connection: Connection,
    name: str,
    layout: Layout = "inline",
    vectors: Literal["float16", "none"] = "float16",
    rows: Rows = ROWS,
) -> Collection:
    parts = MadeParts.of(SETTINGS, rows, HASHER, BITS)
    load(parts, connection, name, layout=layout, vectors=vectors)
    return Collection.open(connection, name)


def without_codes(found: dict[bytes, Any]) -> dict[bytes, Any]:
    """Codes of the packed layout stay when an image goes; nobody asks for them."""
    return {key: value for key, value in found.items() if not key.startswith(b"c:")}


# ---- reading -------------------------------------------------------------------------------------


@LAYOUTS
def test_rows_are_read_back_as_they_were_put(
    connection: Connection, name: str, layout: Layout
) -> None:
    collection = made(connection, name, layout)
    assert collection.settings == SETTINGS
    assert (collection.key_bits, collection.layout, collection.root) == (BITS, layout, "/photos")
    assert len(collection) == 40
    assert collection.ids().tolist() == ROWS.ids.tolist()
    assert collection.contains([1, 40, 41]).tolist() == [True, True, False]
    records = collection.records([40, 41, 3])
    assert [record.row for record in records.values()] == [image(40), image(3)]
    assert [r.row for r in collection.iterate_records()] == ROWS.images
    assert records[3].code.tolist() == ROWS.codes[2].tolist()
    assert records[3].keys.tolist() == ROWS.keys[:, 2].tolist()
    assert collection.vectors([40, 3]).tolist() == (
        ROWS.vectors[[39, 2]].astype(np.float32).tolist()
    )
    code, keys = HASHER.codes(unit_vectors(3, seed=8)), HASHER.keys(unit_vectors(3, seed=8), BITS)
    assert collection.hasher.codes(unit_vectors(3, seed=8))[0].tolist() == code[0].tolist()
    assert collection.hasher.keys(unit_vectors(3, seed=8), BITS).tolist() == keys.tolist()


def test_images_are_found_by_path_and_by_content(connection: Connection, name: str) -> None:
    collection = made(connection, name)
    found = collection.by_paths([b"folder/5.jpg", b"folder/99.jpg", b"folder/14.jpg"])
    assert {path: record.row.id for path, record in found.items()} == {
        b"folder/5.jpg": 5,
        b"folder/14.jpg": 14,
    }
    copies = collection.by_hashes([image(7).hash or b"", b"x" * 16, image(8).hash or b""])
    assert {digest: [r.row.id for r in some] for digest, some in copies.items()} == {
        image(7).hash: [7, 14],
        image(8).hash: [8],
    }


def test_buckets_hold_ids_codes_and_corrections(connection: Connection, name: str) -> None:
    inline = made(connection, name).codes.fetch(connection.run, np.arange(2 << BITS))
    packed = made(connection, name, "packed").codes.fetch(connection.run, np.arange(2 << BITS))
    expected = [
        sorted(ROWS.ids[ROWS.keys[table] == key].tolist())
        for table in range(2)
        for key in range(1 << BITS)
    ]
    entries = np.concatenate(
        [ROWS.codes, ROWS.corrections.astype("<i2")[:, np.newaxis].view(np.uint8)], axis=1
    )
    for held in (inline, packed):
        spans = np.split(held.ids, np.cumsum(held.sizes)[:-1])
        assert [sorted(span.tolist()) for span in spans] == expected
        assert held.entries.tolist() == entries[held.ids - 1].tolist()


def test_without_vectors_none_are_kept(servers: Servers, connection: Connection, name: str) -> None:
    collection = made(connection, name, vectors="none")
    assert not [key for key in contents(servers, name) if key.startswith(b"v:")]
    with pytest.raises(ValueError, match="keeps no vectors"):
        collection.vectors([1])


def test_skipped_files_are_noted_by_path(connection: Connection, name: str) -> None:
    collection = made(connection, name)
    collection.put(take(ROWS, slice(0))._replace(skipped=SKIPPED))
    assert collection.skipped() == [SKIPPED[1], SKIPPED[0]]
    collection.put_skipped([replace(SKIPPED[0], detail="again")])
    assert collection.skipped_at([b"broken.jpg", b"b.jpg"]) == {
        b"broken.jpg": replace(SKIPPED[0], detail="again")
    }
    collection.drop_skipped([b"a.jpg", b"never.jpg"])
    assert [row.path for row in collection.skipped()] == [b"broken.jpg"]
    assert len(collection) == 40


def test_a_file_that_was_skipped_is_not_when_it_was_put(connection: Connection, name: str) -> None:
    collection = made(connection, name)
    collection.put_skipped([replace(image(41), skipped="damaged")])
    new = rows_of(HASHER, BITS, unit_vectors(1, seed=4), first=41)
    collection.put(new)
    assert collection.skipped() == []


def test_statistics_of_pairs_and_names_of_parts_are_kept(connection: Connection, name: str) -> None:
    collection = made(connection, name)
    expected = PairStatistics.measure(ROWS.vectors.astype(np.float32), ROWS.ids)
    assert collection.pairs == expected
    assert collection.loaded() == {"part-000000000000.parquet"}
    collection.mark_loaded(["part-000000000041.parquet"])
    collection.set_pairs(None)
    fresh = Collection.open(connection, name)
    assert fresh.pairs is None
    assert fresh.loaded() == {"part-000000000000.parquet", "part-000000000041.parquet"}


def test_memory_is_that_of_all_keys(servers: Servers, connection: Connection, name: str) -> None:
    kinds = {"b": "buckets", "c": "codes", "v": "vectors", "r": "records", "p": "paths"}
    kinds |= {"h": "hashes", "m": "meta", "d": "loaded"}
    collection = made(connection, name, "packed")
    expected = dict.fromkeys(kinds.values(), 0)
    for node in servers.masters():
        for key in node.client.scan_iter(f"?:{name}:*"):
            expected[kinds[chr(key[0])]] += node.client.memory_usage(key, samples=0)
    assert collection.memory() == pytest.approx(expected, abs=1)


# ---- what cannot be opened -----------------------------------------------------------------------


def test_a_collection_that_is_not_there_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(GalleryError, match=f"no collection '{name}'.* lookalike cluster load"):
        Collection.open(connection, name)


@pytest.mark.parametrize("key", ["m:{}", "m:{}:1"])
def test_another_format_is_refused(connection: Connection, name: str, key: str) -> None:
    made(connection, name)
    connection.write([("HSET", key.format(name), "format", 2)])
    with pytest.raises(GalleryError, match="has format 2, this lookalike reads format 1"):
        Collection.open(connection, name)


@pytest.mark.parametrize(
    "field, value, what",
    [
        ("hasher", b"LKARRAY", "do not match their checksum"),
        ("model", "{}", "is damaged"),
        ("settings", "nonsense", "is damaged"),
        ("layout", "sideways", "its layout is 'sideways'"),
    ],
)
def test_damaged_entries_are_noticed(
    connection: Connection, name: str, field: str, value: bytes | str, what: str
) -> None:
    made(connection, name)
    connection.write([("HSET", f"m:{name}:1", field, value)])
    with pytest.raises(GalleryDamagedError, match=what):
        Collection.open(connection, name)


# ---- writing -------------------------------------------------------------------------------------


@LAYOUTS
def test_after_a_removal_nothing_is_left_of_an_image(
    servers: Servers, connection: Connection, name: str, layout: Layout
) -> None:
    collection = made(connection, name, layout)
    before = contents(servers, name)
    new = rows_of(HASHER, BITS, unit_vectors(30, seed=2), first=41)
    collection.put(new)
    assert len(collection) == 70
    assert without_codes(contents(servers, name)) != without_codes(before)
    collection.delete([*new.ids.tolist(), 999])
    assert len(collection) == 40
    assert without_codes(contents(servers, name)) == without_codes(before)


def test_what_is_put_or_deleted_twice_is_as_if_once(
    servers: Servers, connection: Connection, name: str
) -> None:
    collection = made(connection, name)
    new = rows_of(HASHER, BITS, unit_vectors(9, seed=2), first=41)
    for change in (partial(collection.put, new), partial(collection.delete, [5, 41])):
        change()
        once = contents(servers, name)
        change()
        assert contents(servers, name) == once
    assert len(collection) == 47


def test_a_path_leads_to_the_newest_of_its_images(connection: Connection, name: str) -> None:
    collection = made(connection, name)
    changed = rows_of(HASHER, BITS, unit_vectors(1, seed=2), first=41)
    collection.put(changed._replace(images=[replace(image(41), path=b"folder/5.jpg")]))
    collection.delete([5])
    assert collection.by_paths([b"folder/5.jpg"])[b"folder/5.jpg"].row.id == 41
    assert len(collection) == len(collection.ids()) == 40


def test_nothing_is_written_to_a_generation_that_was_replaced(
    servers: Servers, connection: Connection, name: str
) -> None:
    collection = made(connection, name)
    made(connection, name)
    expected = contents(servers, name)
    for change in (partial(collection.put, ROWS), partial(collection.delete, [1])):
        with pytest.raises(ReplacedError):
            change()
    assert contents(servers, name) == expected


def cut_everywhere(
    connection: Connection, name: str, change: Callable[[Collection], None]
) -> Iterator[int]:
    """Do a change with a connection that breaks after 0, 1, 2 and so on commands."""
    for left in range(500):
        cut = Cut(connection, 10**6)
        collection = Collection.open(cut, name)  # type: ignore[arg-type]
        cut.left = left
        try:
            change(collection)
        except CutError:
            yield left
        else:
            assert left > 10
            return
    raise AssertionError("it takes more than 500 commands")


@LAYOUTS
def test_a_put_that_was_interrupted_anywhere_is_done_by_doing_it_again(
    servers: Servers, connection: Connection, name: str, layout: Layout
) -> None:
    collection = made(connection, name, layout)
    new = rows_of(HASHER, BITS, unit_vectors(2, seed=2), first=41)._replace(skipped=SKIPPED)
    collection.put(new)
    expected = contents(servers, name)
    collection.delete([41, 42])
    for left in cut_everywhere(connection, name, lambda cut: cut.put(new)):
        collection.put(new)
        assert contents(servers, name) == expected, left
        assert len(collection) == 42
        collection.delete([41, 42])
    assert contents(servers, name) == expected


@LAYOUTS
def test_a_removal_that_was_interrupted_anywhere_is_finished_by_the_next_writer(
    servers: Servers, connection: Connection, name: str, layout: Layout
) -> None:
    collection = made(connection, name, layout, "none" if layout == "inline" else "float16")
    some = take(ROWS, [3, 7])
    collection.delete([4, 8])
    expected = contents(servers, name)
    collection.put(some)
    cuts = cut_everywhere(connection, name, lambda cut: cut.delete([4, 8]))
    for left in cuts:
        if left % 2 or collection.contains([4, 8]).any():
            collection.delete([4, 8])
        else:  # another change finishes it as well
            collection.put(take(ROWS, [0]))
        assert without_codes(contents(servers, name)) == without_codes(expected), left
        assert len(collection) == 38
        collection.put(some)
    assert without_codes(contents(servers, name)) == without_codes(expected)
