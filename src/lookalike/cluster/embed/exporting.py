"""A gallery on this machine -> parts, without embedding anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np

from lookalike.cluster.embed.chunk import hash_stored
from lookalike.cluster.embed.embedding import CHUNK_IMAGES, default_key_bits
from lookalike.cluster.job.descriptor import Chunk, write_chunks
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.jobfile import check_vacant, store_hasher, write_job
from lookalike.cluster.job.parts import Job, Parts
from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.store import REMOVED, ImageRow, Store
from lookalike.lsh import LSHIndex

__all__ = ["export_gallery"]

PAGE = 1024


def export_gallery(gallery: Gallery, where: str, *, chunk_images: int = CHUNK_IMAGES) -> Parts:
    """Write a gallery's rows, vectors, hash functions and codes as the parts of a job.

    Files get new ids, 1, 2, 3 and so on, in the order of their ids in the gallery; what a user took
    out comes last. There is no job until the call has returned; one that raises leaves no parts.

    Args:
        where: an empty or new folder, or the URI of one.
        chunk_images: images per part.

    Raises:
        GalleryError: the gallery has no images, or the folder is not empty.
    """
    folder = Folder(where)
    check_vacant(folder)
    with GalleryFiles(gallery.directory).reading_all() as (store, index), store.snapshot():
        settings, hasher = index.settings, index.hasher
        if hasher is None or not len(index):
            raise GalleryError(f"the gallery in {gallery.directory} has no images to export")
        settings = replace(settings, vectors="float16")  # as parts keep them
        hasher = replace(hasher, settings=settings)
        bits = settings.key_bits
        if bits is None:
            bits = min(default_key_bits(len(index)), hasher.max_key_bits)
        root = os.path.abspath(gallery.root)
        chunks = (
            Chunk(number, group[0][1].id, "files", tuple(os.fsdecode(row.path) for _, row in group))
            for number, group in enumerate(_groups(store, index, chunk_images))
        )
        count, images = write_chunks(folder, chunks)
        name, sha256 = store_hasher(folder, hasher)
        job = Job(
            made_with(store), settings, bits, root, chunk_images, count, images, root, hasher=name
        )
        parts = Parts(folder, job, hasher)
        try:
            _write_parts(parts, store, index)
        except BaseException:
            for left in folder.names():
                if left.startswith("part-"):
                    with suppress(OSError):
                        folder.delete(left)
            raise
    write_job(folder, job, sha256)
    return parts


def _write_parts(parts: Parts, store: Store, index: LSHIndex) -> None:
    job = parts.job
    for group in _groups(store, index, job.chunk_images):
        indexed = [(old, row) for old, row in group if row.skipped is None]
        vectors = index.vectors([old for old, _ in indexed]).astype(np.float16)
        rows = hash_stored(job, parts.hasher, [row for _, row in indexed], vectors)
        skipped = [row for _, row in group if row.skipped is not None]
        parts.write(group[0][1].id, rows._replace(skipped=skipped))
    first = job.last_id + 1
    removed = [replace(row, id=first + n) for n, row in enumerate(store.removed())]
    if removed:
        nothing = np.empty((0, job.settings.dim), np.float16)
        parts.write(first, hash_stored(job, parts.hasher, [], nothing)._replace(skipped=removed))


def _groups(store: Store, index: LSHIndex, size: int) -> Iterator[list[tuple[int, ImageRow]]]:
    """Images and skipped files by id, ``size`` at a time: the old id, and the row with its new one.

    A row whose vector is lost is left out: the next update of the gallery reads it again.
    """
    rows = enumerate(_whole_rows(store, index), 1)
    while group := [(row.id, replace(row, id=new)) for new, row in islice(rows, size)]:
        yield group


def _whole_rows(store: Store, index: LSHIndex) -> Iterator[ImageRow]:
    rows = store.rows("skipped IS NOT ? ORDER BY id", (REMOVED,))
    while page := list(islice(rows, PAGE)):
        there = index.contains([row.id for row in page])
        for row, has_vector in zip(page, there, strict=True):
            if has_vector or row.skipped is not None:
                yield row
