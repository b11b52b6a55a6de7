"""Files that others could have made: values that cannot be, with right checksums and wrong ones."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import forging
import numpy as np
import pytest
from test_storage import DIM, OWNER, QUERIES, VECTORS, saved

from lookalike.errors import IndexFormatError
from lookalike.lsh import LSHIndex, LSHSettings, Neighbors, linking, storage

Place = tuple[str | int, ...]

HUGE = 1 << 70
STRANGE: list[object] = [None, True, -1, HUGE, 1.5, float("nan"), "x", [], {}, [[]], 7]


def one_segment(folder: Path, **settings: Any) -> tuple[LSHIndex, Path]:
    """An index of 2,000 items, and the file that holds them."""
    index = LSHIndex(settings=LSHSettings(DIM, key_bits=4, **settings), owner=OWNER)
    index.add(np.arange(2000), VECTORS)
    index.save(folder)
    (path,) = folder.glob("segment-*")
    return index, path


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are opened as those above 64 MiB are."""
    monkeypatch.setattr(storage, "VERIFY_ON_OPEN", 0)


def entry_of(body: Any, place: Place) -> Any:
    """An entry of nested dictionaries and lists."""
    for key in place:
        body = body[key]
    return body


def set_entry(place: Place, value: object, body: Any) -> None:
    entry_of(body, place[:-1])[place[-1]] = value


def set_header(place: Place, value: object, parts: forging.Parts) -> None:
    set_entry(place, value, parts.body)


def set_number(name: str, place: tuple[int, ...], value: float, parts: forging.Parts) -> None:
    parts.arrays[name][place] = value


def flip_bit(name: str, rng: np.random.Generator, parts: forging.Parts) -> None:
    """Of an array of numbers of 32 bits."""
    values = parts.arrays[name].reshape(-1)
    values[rng.integers(values.size)] ^= np.uint32(1 << int(rng.integers(32)))


def add_noise(name: str, share: float, rng: np.random.Generator, parts: forging.Parts) -> None:
    """Replace a share of an array's bytes."""
    raw = parts.arrays[name].reshape(-1).view(np.uint8)
    where = rng.random(raw.size) < share
    raw[where] = rng.integers(0, 256, int(where.sum()), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["hasher", "segment", "removed", "links"])
def test_no_forged_header_with_a_right_checksum_is_taken(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LINKED_FROM", "SCANNED"):
        monkeypatch.setattr(linking, name, 1)
    index = saved(tmp_path, OWNER)
    if kind == "links":
        index.link()
        index.save(tmp_path)
    expected = index.search(QUERIES, 10)
    path = sorted(tmp_path.glob(f"{kind}-*"))[0]
    whole = path.read_bytes()
    places: list[Place] = [("kind",), ("meta",), ("arrays",), ("arrays", 0)]
    places += [("meta", name) for name in forging.Parts.read(path).body["meta"]]
    places += [("arrays", 0, name) for name in ("name", "dtype", "shape", "bytes", "crc32")]
    places += [("arrays", 0, "shape", 0), ("arrays", 0, "crc32", 0)]
    for place in places:
        for value in [*STRANGE, "|O", "<c16", [1 << 40, 1 << 40], [1] * 100]:
            forging.forge_arrays(path, partial(set_header, place, value), checksum=False)
            try:
                found = LSHIndex.open(tmp_path).search(QUERIES, 10)
            except IndexFormatError as error:
                assert path.name in str(error) or (kind == "links" and "links" in str(error))
            else:  # values that other rankings and the next refit depend on
                free = "fitted_on", "correction_unit", "beam", "entries"
                assert place[-1] in free, (place, value)
                assert np.array_equal(found.ids, expected.ids)
            path.write_bytes(whole)
    for content in (b"", b"[" * 100_000, b"1" * 5000, b"\xff\xfe", b"NaN", b"{}"):
        head = struct.pack("<IIII", 1, len(content), zlib.crc32(content), 0)
        path.write_bytes(b"LKARRAY\n" + head + content + bytes(64))
        with pytest.raises(IndexFormatError, match=path.name):
            LSHIndex.open(tmp_path)


def test_no_forged_manifest_with_a_right_checksum_is_taken(tmp_path: Path) -> None:
    expected = saved(tmp_path, OWNER).search(QUERIES, 10)
    path = tmp_path / "manifest.json"
    whole = path.read_bytes()
    body = json.loads(whole)["index"]
    places: list[Place] = [(name,) for name in body]
    places += [("settings", name) for name in body["settings"]]
    places += [("settings", "search", name) for name in body["settings"]["search"]]
    places += [("segments", 0), *(("segments", 0, name) for name in body["segments"][0])]
    names = [path.name for path in tmp_path.glob("*.lka")]  # of another kind, or twice
    names += [f"../{tmp_path.name}/{name}" for name in names]
    refused = 0
    for place in places:
        for value in [*STRANGE, "../x", ".x", "segment-0123456789abcdef.lka", *names]:
            own = entry_of(body, place)
            if type(value) is type(own) and value == own:
                continue
            forging.forge_manifest(tmp_path, partial(set_entry, place, value))
            try:
                found = LSHIndex.open(tmp_path).search(QUERIES, 10)
            except IndexFormatError:
                refused += 1
            else:  # None where that is a value, or how much a search looks at
                looks = place[-1] in ("candidates", "rerank", "beam", "k")
                good = (None, 7) if looks else (None,)
                if place == ("segments",) and value == []:  # as if all items had been removed
                    assert (found.ids == -1).all()
                else:
                    assert looks or place[-1] in ("key_bits", "removed", "links", "factors"), place
                    assert value in good and value is not True, (place, value)
                if value is None and place[-1] != "removed":
                    assert np.array_equal(found.ids, expected.ids)
            path.write_bytes(whole)
    assert refused > 200
    for content in (b"[" * 100_000, b"[]", b"null", b"1" * 5000, b"\xff", b'{"format": 3}'):
        path.write_bytes(content)
        with pytest.raises(IndexFormatError, match=r"manifest\.json"):
            LSHIndex.open(tmp_path)
    for text in ("[]", "5", '"x"', "null", "[" * 900 + "]" * 900):
        document = f'{{"format": 3, "crc32": {zlib.crc32(text.encode())}, "index": {text}}}'
        path.write_text(document)
        with pytest.raises(IndexFormatError, match=r"manifest\.json"):
            LSHIndex.open(tmp_path)


@pytest.mark.parametrize("name", ["mean", "code_planes", "key_map", "key_points"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_hash_functions_that_make_no_finite_scores_are_refused(
    tmp_path: Path, value: float, name: str
) -> None:
    saved(tmp_path, OWNER)
    (path,) = tmp_path.glob("hasher-*")
    place = {"mean": (3,), "key_points": (0, 3, 5)}.get(name, (3, 5))
    forging.forge_arrays(path, partial(set_number, name, place, value))
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: "):
        LSHIndex.open(tmp_path)


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("name", ["offsets", "blocks"])
@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.usefixtures("large")
def test_buckets_that_lead_out_of_a_segment_are_refused_and_others_cost_no_wrong_cosine(
    tmp_path: Path, tables: int, name: str, checksum: bool
) -> None:
    _, path = one_segment(tmp_path, tables=tables)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    queries = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    refused = 0
    for _ in range(60):
        forging.forge_arrays(path, partial(flip_bit, name, rng), checksum=checksum)
        try:
            found = LSHIndex.open(tmp_path).search(queries, 10)
        except IndexFormatError as error:
            assert f"{path.name} is damaged: its buckets" in str(error)
            refused += 1
        else:  # as many blocks, with one item more or less of a bucket
            assert name == "offsets"
            cosines = np.einsum("qd,qkd->qk", queries, units[found.ids])
            assert np.abs(found.cosines - cosines).max() < 1e-3
        path.write_bytes(whole)
    assert refused > 45


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ids", "by_id", "vectors", "codes", "corrections", "additions", "rows"]
)
@pytest.mark.parametrize("vectors", ["float16", "float32", "none"])
@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.usefixtures("large")
def test_noise_in_a_large_segment_ends_no_process_and_makes_no_cosine_above_one(
    tmp_path: Path, tables: int, vectors: str, name: str
) -> None:
    _, path = one_segment(tmp_path, tables=tables, vectors=vectors)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    actions: list[Callable[[LSHIndex], object]] = [
        lambda index: index.search(QUERIES, 10),
        lambda index: index.search(QUERIES[0], 3000, allowed=np.arange(0, 2000, 3)),
        lambda index: index.hamming(QUERIES[0], [1, 2, 3]),
        lambda index: index.contains([5, 5000]),
    ]
    if vectors != "none":
        actions.append(lambda index: index.search(QUERIES, 10, exact=True))
        actions.append(lambda index: index.vectors([1, 2, 3]))
    for share in (0.001, 0.05, 1.0):
        forging.forge_arrays(path, partial(add_noise, name, share, rng), checksum=False)
        opened = LSHIndex.open(tmp_path)
        for action in actions:
            try:
                found = action(opened)
            except IndexFormatError as error:
                assert path.name in str(error)
            except KeyError:
                assert name == "ids"  # there is another id instead
            else:
                if isinstance(found, Neighbors):
                    assert (found.cosines <= 1).all()
        file = opened.segments()[0].file
        assert file is not None
        if share == 1 and file.arrays[name].size:
            assert name in str(opened.damaged()), "verify reads every byte"
        path.write_bytes(whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 60000.0])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.usefixtures("large")
def test_a_vector_that_has_no_cosine_is_an_error_instead_of_the_best_hit(
    tmp_path: Path, value: float, exact: bool
) -> None:
    index, path = one_segment(tmp_path)
    row = int(index.segments()[0].find(np.array([77]))[0])
    forging.forge_arrays(path, partial(set_number, "vectors", (row, 3), value))
    opened = LSHIndex.open(tmp_path)
    query = np.full(DIM, -1.0 if value == -np.inf else 1.0)
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: a vector"):
        opened.search(query, 10, candidates=2000, rerank=2000, exact=exact)
    with pytest.raises(IndexFormatError, match=path.name):
        opened.vectors([77])
    assert path.name in str(opened.damaged())


@pytest.mark.usefixtures("large")
def test_an_id_that_a_damaged_order_hides_is_not_taken_for_absent(tmp_path: Path) -> None:
    index, path = one_segment(tmp_path)
    by_id = index.segments()[0].by_id
    forging.forge_arrays(path, partial(set_number, "by_id", (500,), int(by_id[501])))
    opened = LSHIndex.open(tmp_path)
    assert opened.contains([3, 4]).all()
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: by_id"):
        opened.contains([500])
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: by_id"):
        opened.add([500], VECTORS[:1])


@pytest.mark.usefixtures("large")
def test_damaged_data_are_not_written_again_with_right_checksums(tmp_path: Path) -> None:
    index, path = one_segment(tmp_path)
    rng = np.random.default_rng(0)
    forging.forge_arrays(path, partial(add_noise, "codes", 0.001, rng), checksum=False)
    opened = LSHIndex.open(tmp_path)
    opened.remove([1])
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: codes"):
        opened.compact()
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: codes"):
        opened.with_settings(LSHSettings(DIM, tables=2))
    healed = LSHIndex.salvage(tmp_path, index.settings, OWNER)
    assert np.array_equal(
        healed.search(QUERIES, 10, exact=True).ids, index.search(QUERIES, 10, exact=True).ids
    )


@pytest.mark.parametrize("what", ["repeated", "negative", "in another segment"])
def test_forged_ids_are_refused(tmp_path: Path, what: str) -> None:
    first, second = (segment.file for segment in saved(tmp_path, OWNER).segments())
    assert first is not None and second is not None

    def change(parts: forging.Parts) -> None:
        ids, by_id = parts.arrays["ids"], parts.arrays["by_id"]
        if what == "repeated":
            ids[by_id[1]] = ids[by_id[0]]
        elif what == "negative":
            ids[by_id[0]] = -1
        else:
            ids[by_id] = np.arange(100, 200)

    forging.forge_arrays(second.path if what == "in another segment" else first.path, change)
    with pytest.raises(IndexFormatError, match=r"by_id|100 is in two places"):
        LSHIndex.open(tmp_path)


@pytest.mark.parametrize("value", [-7, 8])
@pytest.mark.usefixtures("large")
def test_ids_of_a_large_index_that_cannot_be_are_an_error_before_they_are_used(
    tmp_path: Path, value: int
) -> None:
    index, path = one_segment(tmp_path)
    row = int(index.segments()[0].find(np.array([77]))[0])
    forging.forge_arrays(path, partial(set_number, "ids", (row,), value), checksum=False)
    opened = LSHIndex.open(tmp_path)
    with pytest.raises(IndexFormatError, match=f"{value} is (negative|in two places)"):
        opened.ids  # noqa: B018


@pytest.mark.parametrize("kind", ["manifest", "hasher", "segment", "removed"])
def test_links_pipes_and_folders_in_place_of_files_are_refused_and_not_followed(
    tmp_path: Path, kind: str
) -> None:
    saved(tmp_path / "index", OWNER)
    path = sorted((tmp_path / "index").glob(f"{kind}*"))[0]
    outside = tmp_path / "outside"
    path.rename(outside)
    makers: list[Callable[[], object]] = [
        lambda: path.symlink_to(outside),
        lambda: path.symlink_to(path.name),
        lambda: os.mkfifo(path),
        path.mkdir,
    ]
    for make in makers:
        make()
        with pytest.raises(IndexFormatError, match=path.name):
            LSHIndex.open(tmp_path / "index")
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    content = outside.read_bytes()
    path.symlink_to(outside)
    saved(tmp_path / "index", OWNER)
    assert not path.is_symlink(), "a save replaces the link"
    assert outside.read_bytes() == content


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.usefixtures("large")
def test_an_item_with_an_id_below_zero_is_an_error_instead_of_a_hit(
    tmp_path: Path, exact: bool
) -> None:
    index, path = one_segment(tmp_path)
    row = int(index.segments()[0].find(np.array([77]))[0])
    query = index.vectors([77])[0]
    forging.forge_arrays(path, partial(set_number, "ids", (row,), -5))
    with pytest.raises(IndexFormatError, match=f"{path.name} is damaged: ids"):
        LSHIndex.open(tmp_path).search(query, 10, exact=exact)
