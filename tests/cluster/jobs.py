"""Small jobs, and what is in them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookalike.cluster.embed.embedding import embed_here, prepare, unlearned_hasher
from lookalike.cluster.job.parts import Job, Parts, Rows
from lookalike.encoder import ModelInfo
from lookalike.gallery import Gallery
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHSettings

DIM = 24
INFO = ModelInfo("synthetic", "1", "ab" * 32, 16, (0.0,) * 3, (1.0,) * 3, DIM)


class Stored(NamedTuple):
    """What is kept of one image, as bytes: content hash, embedding, code, correction, keys."""

    hash: bytes | None
    vector: bytes
    code: bytes
    correction: int
    keys: tuple[int, ...]


def small_job(settings: LSHSettings | None = None) -> Job:
    settings = settings or LSHSettings.paper(DIM, tables=3, key_bits=5)
    return Job(INFO, settings, settings.key_bits or 5, "/photos", 8)


def made_rows(job: Job, first_id: int, count: int, seed: int, skipped: int = 0) -> Rows:
    """Random images, then files that were skipped."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, job.settings.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    halves = vectors.astype(np.float16)
    hashed = unlearned_hasher(job.settings).hash(halves.astype(np.float32), job.key_bits)
    images = [
        ImageRow(
            first_id + n,
            b"%d/\xff %d.jpg" % (seed, n),
            10 + n,
            1 << 60,
            digest(seed, n),
            9,
            7,
            "PNG",
        )
        for n in range(count)
    ]
    left_out = [
        ImageRow(
            first_id + n,
            b"%d/bad %d.jpg" % (seed, n),
            0,
            5,
            skipped="empty",
            detail="nothing in it",
            remedy="copy it again",
        )
        for n in range(count, count + skipped)
    ]
    ids = np.arange(first_id, first_id + count)
    return Rows(ids, halves, hashed.codes, hashed.corrections, hashed.keys, images, left_out)


def digest(seed: int, n: int) -> bytes:
    return hashlib.blake2b(b"%d %d" % (seed, n), digest_size=16).digest()


def assert_equal(found: Rows, expected: Rows) -> None:
    for name in ("ids", "vectors", "codes", "corrections", "keys"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert found.images == expected.images
    assert found.skipped == expected.skipped


def embedded(
    source: Path | str, where: Path | str, model: Path, *, chunk_images: int | None = None
) -> Parts:
    """A job that is done."""
    parts = prepare(str(source), str(where), model=str(model), chunk_images=chunk_images)
    embed_here(parts, model=str(model), threads=1)
    parts.check_complete()
    return parts


def stored(parts: Parts) -> dict[str, Stored]:
    """Path -> what the parts have of it; a path that comes twice is an error."""
    found: dict[str, Stored] = {}
    for name in parts.names():
        rows = parts.read(name)
        for at, row in enumerate(rows.images):
            path = row.path.decode("utf-8", "surrogateescape")
            assert path not in found
            found[path] = Stored(
                row.hash,
                rows.vectors[at].tobytes(),
                rows.codes[at].tobytes(),
                int(rows.corrections[at]),
                tuple(rows.keys[:, at].tolist()),
            )
    return found


def reasons(parts: Parts) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Path -> why it was skipped."""
    rows = [row for name in parts.names() for row in parts.read(name).skipped]
    return {
        row.path.decode("utf-8", "surrogateescape"): (row.skipped, row.detail, row.remedy)
        for row in rows
    }


def of_gallery(gallery: Gallery) -> dict[str, Stored]:
    """Path -> what a local gallery's index has of each image."""
    with gallery._files.reading_all() as (store, index):
        (segment,) = index.segments()
        assert index.hasher is not None
        items = segment.items(index.hasher, np.arange(len(segment)))
        rows = store.by_ids(items.ids.tolist())
        return {
            os.fsdecode(rows[number].path): Stored(
                rows[number].hash,
                segment.vectors[at].tobytes(),
                items.codes[at].tobytes(),
                int(items.corrections[at]),
                tuple(items.keys[:, at].tolist()),
            )
            for at, number in enumerate(items.ids.tolist())
        }
