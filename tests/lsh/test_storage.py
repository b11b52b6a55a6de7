"""Files: what is saved comes back, what is damaged is refused, what is interrupted is not lost."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import forging
import numpy as np
import pytest
from formats import as_format_2
from threadpoolctl import threadpool_limits

from lookalike.errors import IndexFormatError
from lookalike.lsh import LSHIndex, LSHSettings, arrayfile
from lookalike.lsh.families import KEYS

DIM = 32
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((2000, DIM)).astype(np.float32)
QUERIES = RNG.standard_normal((20, DIM)).astype(np.float32)
OWNER, OTHER = "1" * 32, "2" * 32


def made(count: int = 2000, **settings: object) -> LSHIndex:
    index = LSHIndex(settings=LSHSettings(DIM, **settings), owner=OWNER)  # type: ignore[arg-type]
    for start in range(0, count, 500):
        stop = min(count, start + 500)
        index.add(np.arange(start, stop), VECTORS[start:stop])
    return index


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("vectors", ["float16", "float32", "none"])
def test_an_opened_index_answers_as_the_saved_one(tmp_path: Path, keys: str, vectors: str) -> None:
    index = made(keys=keys, vectors=vectors, tables=2)
    index.remove([3, 500, 1999])
    before = index.search(QUERIES, 10)
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    after = opened.search(QUERIES, 10)
    assert np.array_equal(before.ids, after.ids)
    assert np.array_equal(before.cosines, after.cosines)
    assert len(opened) == 1997
    assert opened.settings == index.settings


def test_the_same_seed_data_and_owner_give_identical_files(tmp_path: Path) -> None:
    made(tables=2).save(tmp_path / "a")
    made(tables=2).save(tmp_path / "b")
    made(tables=2, seed=1).save(tmp_path / "c")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


@pytest.mark.parametrize("family", ["itq", "principal"])
def test_the_number_of_processors_does_not_change_the_files(tmp_path: Path, family: str) -> None:
    rows = np.random.default_rng(0).standard_normal((1500, 300))
    learned = LSHSettings(300, keys="itq" if family == "itq" else "voronoi", codes=family)
    for threads in (1, 2):
        index = LSHIndex(settings=learned, owner="0" * 32)
        with threadpool_limits(threads, "blas"):
            index.add(np.arange(1500), rows)
        index.save(tmp_path / f"{threads}")
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_saving_again_writes_only_what_is_new(tmp_path: Path) -> None:
    index = made()
    index.save(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.lka")}
    index.remove([7])
    index.save(tmp_path)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(tmp_path.glob("removed-*"))) == 1
    index.compact()
    index.save(tmp_path)
    assert len(list(tmp_path.glob("removed-*"))) == 0
    assert len(list(tmp_path.glob("segment-*"))) == 1


def test_an_open_index_keeps_answering_when_its_files_are_replaced(tmp_path: Path) -> None:
    index = made()
    index.save(tmp_path)
    reader = LSHIndex.open(tmp_path)
    expected = reader.search(QUERIES, 5)
    index.remove(np.arange(1000))
    index.compact()
    index.save(tmp_path)
    assert np.array_equal(reader.search(QUERIES, 5).ids, expected.ids)
    assert len(LSHIndex.open(tmp_path)) == 1000


@pytest.mark.parametrize("fail_at", range(8))
def test_a_save_that_fails_anywhere_leaves_the_last_state(
    tmp_path: Path, fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = made(1000)
    index.save(tmp_path)
    index.add(np.arange(1000, 2000), VECTORS[1000:])
    index.remove([0])
    count = 0
    real = os.fsync

    def failing(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > fail_at:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    try:
        index.save(tmp_path)
        expected = 1999
    except OSError:
        expected = 1000
    monkeypatch.undo()
    found = len(LSHIndex.open(tmp_path))
    # Once the manifest is renamed the new state counts, though syncing its folder failed.
    assert found == expected or (found == 1999 and count > 5)
    index.save(tmp_path)
    assert len(LSHIndex.open(tmp_path)) == 1999
    assert not list(tmp_path.glob(".*"))


def test_every_flipped_byte_of_a_file_that_matters_is_noticed(tmp_path: Path) -> None:
    index = made(1000, tables=2)
    index.remove([3])
    index.save(tmp_path / "good")
    rng = np.random.default_rng(1)
    for path in sorted((tmp_path / "good").iterdir()):
        whole = path.read_bytes()
        for at in {0, 9, 13, 17, 30, *rng.integers(0, len(whole), 12).tolist()}:
            bad = tmp_path / "bad"
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(tmp_path / "good", bad)
            flipped = bytearray(whole)
            flipped[at] ^= 0x41
            (bad / path.name).write_bytes(flipped)
            try:
                opened = LSHIndex.open(bad)
            except IndexFormatError:
                continue
            # Padding between arrays, and white space in the manifest, carry no information.
            assert np.array_equal(opened.search(QUERIES, 5).ids, index.search(QUERIES, 5).ids)
            assert path.name == "manifest.json" or whole[at] == 0


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 0.999])
def test_a_missing_or_truncated_file_is_refused_by_name(
    tmp_path: Path, share: float | None
) -> None:
    made(1000).save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        if share is None:
            path.unlink()
        else:
            path.write_bytes(whole[: min(int(share * len(whole)), len(whole) - 2)])
        message = f"{path.name} is missing" if share is None else path.name.split("-")[0]
        with pytest.raises(IndexFormatError, match=f"^{tmp_path}.*{message}"):
            LSHIndex.open(tmp_path)
        path.write_bytes(whole)
    assert len(LSHIndex.open(tmp_path)) == 1000


def test_another_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    made(500).save(tmp_path)
    segment = next(tmp_path.glob("segment-*"))
    content = bytearray(segment.read_bytes())
    content[8:12] = (99).to_bytes(4, "little")
    segment.write_bytes(content)
    with pytest.raises(IndexFormatError, match=r"version 99.*version 1"):
        LSHIndex.open(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["format"] = 77
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IndexFormatError, match=r"version 77.*versions 2 and 3"):
        LSHIndex.open(tmp_path)


def saved(folder: Path, owner: str | None, first: int = 0) -> LSHIndex:
    """Two segments of 300 and 100 items, one of which is removed."""
    index = LSHIndex(DIM, owner=owner)
    index.add(np.arange(300), VECTORS[first : first + 300])
    index.add(np.arange(300, 400), VECTORS[first + 300 : first + 400])
    index.remove([5])
    index.save(folder)
    return index


def test_an_index_draws_an_id_keeps_it_and_opens_for_no_other(tmp_path: Path) -> None:
    index = saved(tmp_path, None)
    assert re.fullmatch("[0-9a-f]{32}", index.owner)
    assert saved(tmp_path / "another", None).owner != index.owner
    assert LSHIndex.open(tmp_path).owner == index.owner
    assert LSHIndex.open(tmp_path, index.owner).owner == index.owner
    assert index.with_settings(LSHSettings(DIM, tables=2)).owner == index.owner
    with pytest.raises(IndexFormatError, match=f"manifest.json.*{index.owner}.*{OTHER}"):
        LSHIndex.open(tmp_path, OTHER)
    for wrong in ("", "1" * 31, "g" * 32, "A" * 32, 5):
        with pytest.raises(ValueError, match="32 lowercase hexadecimal digits"):
            LSHIndex(DIM, owner=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["hasher", "segment", "removed"])
def test_a_file_of_another_index_is_refused_with_both_ids(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "a", OWNER)
    saved(tmp_path / "b", OTHER, first=1000)
    own = sorted((tmp_path / "a").glob(f"{kind}-*"))[0]
    foreign = sorted((tmp_path / "b").glob(f"{kind}-*"))[0]
    own.write_bytes(foreign.read_bytes())
    with pytest.raises(IndexFormatError, match=f"{own.name}.*{OTHER}.*{OWNER}: put back"):
        LSHIndex.open(tmp_path / "a")


def test_a_save_into_a_folder_that_is_gone_with_its_disk_makes_none_in_its_place(
    tmp_path: Path,
) -> None:
    vectors = np.eye(8, dtype=np.float32)
    index = LSHIndex(dim=8)
    index.add(np.arange(4), vectors[:4])
    index.save(tmp_path / "disk/index")
    index.add(np.arange(4, 8), vectors[4:])
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(FileNotFoundError):
        index.save(tmp_path / "disk/index")
    assert not (tmp_path / "disk").exists()
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    index.save(tmp_path / "disk/index")
    assert len(LSHIndex.open(tmp_path / "disk/index")) == 8


def test_an_index_of_format_2_is_read_and_its_next_save_gives_it_an_id(tmp_path: Path) -> None:
    index = saved(tmp_path, OWNER)
    expected = index.search(QUERIES, 10)
    as_format_2(tmp_path)
    old = files(tmp_path)
    with pytest.raises(IndexFormatError, match=f"an index without an id.*{OWNER}"):
        LSHIndex.open(tmp_path, OWNER)
    opened = LSHIndex.open(tmp_path)
    assert files(tmp_path) == old
    assert opened.owner != OWNER
    opened.save(tmp_path)
    assert not set(files(tmp_path)) & set(old) - {"manifest.json"}
    again = LSHIndex.open(tmp_path, opened.owner)
    found = again.search(QUERIES, 10)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.cosines, expected.cosines)
    assert len(again) == 399


@pytest.mark.parametrize("with_manifest", [True, False])
def test_salvage_takes_only_files_of_its_own_index(tmp_path: Path, with_manifest: bool) -> None:
    index = saved(tmp_path / "a", OWNER)
    saved(tmp_path / "b", OTHER, first=1000)
    for path in (tmp_path / "b").glob("segment-*"):
        shutil.copy(path, tmp_path / "a")
    if not with_manifest:
        (tmp_path / "a/manifest.json").unlink()
    healed = LSHIndex.salvage(tmp_path / "a", index.settings, OWNER)
    assert healed.owner == OWNER
    assert healed.ids.tolist() == list(range(400))  # the removed one too: its mark is not read
    assert np.array_equal(healed.vectors(index.ids), index.vectors(index.ids))
    unnamed = LSHIndex.salvage(tmp_path / "a", index.settings)
    if with_manifest:
        assert (unnamed.owner, len(unnamed)) == (OWNER, 400)
    else:  # whose files are the own ones is unknown
        assert len(unnamed) == 0


def test_salvage_without_a_manifest_keeps_the_id_that_all_files_have(tmp_path: Path) -> None:
    index = saved(tmp_path, OWNER)
    (tmp_path / "manifest.json").unlink()
    healed = LSHIndex.salvage(tmp_path, index.settings)
    assert (healed.owner, len(healed)) == (OWNER, 400)


@pytest.mark.parametrize("owner", ["x", "A" * 32, 7, ["x"]])
def test_salvage_takes_no_file_with_an_id_that_cannot_be(tmp_path: Path, owner: object) -> None:
    index = saved(tmp_path, OWNER)
    (tmp_path / "manifest.json").unlink()
    first, _ = sorted(tmp_path.glob("segment-*"), key=lambda path: path.stat().st_size)
    forging.forge_arrays(first, lambda parts: parts.body["meta"].update(owner=owner))
    healed = LSHIndex.salvage(tmp_path, index.settings)
    assert (healed.owner, healed.ids.tolist()) == (OWNER, list(range(300)))


def test_a_save_replaces_a_file_that_has_rotted_under_its_name(tmp_path: Path) -> None:
    index = saved(tmp_path, OWNER)
    before = files(tmp_path)
    for path in tmp_path.glob("*.lka"):
        content = bytearray(path.read_bytes())
        content[len(content.rstrip(b"\0")) - 1] ^= 1
        path.write_bytes(content)
    fresh = LSHIndex(DIM, owner=OWNER)
    fresh.add(np.arange(300), VECTORS[:300])
    fresh.add(np.arange(300, 400), VECTORS[300:400])
    fresh.remove([5])
    fresh.save(tmp_path)
    assert files(tmp_path) == before
    assert np.array_equal(LSHIndex.open(tmp_path).ids, index.ids)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_salvage_of_one_large_segment_loses_only_what_lies_near_the_damage(
    tmp_path: Path, damage: str
) -> None:
    count = 60_000  # 3.8 MB of vectors: four chunks with a checksum each
    rows = np.random.default_rng(2).standard_normal((count, DIM)).astype(np.float32)
    index = LSHIndex(DIM)
    index.add(np.arange(count), rows)
    index.save(tmp_path)
    (path,) = tmp_path.glob("segment-*")
    content = bytearray(path.read_bytes())
    at = content.index(index.segments()[0].vectors[count // 2].tobytes())
    if damage == "flip":
        content[at] ^= 1
    path.write_bytes(content[: at if damage == "cut" else None])
    saved = LSHIndex.salvage(tmp_path, index.settings)
    # A chunk of 1 MiB holds 16,384 vectors.
    least = count - 16_384 - 1 if damage == "flip" else count // 2 - 16_384 - 1
    assert least <= len(saved) < count
    assert np.array_equal(saved.vectors(saved.ids), index.vectors(saved.ids))


def test_opening_reads_no_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike.lsh import storage as module

    made(2000).save(tmp_path)
    monkeypatch.setattr(module, "VERIFY_ON_OPEN", 0)
    read: list[str] = []
    real = arrayfile.ArrayFile.damaged

    def noting(self: arrayfile.ArrayFile) -> list[str]:
        read.append(self.kind)
        return real(self)

    monkeypatch.setattr(arrayfile.ArrayFile, "damaged", noting)
    LSHIndex.open(tmp_path)
    assert set(read) == {"hasher"}
