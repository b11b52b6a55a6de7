"""Small jobs, and what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookalike.cluster.chunk import ChunkReport, EmbedSettings
from lookalike.cluster.embed import embed_all, prepare
from lookalike.cluster.job import Job
from lookalike.cluster.parts import Parts
from lookalike.encoder import ModelInfo
from lookalike.gallery import Gallery
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow
from lookalike.progress import Progress

DIM = 24
INFO = ModelInfo("synthetic", "1", "ab" * 32, 16, (0.0,) * 3, (1.0,) * 3, DIM)


class Stored(NamedTuple):
    """What is kept of one image, as bytes: content hash, embedding."""

    hash: bytes | None
    vector: bytes


def small_job() -> Job:
    return Job(INFO, "/photos", 8, source="/photos")


def made_rows(job: Job, first_id: int, count: int, seed: int, skipped: int = 0) -> Embedded:
    """Random images, then files that were skipped."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, job.model.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = []
    for n in range(count):
        path, content = b"%d/\xff %d.jpg" % (seed, n), digest(seed, n)
        images.append(ImageRow(first_id + n, path, 10 + n, 1 << 60, content, 9, 7, "PNG"))
    left_out = [
        ImageRow(first_id + n, b"%d/bad %d.jpg" % (seed, n), 0, 5, skipped="empty", detail="why")
        for n in range(count, count + skipped)
    ]
    return Embedded(images, vectors.astype(np.float16), left_out)


def digest(seed: int, n: int) -> bytes:
    return hashlib.blake2b(b"%d %d" % (seed, n), digest_size=16).digest()


def assert_equal(found: Embedded, expected: Embedded) -> None:
    assert found.images == expected.images
    assert found.skipped == expected.skipped
    assert found.vectors.dtype == expected.vectors.dtype == np.float16
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def embedded(
    source: Path | str, where: Path | str, model: Path, *, chunk_images: int | None = None
) -> Parts:
    """A job that is done."""
    parts = prepare(str(source), str(where), model=str(model), chunk_images=chunk_images)
    finish(parts, model)
    parts.check_complete()
    return parts


def finish(
    parts: Parts, model: Path, progress: Callable[[Progress], None] | None = None
) -> list[ChunkReport]:
    """Do what is missing of a job, in this process."""
    return embed_all(parts, settings=EmbedSettings(str(model), threads=1), progress=progress)


def stored(parts: Parts) -> dict[str, Stored]:
    """Path -> what the parts have of it; a path that comes twice is an error."""
    found: dict[str, Stored] = {}
    for name in parts.refresh():
        rows = parts.live(name)
        for row, vector in zip(rows.images, rows.vectors, strict=True):
            path = os.fsdecode(row.path)
            assert path not in found
            found[path] = Stored(row.hash, vector.tobytes())
    return found


def reasons(parts: Parts) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Path -> why it was skipped."""
    rows = [row for name in parts.refresh() for row in parts.live(name).skipped]
    return {os.fsdecode(row.path): (row.skipped, row.detail, row.remedy) for row in rows}


def of_gallery(gallery: Gallery) -> dict[str, Stored]:
    """Path -> what a local gallery has of each image."""
    with gallery._files.reading_all() as (store, index):
        rows = list(store.indexed())
        vectors = index.vectors([row.id for row in rows]).astype(np.float16)
    return {
        os.fsdecode(row.path): Stored(row.hash, vector.tobytes())
        for row, vector in zip(rows, vectors, strict=True)
    }
