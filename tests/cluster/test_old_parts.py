"""Parts of format 1, as an earlier lookalike wrote them for a Valkey collection."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import InProcess
from jobs import DIM, INFO, digest

from lookalike.cluster.parts import Parts
from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow

SETTINGS = {"dim": DIM, "tables": 2, "seed": 0, "search": {"candidates": None}}


def fingerprint(key_bits: int) -> str:
    made_of = [INFO.sha256, {**SETTINGS, "search": None}, key_bits, "hasher-0.lka"]
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write_part(path: Path, ids: list[int], paths: list[bytes], key_bits: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(ids[0]).standard_normal((len(ids), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    n, text = len(ids), pa.string()
    halves = pa.array(vectors.astype(np.float16).ravel())
    keys = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * n, np.uint32)), 2)
    columns = {
        "id": pa.array(ids, pa.int64()),
        "path": pa.array(paths, pa.binary()),
        "size": pa.array([9] * n, pa.int64()),
        "mtime_ns": pa.array([5] * n, pa.int64()),
        "hash": pa.array([digest(1, i) for i in ids], pa.binary(16)),
        "width": pa.array([64] * n, pa.int32()),
        "height": pa.array([48] * n, pa.int32()),
        "format": pa.array(["PNG"] * n, text),
        "embedding": pa.FixedSizeListArray.from_arrays(halves, DIM),
        "code": pa.array([b"c" * 32] * n, pa.binary(32)),
        "correction": pa.array([0] * n, pa.int16()),
        "keys": keys,
        **{name: pa.array([None] * n, text) for name in ("skipped", "detail", "remedy")},
    }
    note = json.dumps({"format": 1, "job": fingerprint(key_bits)})
    element = pa.list_(pa.field("element", pa.float16()), DIM)
    fields = [
        pa.field(name, element if name == "embedding" else c.type, name not in ("id", "path"))
        for name, c in columns.items()
    ]
    for at in (2, 3):  # size and mtime_ns
        fields[at] = fields[at].with_nullable(False)
    arrays = [c.cast(f.type) for c, f in zip(columns.values(), fields, strict=True)]
    schema = pa.schema(fields, metadata={"lookalike": note})
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)
    return vectors.astype(np.float16)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Two chunks of three images, an update that changed one of them, and one that was removed."""
    where = tmp_path / "old"
    where.mkdir()
    job = {
        "model": INFO.as_dict(), "settings": SETTINGS, "key_bits": 5, "root": "/photos",
        "chunk_images": 3, "chunks": 2, "images": 6, "source": "/photos", "hasher": "hasher-0.lka",
    }  # fmt: skip
    document = {"job": job, "hasher_sha256": "00"}
    crc = zlib.crc32(json.dumps(document, sort_keys=True).encode())
    (where / "job.json").write_text(json.dumps({"format": 1, "crc32": crc, **document}))
    (where / "hasher-0.lka").write_bytes(b"not read any more")
    chunks = [[n, 1 + 3 * n, "files", [f"{3 * n + i}.png" for i in range(3)]] for n in range(2)]
    (where / "chunks.jsonl").write_text("".join(json.dumps(chunk) + "\n" for chunk in chunks))
    write_part(where / "part-000000000001.parquet", [1, 2, 3], [b"0.png", b"1.png", b"2.png"])
    write_part(where / "part-000000000004.parquet", [4, 5, 6], [b"3.png", b"4.png", b"5.png"])
    write_part(where / "part-000000000007.parquet", [7], [b"1.png"])
    removed = pa.schema(
        [pa.field("id", pa.int64(), False)],
        metadata={"lookalike": json.dumps({"format": 1, "job": fingerprint(5)})},
    )
    table = pa.Table.from_arrays([pa.array([4], pa.int64())], schema=removed)
    pq.write_table(table, where / f"removed-{'0' * 32}.parquet")
    return where


def test_old_parts_are_served_as_they_are_and_changed_by_new_ones(
    old: Path, tmp_path: Path
) -> None:
    parts = Parts.open(str(old))
    parts.check_complete()
    served = InProcess(str(old), 2, tmp_path / "cache")
    held = {number: path for shard in served.shards for number, path in shard.ask("paths")[1]}
    assert held == {1: b"0.png", 3: b"2.png", 5: b"4.png", 6: b"5.png", 7: b"1.png"}
    expected = write_part(tmp_path / "x.parquet", [7], [b"1.png"])
    (found,) = (v for found in served.ask("vectors_here", [7]) for v in found[1])
    assert np.array_equal(found.astype(np.float16), expected[0])
    number = parts.next_id()
    assert number == 8
    new = ImageRow(number, b"0.png", 1, 1, digest(2, 1), 9, 9, "PNG")
    name = parts.append(number, Embedded([new], expected, []))
    served.announce(parts.version(name), 0.0)
    held = {number: path for shard in served.shards for number, path in shard.ask("paths")[1]}
    assert held == {8: b"0.png", 3: b"2.png", 5: b"4.png", 6: b"5.png", 7: b"1.png"}
    served.close()


def test_old_parts_of_another_job_are_refused(old: Path) -> None:
    write_part(old / "part-000000000001.parquet", [1, 2, 3], [b"a", b"b", b"c"], key_bits=6)
    with pytest.raises(GalleryError, match="of another job"):
        Parts.open(str(old)).read("part-000000000001.parquet")


@pytest.mark.parametrize("scheme", ["valkey", "valkeys", "redis", "rediss"])
def test_an_address_of_valkey_says_how_to_move(scheme: str) -> None:
    with pytest.raises(GalleryError, match=r"lookalike cluster start DIR --name NAME.*ray://NAME"):
        Gallery.open(f"{scheme}://127.0.0.1:7001/photos")
