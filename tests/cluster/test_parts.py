from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jobs import DIM, INFO, assert_equal, made_rows, small_job

from lookalike.cluster.embed.embedding import unlearned_hasher
from lookalike.cluster.job.descriptor import Chunk
from lookalike.cluster.job.parts import Job, Parts, part_name
from lookalike.errors import GalleryError
from lookalike.lsh import LSHSettings

CHUNKS = [
    Chunk(0, 1, "files", tuple(f"{n}.jpg" for n in range(8))),
    Chunk(1, 9, "files", ("a\udcff.jpg", "ü ü.png")),
]


def create(where: Path | str, job: Job | None = None) -> Parts:
    job = job or small_job()
    return Parts.create(str(where), job, unlearned_hasher(job.settings), CHUNKS)


@pytest.fixture(params=["path", "file", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder: by its path, by a URI, and on a file system of fsspec's."""
    folder = tmp_path / "a folder"
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/parts"
    return folder.as_uri() if request.param == "file" else str(folder)


def test_a_job_is_read_back_as_it_was_created(where: str) -> None:
    made = create(where)
    opened = Parts.open(where)
    assert opened.job == made.job
    assert (opened.job.chunks, opened.job.images) == (2, 10)
    assert replace(opened.job, chunks=0, images=0, hasher="") == small_job()
    assert list(opened.chunks()) == CHUNKS
    assert opened.chunks()[1] == CHUNKS[1]
    for name in ("mean", "code_planes", "key_map", "key_points"):
        found, expected = getattr(opened.hasher, name), getattr(made.hasher, name)
        np.testing.assert_array_equal(found, expected)


def test_rows_are_read_back_to_the_bit_by_another_process_s_parts(where: str) -> None:
    parts = create(where)
    rows = made_rows(parts.job, 1, 6, seed=1, skipped=2)
    assert parts.write(1, rows) == part_name(1)
    assert_equal(Parts.open(where).read(part_name(1)), rows)


def test_a_part_written_twice_is_one_part_with_equal_bytes(tmp_path: Path) -> None:
    parts = create(tmp_path / "parts")
    path = tmp_path / "parts" / parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    before = path.read_bytes()
    parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    assert path.read_bytes() == before
    assert parts.names() == [part_name(1)]


def test_a_part_of_skipped_files_alone_has_no_images(where: str) -> None:
    parts = create(where)
    rows = made_rows(parts.job, 1, 0, seed=1, skipped=3)
    parts.write(1, rows)
    found = parts.read(part_name(1))
    assert_equal(found, rows)
    assert found.vectors.shape == (0, DIM) and found.keys.shape == (3, 0)


def test_missing_chunks_are_those_without_a_part(where: str) -> None:
    parts = create(where)
    assert list(parts.missing()) == CHUNKS
    with pytest.raises(GalleryError, match=r"2 of 2 parts .*lookalike cluster embed"):
        parts.check_complete()
    parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    missing = parts.missing()
    assert len(missing) == 1 and list(missing) == [CHUNKS[1]]
    parts.write(9, made_rows(parts.job, 9, 2, seed=2))
    assert list(parts.missing()) == []
    parts.check_complete()


def test_updates_add_parts_beyond_the_chunks(where: str) -> None:
    parts = create(where)
    parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    assert parts.next_id() == 17
    parts.write(17, made_rows(parts.job, 17, 3, seed=3, skipped=2))
    assert parts.next_id() == 22
    assert parts.names() == [part_name(1), part_name(17)]
    assert list(parts.missing()) == [CHUNKS[1]]


def test_a_later_part_supersedes_rows_of_the_same_path(where: str) -> None:
    parts = create(where)
    old = made_rows(parts.job, 1, 5, seed=1)
    parts.write(1, old)
    new = made_rows(parts.job, 17, 2, seed=9)
    new.images[0] = replace(new.images[0], path=old.images[3].path)
    parts.write(17, new)
    newest = made_rows(parts.job, 19, 0, seed=4, skipped=1)
    newest.skipped[0] = replace(newest.skipped[0], path=new.images[1].path)
    parts.write(19, newest)
    for reader in (parts, Parts.open(where)):
        assert reader.read(part_name(1)).images == [old.images[n] for n in (0, 1, 2, 4)]
        assert reader.read(part_name(17)).images == [new.images[0]]
        assert reader.read(part_name(19)).skipped == newest.skipped
    kept = parts.read(part_name(1))
    np.testing.assert_array_equal(kept.codes, old.codes[[0, 1, 2, 4]])
    np.testing.assert_array_equal(kept.keys, old.keys[:, [0, 1, 2, 4]])


def test_removed_ids_stay_removed_and_are_never_given_out_again(where: str) -> None:
    parts = create(where)
    rows = made_rows(parts.job, 1, 8, seed=1)
    parts.write(1, rows)
    other = Parts.open(where)
    assert other.read(part_name(1)).ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    parts.write_removed([2, 7])
    parts.write_removed([8])
    assert parts.read(part_name(1)).ids.tolist() == [1, 3, 4, 5, 6]
    other.names()
    assert other.read(part_name(1)).ids.tolist() == [1, 3, 4, 5, 6]
    assert parts.next_id() == 17


def test_a_sample_has_embeddings_of_live_rows_none_twice(tmp_path: Path) -> None:
    parts = create(tmp_path)
    first, second = made_rows(parts.job, 1, 8, seed=1), made_rows(parts.job, 9, 2, seed=2)
    parts.write(1, first)
    parts.write(9, second)
    parts.write_removed([4])
    live = np.concatenate([np.delete(first.vectors, 3, axis=0), second.vectors]).astype(np.float32)
    everything = parts.sample(100)
    np.testing.assert_array_equal(everything, live)
    some = parts.sample(5, seed=3)
    assert len(some) == len(np.unique(some, axis=0)) == 5
    assert all((live == row).all(axis=1).any() for row in some)
    np.testing.assert_array_equal(parts.sample(5, seed=3), some)


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    parts = create(tmp_path)
    rows = made_rows(parts.job, 1, 4, seed=1)
    wrong = [
        (1, rows._replace(codes=rows.codes[:, :8])),
        (1, rows._replace(vectors=rows.vectors.astype(np.float32))),
        (1, rows._replace(ids=rows.ids + 1)),
        (1, rows._replace(skipped=rows.images[:1])),
        (2, rows),
        (0, rows),
    ]
    for first_id, bad in wrong:
        with pytest.raises(ValueError):
            parts.write(first_id, bad)
    assert parts.names() == []


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
    path = tmp_path / parts.write(1, rows)
    whole, rng, errors = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        path.write_bytes(damage(whole, rng))
        try:
            found = parts.read(path.name)
        except GalleryError as error:
            errors += 1
            assert path.name in str(error)
            assert "delete it" in str(error) or "another job" in str(error)
        else:  # a flipped bit in a statistic, say, which nobody reads
            assert_equal(found, rows)
    assert errors == 150 if damage is cut else errors > 75


def test_the_remedy_for_a_damaged_part_works(tmp_path: Path) -> None:
    parts = create(tmp_path)
    path = tmp_path / parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    path.write_bytes(b"")
    with pytest.raises(GalleryError, match=r"delete it .*run again: lookalike cluster embed"):
        parts.read(path.name)
    path.unlink()
    assert list(parts.missing()) == CHUNKS
    with pytest.raises(GalleryError, match="missing"):
        parts.read(path.name)


@pytest.mark.parametrize(
    "settings",
    [
        LSHSettings.paper(DIM, tables=3, key_bits=5, seed=1),
        LSHSettings.paper(DIM, tables=4, key_bits=5),
        LSHSettings.paper(DIM, tables=3, key_bits=6),
    ],
)
def test_a_part_of_another_job_is_refused(settings: LSHSettings, tmp_path: Path) -> None:
    own, other = create(tmp_path / "own"), create(tmp_path / "other", small_job(settings))
    name = other.write(1, made_rows(other.job, 1, 8, seed=1))
    shutil.copy(tmp_path / "other" / name, tmp_path / "own" / name)
    with pytest.raises(GalleryError, match="another job"):
        own.read(name)


def test_a_part_of_another_model_is_refused(tmp_path: Path) -> None:
    job = replace(small_job(), model=replace(INFO, sha256="cd" * 32))
    own, other = create(tmp_path / "own"), create(tmp_path / "other", job)
    name = other.write(1, made_rows(job, 1, 8, seed=1))
    shutil.copy(tmp_path / "other" / name, tmp_path / "own" / name)
    with pytest.raises(GalleryError, match="another job"):
        own.read(name)


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="holds no job"):
        Parts.open(str(tmp_path))
    with pytest.raises(GalleryError, match="holds no job"):
        Parts.open(str(tmp_path / "nowhere"))
    create(tmp_path)
    (tmp_path / "job.json").unlink()
    with pytest.raises(GalleryError, match="did not finish"):
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
    parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    (tmp_path / "lost/job.json").unlink()
    with pytest.raises(GalleryError, match=r"parts but no job.json"):
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
    path.write_bytes(whole.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(GalleryError, match="has format 2, this lookalike reads format 1"):
        Parts.open(str(tmp_path))


def test_hash_functions_that_are_damaged_or_missing_are_noticed(tmp_path: Path) -> None:
    create(tmp_path)
    (path,) = tmp_path.glob("hasher-*.lka")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(GalleryError, match="does not match its checksum"):
        Parts.open(str(tmp_path))
    path.unlink()
    with pytest.raises(GalleryError, match="is missing"):
        Parts.open(str(tmp_path))


def test_a_cut_list_of_chunks_is_noticed(tmp_path: Path) -> None:
    parts = create(tmp_path)
    path = tmp_path / "chunks.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for content in (b"", lines[0], lines[0] + lines[1][:9], lines[1] + lines[0], b"[]\n{}\n"):
        path.write_bytes(content)
        with pytest.raises(GalleryError, match="missing or damaged"):
            list(parts.missing())


def test_temporary_files_are_no_parts_and_old_ones_are_deleted(tmp_path: Path) -> None:
    import os

    parts = create(tmp_path)
    old, new = tmp_path / ".part-1.parquet.0.tmp", tmp_path / ".part-9.parquet.1.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert parts.names() == [] and len(parts.missing()) == 2
    parts.tidy()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    parts = create(tmp_path)
    before = sorted(tmp_path.iterdir())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GalleryError, match="is full"):
        parts.write(1, made_rows(parts.job, 1, 8, seed=1))
    assert sorted(tmp_path.iterdir()) == before


def test_settings_that_parts_cannot_serve_are_refused() -> None:
    paper = LSHSettings.paper(DIM, key_bits=5)
    with pytest.raises(ValueError, match="float32"):
        small_job(replace(paper, vectors="float32"))
    with pytest.raises(ValueError, match="dimensions"):
        small_job(LSHSettings.paper(DIM + 1, key_bits=5))
    with pytest.raises(ValueError, match="key_bits"):
        Job(INFO, paper, 6, "/photos")
    with pytest.raises(GalleryError, match="nonsense://x/y"):
        Parts.open("nonsense://x/y")
