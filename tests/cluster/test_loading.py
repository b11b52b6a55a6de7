"""From parts to a collection: whole, resumable, and seen by searches only when it is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import (
    DIM,
    Cut,
    CutError,
    contents,
    hasher_of,
    image,
    local_index,
    model,
    rows_of,
    take,
    unit_vectors,
)
from servers import Servers

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.layouts import Command
from lookalike.cluster.collection.loading import LoadReport, drop, load
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.job.descriptor import Chunk
from lookalike.cluster.job.parts import Job, Parts
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import ClusterError, GalleryError, GalleryLockedError, ModelMismatchError
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.report import Progress
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHSettings

BITS = 4
SETTINGS = LSHSettings.paper(DIM, tables=3, key_bits=BITS)
HASHER = hasher_of(SETTINGS)
VECTORS = unit_vectors(90)
ROWS = rows_of(HASHER, BITS, VECTORS)
CHUNK = 20
BROKEN = ImageRow(5, b"folder/5.jpg", 9, 9, skipped="damaged", detail="cut", remedy="copy again")
QUERY = unit_vectors(1, seed=4)[0]
ONE_PART = "part-000000000021.parquet"


@pytest.fixture
def connection(servers: Servers, name: str) -> Iterator[Connection]:
    opened = Connection.open(ClusterURI.parse(servers.uri(name)))
    yield opened
    opened.close()


def made_parts(folder: Path, *, leave_out: int | None = None, by: str = "made") -> Parts:
    """Ninety images in five parts of twenty; number 5 was skipped."""
    job = Job(model(by), SETTINGS, BITS, "/photos", chunk_images=CHUNK)
    starts = range(0, 90, CHUNK)
    chunks = [
        Chunk(number, 1 + start, "files", tuple(f"folder/{i + 1}.jpg" for i in range(start, end)))
        for number, start in enumerate(starts)
        for end in [min(90, start + CHUNK)]
    ]
    parts = Parts.create(str(folder), job, HASHER, chunks)
    for number, start in enumerate(starts):
        rows = take(ROWS, [i for i in range(start, min(90, start + CHUNK)) if i != 4])
        if number != leave_out:
            parts.write(1 + start, rows._replace(skipped=[BROKEN] if start == 0 else []))
    return parts


def by_generation(found: dict[bytes, Any]) -> dict[bytes, Any]:
    """The same whatever the number of the generation and the time it was made."""
    plain = {}
    for key, value in found.items():
        kind, name, *rest = key.split(b":")
        if kind == b"m":
            times = (b"created", b"generation")
            value = {
                b"state" if field.startswith(b"state") else field: text
                for field, text in value.items()
                if field not in times
            }
        plain[b":".join([kind, name, *rest[1:], b"of" if rest else b""])] = value
    return plain


# ---- what a load makes ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["inline", "packed"])
def test_a_load_brings_the_rows_of_all_parts(
    connection: Connection, name: str, tmp_path: Path, layout: Any
) -> None:
    parts, told = made_parts(tmp_path / "parts"), list[Progress]()
    report = load(parts, connection, name, layout=layout, progress=told.append)
    assert report == LoadReport(name, 1, 89, 1, 5, 0, report.seconds)
    assert told == [Progress(n, 90, 1) for n in (20, 40, 60, 80, 90)]
    collection = Collection.open(connection, name)
    kept = [row for row in ROWS.images if row.id != 5]
    assert [record.row for record in collection.iterate_records()] == kept
    assert collection.skipped() == [BROKEN]
    assert collection.model == model()
    assert (collection.parts, collection.root) == (str(tmp_path / "parts"), "/photos")
    assert collection.loaded() == set(parts.names())
    everything = np.delete(np.arange(1, 91), 4)
    expected = PairStatistics.measure(parts.sample(1000), everything)
    assert collection.pairs == expected
    local = local_index(SETTINGS, VECTORS)
    local.remove([5])
    local.compact()
    found, theirs = ClusterIndex(collection).search(QUERY, 89), local.search(QUERY, 89)
    assert found.ids.tolist() == theirs.ids.tolist()
    assert found.cosines.tobytes() == theirs.cosines.tobytes()


def test_removed_and_superseded_images_are_left_out(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    newer = rows_of(HASHER, BITS, unit_vectors(1, seed=3), first=parts.next_id())
    number = int(newer.ids[0])
    parts.write(number, newer._replace(images=[replace(image(number), path=b"folder/7.jpg")]))
    parts.write_removed([33, 34])
    assert load(parts, connection, name).images == 87
    collection = Collection.open(connection, name)
    expected = sorted({*range(1, 91), number} - {5, 7, 33, 34})
    assert collection.ids().tolist() == expected
    assert collection.contains([7, 33, 34, number]).tolist() == [False, False, False, True]
    assert collection.by_paths([b"folder/7.jpg"])[b"folder/7.jpg"].row.id == number


def test_parts_that_are_not_complete_are_refused(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts", leave_out=3)
    with pytest.raises(GalleryError, match=r"1 of 5 parts .* missing.*lookalike cluster embed"):
        load(parts, connection, name)
    assert contents(servers, name) == {}


# ---- interrupted ---------------------------------------------------------------------------------


def test_a_load_that_was_interrupted_anywhere_is_done_by_doing_it_again(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    load(parts, connection, name)
    expected = by_generation(contents(servers, name))
    drop(connection, name)
    refused = 0
    for left in range(0, 10_000, 61):
        try:
            load(parts, Cut(connection, left), name)  # type: ignore[arg-type]
            done = True
        except CutError:
            done = False
        if not done:
            connection.run([("DEL", f"w:{name}")])  # this process lives on, unlike a killed one
            try:
                Collection.open(connection, name)
            except GalleryError as error:
                refused += "lookalike cluster load" in str(error)
        load(parts, connection, name)
        assert by_generation(contents(servers, name)) == expected, left
        drop(connection, name)
        assert contents(servers, name) == {}
        if done:
            break
    assert done and left > 700 and refused >= left // 61 - 2


KILLED = """
import os, signal, sys
from lookalike.cluster.wire.connection import Connection
from lookalike.cluster.collection.loading import load
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.uri import ClusterURI

uri = ClusterURI.parse(sys.argv[1])

def progress(now):
    if now.done >= 60:
        os.kill(os.getpid(), signal.SIGKILL)

load(Parts.open(sys.argv[2]), Connection.open(uri), uri.name, progress=progress)
"""


def test_a_load_that_was_killed_goes_on_where_it_was(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    command = [sys.executable, "-c", KILLED, servers.uri(name), str(tmp_path / "parts")]
    killed = subprocess.run(command, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(GalleryError, match="still being loaded, or that was interrupted"):
        Collection.open(connection, name)
    report = load(parts, connection, name)
    assert (report.generation, report.images, report.parts, report.resumed) == (1, 89, 5, 3)


def cut_after(
    connection: Connection, parts: Parts, name: str, images: int, commands: int = 3
) -> None:
    """A load that is cut when so many images are in, and so many commands of the next part."""
    cut = Cut(connection, 10**6)

    def progress(now: Progress) -> None:
        cut.left = 10**6 if now.done < images else commands

    with pytest.raises(CutError):
        load(parts, cut, name, progress=progress)  # type: ignore[arg-type]
    connection.run([("DEL", f"w:{name}")])


@pytest.mark.parametrize("number", [3, 41])
def test_images_removed_since_a_load_was_interrupted_do_not_come_back(
    servers: Servers, connection: Connection, name: str, tmp_path: Path, number: int
) -> None:
    parts = made_parts(tmp_path / "parts")
    cut_after(connection, parts, name, 40, commands=66)
    keys = contents(servers, name)
    records = {int(key.split(b":")[3]) for key in keys if key.startswith(b"r:")}
    assert {3, 41} < records < set(range(1, 61))
    parts.write_removed([number])
    report = load(parts, connection, name)
    assert (report.images, report.resumed) == (88, 0)
    collection = Collection.open(connection, name)
    assert not collection.contains([number])[0]
    assert number not in ClusterIndex(collection).search(VECTORS[number - 1], 89).ids


def test_what_an_interrupted_load_of_another_kind_left_is_deleted(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    cut_after(connection, parts, name, 40)
    report = load(parts, connection, name, layout="packed", vectors="none")
    assert report.resumed == 0
    left = {key.split(b":")[2] for key in contents(servers, name) if key.count(b":") > 1}
    assert left == {str(report.generation).encode()}


@pytest.mark.parametrize("then", ["load", "drop"])
def test_an_interrupted_clean_up_is_finished_later(
    servers: Servers, connection: Connection, name: str, tmp_path: Path, then: str
) -> None:
    parts = made_parts(tmp_path / "parts")
    load(parts, connection, name)
    cut = Cut(connection, 10**6)
    cut_scan = _no_scan(cut)
    with pytest.raises(CutError):
        load(parts, cut_scan, name, layout="packed")  # type: ignore[arg-type]
    collection = Collection.open(connection, name)
    assert (collection.generation, collection.layout) == (2, "packed")
    assert any(key.startswith(b"b:%s:1:" % name.encode()) for key in contents(servers, name))
    if then == "load":
        load(parts, connection, name)
        keys = contents(servers, name)
        assert {key.split(b":")[2] for key in keys if key.count(b":") > 1} == {b"3"}
    else:
        drop(connection, name)
        assert contents(servers, name) == {}


def _no_scan(connection: Cut) -> Cut:
    """Breaks when keys are listed, which is done to delete them."""

    def scan(pattern: bytes | str) -> Iterator[bytes]:
        raise CutError

    connection.scan = scan  # type: ignore[attr-defined]
    return connection


def test_an_interrupted_drop_closes_the_collection_until_it_is_finished(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    load(parts, connection, name)
    with pytest.raises(CutError):
        drop(_no_scan(Cut(connection, 10**6)), name)  # type: ignore[arg-type]
    with pytest.raises(GalleryError, match=r"being dropped.* lookalike cluster drop"):
        Collection.open(connection, name)
    drop(connection, name)
    assert contents(servers, name) == {}
    with pytest.raises(GalleryError, match="no collection"):
        drop(connection, name)


# ---- while others search -------------------------------------------------------------------------


def test_searches_see_the_old_generation_until_the_new_one_is_whole(
    servers: Servers, connection: Connection, name: str, tmp_path: Path
) -> None:
    parts = made_parts(tmp_path / "parts")
    load(parts, connection, name)
    index = ClusterIndex(Collection.open(connection, name))
    before = index.search(QUERY, 89)
    parts.write_removed([int(before.ids[0])])
    seen = list[tuple[int, list[int]]]()

    def progress(now: Progress) -> None:
        assert index.search(QUERY, 89).ids.tolist() == before.ids.tolist()
        fresh = Collection.open(connection, name)
        seen.append((fresh.generation, ClusterIndex(fresh).search(QUERY, 1).ids.tolist()))

    load(parts, connection, name, layout="packed", progress=progress)
    assert seen == [(1, [int(before.ids[0])])] * 5
    assert not index.collection.is_current()
    index = ClusterIndex(index.collection.reopened())
    assert index.search(QUERY, 88).ids.tolist() == before.ids.tolist()[1:]
    keys = contents(servers, name)
    assert {key.split(b":")[2] for key in keys if key.count(b":") > 1} == {b"2"}


def test_a_client_notices_that_another_model_was_loaded(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    load(made_parts(tmp_path / "blue", by="blue"), connection, name)
    collection = Collection.open(connection, name)
    load(made_parts(tmp_path / "green", by="green"), connection, name)
    assert not collection.is_current()
    with pytest.raises(ModelMismatchError, match=r"embeddings of green 1.* those of blue 1"):
        collection.reopened()


def test_two_loads_at_once_are_refused(connection: Connection, name: str, tmp_path: Path) -> None:
    parts = made_parts(tmp_path / "parts")
    with WriterLock(connection, name):
        for change in (lambda: load(parts, connection, name), lambda: drop(connection, name)):
            with pytest.raises(GalleryLockedError, match=f"process {os.getpid()} "):
                change()
    assert load(parts, connection, name).images == 89


# ---- servers that do not keep what they were given -----------------------------------------------


class Forgetful(Cut):
    """A connection to servers that forget some keys as soon as they were written."""

    def __init__(self, connection: Connection, forgets: Callable[[str], bool]) -> None:
        super().__init__(connection, 10**6)
        self.forgets = forgets

    def write(self, commands: Sequence[Command]) -> list[Any]:
        lost = [command[1] for command in commands if self.forgets(str(command[1]))]
        replies = super().write(commands)
        self.connection.run([("DEL", key) for key in lost])
        return replies


@pytest.mark.parametrize("kind", ["r", "v", "b", "c", "p"])
def test_a_generation_that_is_not_whole_is_not_switched_to(
    connection: Connection, name: str, tmp_path: Path, kind: str
) -> None:
    parts = made_parts(tmp_path / "parts")
    load(parts, connection, name)
    collection = Collection.open(connection, name)
    forgetful = Forgetful(connection, lambda key: key.startswith(f"{kind}:"))
    with pytest.raises(ClusterError, match=r"do not hold what was written.* load again"):
        load(parts, forgetful, name, layout="packed")  # type: ignore[arg-type]
    assert collection.is_current()
    report = load(parts, connection, name, layout="packed")
    assert (report.images, report.resumed) == (89, 0)
