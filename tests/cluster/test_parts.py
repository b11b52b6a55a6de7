from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import DIM, assert_equal, made_rows, small_job

from lookalike.cluster.job import Chunk, Job
from lookalike.cluster.parts import GONE, Parts, part_name, to_batch
from lookalike.errors import GalleryError, GalleryLockedError
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow

CHUNKS = [
    Chunk(0, [(b"%d.jpg" % n, -1) for n in range(8)]),
    Chunk(1, [(b"a\xff.jpg", -1), ("ü ü.png".encode(), -1)]),
]


def create(where: Path | str, job: Job | None = None) -> Parts:
    return Parts.create(str(where), job or small_job(), CHUNKS[0].items + CHUNKS[1].items)


def write(parts: Parts, number: int, rows: Embedded) -> str:
    """The part of a chunk, by its number."""
    parts.write_chunk(number, to_batch(parts.job, rows))
    return part_name(parts.job.first_id(number))


@pytest.fixture(params=["path", "file", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder: by its path, by a URI, and on a file system of fsspec's."""
    folder = tmp_path / "a folder"
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/parts"
    return folder.as_uri() if request.param == "file" else str(folder)


def test_a_job_and_its_rows_are_read_back_as_they_were_written(where: str) -> None:
    made = create(where)
    opened = Parts.open(where)
    assert opened.job == made.job
    assert (opened.job.chunks, opened.job.images) == (2, 10)
    assert replace(opened.job, chunks=0, images=0) == small_job()
    assert list(opened.chunks(range(2))) == CHUNKS
    assert list(opened.chunks([1])) == CHUNKS[1:]
    rows = made_rows(made.job, 1, 6, seed=1, skipped=2)
    assert_equal(opened.read(write(made, 0, rows)), rows)


def test_missing_chunks_are_those_without_a_part(where: str) -> None:
    parts = create(where)
    assert parts.missing() == [0, 1]
    with pytest.raises(GalleryError, match=r"2 of 2 parts .*lookalike cluster embed"):
        parts.check_complete()
    write(parts, 0, made_rows(parts.job, 1, 8, seed=1))
    assert parts.missing() == [1]
    write(parts, 1, made_rows(parts.job, 9, 2, seed=2))
    assert parts.missing() == []
    parts.check_complete()


def test_commits_add_parts_beyond_the_chunks_in_order(where: str) -> None:
    parts = create(where)
    write(parts, 0, made_rows(parts.job, 1, 8, seed=1))
    assert parts.next_id() == 17
    parts.append(17, made_rows(parts.job, 17, 3, seed=3, skipped=2))
    assert parts.next_id() == 22
    parts.append(22, made_rows(parts.job, 5, 1, seed=4))  # of an id that is known
    assert parts.next_id() == 23
    assert parts.names() == [part_name(1), part_name(17), part_name(22)]
    assert [parts.version(name) for name in parts.names()] == [0, 17, 22]
    assert parts.missing() == [1]


def test_of_two_writers_that_saw_the_same_parts_one_commits(where: str) -> None:
    one, other = create(where), Parts.open(where)
    rows = made_rows(one.job, 17, 1, seed=3)
    one.append(one.next_id(), rows)
    with pytest.raises(GalleryLockedError, match="another process has changed"):
        other.append(17, made_rows(one.job, 17, 1, seed=4))
    assert_equal(other.read(part_name(17)), rows)


def test_the_last_row_of_a_path_or_an_id_counts(where: str) -> None:
    parts = create(where)
    old = made_rows(parts.job, 1, 6, seed=1)
    write(parts, 0, old)
    new = made_rows(parts.job, 17, 2, seed=9)
    new.images[0] = replace(new.images[0], path=old.images[3].path)  # of new content
    new.images[1] = replace(old.images[5], path=b"moved.jpg")
    parts.append(17, new)
    gone = ImageRow(1, old.images[0].path, 1, 2, skipped=GONE)
    skipped = replace(old.images[1], hash=None, skipped="empty")
    nothing = np.empty((0, DIM), np.float16)
    parts.append(19, Embedded([], nothing, [gone, skipped]))
    for reader in (parts, Parts.open(where)):
        reader.refresh()
        first = reader.live(part_name(1))
        assert first.images == [old.images[2], old.images[4]]
        np.testing.assert_array_equal(first.vectors, old.vectors[[2, 4]])
        assert reader.live(part_name(17)).images == new.images[::-1]  # by id
        assert reader.live(part_name(19)).skipped == [skipped]
    found = parts.vectors([17, 5, 3, 6])
    expected = np.stack([new.vectors[0], old.vectors[4], old.vectors[2], new.vectors[1]])
    np.testing.assert_array_equal(found, expected)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_part_is_an_error_that_names_it_or_its_rows_are_whole(
    damage: Callable[[bytes, random.Random], bytes], tmp_path: Path
) -> None:
    parts = create(tmp_path)
    rows = made_rows(parts.job, 1, 8, seed=1)
    path = tmp_path / write(parts, 0, rows)
    whole, rng, errors = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        path.write_bytes(damage(whole, rng))
        try:
            found = parts.read(path.name)
        except GalleryError as error:
            errors += 1
            assert path.name in str(error)
            assert "delete it" in str(error) or "another job" in str(error)
        else:  # a flipped bit in a statistic, say, which no code reads
            assert_equal(found, rows)
    assert errors == 150 if damage is cut else errors > 75
    other = create(tmp_path / "other", replace(small_job(), root="/others"))
    shutil.copy(tmp_path / "other" / write(other, 0, rows), path)
    with pytest.raises(GalleryError, match="another job"):
        parts.read(path.name)


@pytest.mark.parametrize("number", [0, 7])
def test_a_row_that_is_both_image_and_skipped_or_neither_is_an_error(
    tmp_path: Path, number: int
) -> None:
    parts = create(tmp_path)
    batch = to_batch(parts.job, made_rows(parts.job, 1, 7, seed=1, skipped=1))
    embeddings = batch["embedding"].to_pylist()
    embeddings[number] = embeddings[1] if number else None
    at = batch.schema.get_field_index("embedding")
    column = pa.array(embeddings, batch.schema.field(at).type)
    parts.write_chunk(0, batch.set_column(at, batch.schema.field(at), column))
    with pytest.raises(GalleryError, match="neither an image nor skipped"):
        parts.read(part_name(1))


def test_damaged_parts_of_chunks_are_dropped_and_nothing_else(tmp_path: Path) -> None:
    parts = create(tmp_path)
    last = parts.append(17, made_rows(parts.job, 17, 1, seed=3))
    for whole in (True, False):
        rows = [made_rows(parts.job, 1, 8, seed=1), made_rows(parts.job, 9, 2, seed=2)]
        first, second = (write(parts, number, rows[number]) for number in range(2))
        assert parts.drop_damaged() == 0
        content = bytearray((tmp_path / second).read_bytes())
        page = pq.read_metadata(tmp_path / second).row_group(0).column(0)
        content[3 + page.total_compressed_size] ^= 1  # the last byte of the first column
        (tmp_path / second).write_bytes(content if whole else content[:-1])
        (tmp_path / last).write_bytes(b"PAR1")
        assert parts.drop_damaged() == 1
        assert parts.names() == [first, last]
        assert_equal(parts.read(first), rows[0])
    (tmp_path / second).mkdir()
    with pytest.raises(GalleryError, match=rf"{second} .* cannot be read .*Is a directory"):
        parts.drop_damaged()
    (tmp_path / second).rmdir()
    other = create(tmp_path / "other", replace(small_job(), root="/others"))
    shutil.copy(tmp_path / "other" / write(other, 0, rows[0]), tmp_path)
    with pytest.raises(GalleryError, match="another job"):
        parts.drop_damaged()
    assert parts.names() == [first, last]


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="holds no job"):
        Parts.open(str(tmp_path))
    with pytest.raises(GalleryError, match="holds no job"):
        Parts.open(str(tmp_path / "nowhere"))
    create(tmp_path)
    (tmp_path / "job.json").unlink()
    with pytest.raises(GalleryError, match="not complete"):
        Parts.open(str(tmp_path))
    create(tmp_path)  # goes over what is half-finished


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    create(tmp_path / "job")
    with pytest.raises(GalleryError, match="holds a job already"):
        create(tmp_path / "job")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"")
    with pytest.raises(GalleryError, match=r"other files \(cat.jpg\)"):
        create(tmp_path / "photos")
    parts = create(tmp_path / "lost")
    write(parts, 0, made_rows(parts.job, 1, 8, seed=1))
    (tmp_path / "lost/job.json").unlink()
    with pytest.raises(GalleryError, match=r"parts whose job.json was lost"):
        create(tmp_path / "lost")


def test_a_damaged_job_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    create(tmp_path)
    path, rng = tmp_path / "job.json", random.Random(0)
    whole = path.read_bytes()
    for damage in (cut, flipped):
        for _ in range(100):
            damaged = damage(whole, rng)
            path.write_bytes(damaged)
            try:
                same = json.loads(damaged) == json.loads(whole)
            except ValueError:
                same = False
            if not same:
                with pytest.raises(GalleryError, match=r"job\.json|format"):
                    Parts.open(str(tmp_path))
    path.write_bytes(whole.replace(b'"format": 2', b'"format": 3'))
    with pytest.raises(GalleryError, match="has format 3, this lookalike reads format 2;"):
        Parts.open(str(tmp_path))


def test_a_damaged_list_of_images_is_noticed(tmp_path: Path) -> None:
    parts, other = create(tmp_path / "one"), tmp_path / "other"
    Parts.create(str(other), small_job(), CHUNKS[0].items)
    path, rng = tmp_path / "one/images.parquet", random.Random(0)
    whole = path.read_bytes()
    for damaged in (b"", (other / path.name).read_bytes(), *(cut(whole, rng) for _ in range(50))):
        path.write_bytes(damaged)
        with pytest.raises(GalleryError, match=r"images\.parquet .* missing or damaged"):
            list(parts.chunks(parts.missing()))
    for _ in range(100):
        path.write_bytes(flipped(whole, rng))
        try:
            assert list(parts.chunks(parts.missing())) == CHUNKS
        except GalleryError as error:
            assert "images.parquet" in str(error)
    path.unlink()
    with pytest.raises(GalleryError, match=r"images\.parquet .* missing or damaged"):
        list(parts.chunks([1]))
