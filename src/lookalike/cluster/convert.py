"""A gallery on this machine -> parts, and parts -> such a gallery; nothing is embedded."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from lookalike.cluster.embed import CHUNK_IMAGES
from lookalike.cluster.job import Chunk, ChunkList, Job, check_vacant
from lookalike.cluster.parts import Parts, Rows, to_batch
from lookalike.cluster.storage import Storage, is_uri
from lookalike.encoder import DEFAULT_MODEL
from lookalike.errors import GalleryError, ModelError, ModelMismatchError
from lookalike.gallery import Gallery
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.importing import Embedded, write_gallery
from lookalike.gallery.places import places, stored_root
from lookalike.gallery.report import Progress, UpdateReport
from lookalike.gallery.store import REMOVED, ImageRow, Store
from lookalike.lsh import LSHIndex, LSHSettings

__all__ = ["export_gallery", "import_gallery"]

PAGE = 1024
LOOKED_FOR = 100
"""Images of which one at least must be in the folder that a gallery is made for."""


def export_gallery(gallery: Gallery, where: str, *, chunk_images: int = CHUNK_IMAGES) -> Parts:
    """Write a gallery's rows and vectors as the parts of a job.

    Files get new ids, 1, 2, 3 and so on, in the order of their ids in the gallery; what a user took
    out comes last. There is no job until the call has returned; one that raises leaves no parts.

    Args:
        where: an empty or new folder, or the URI of one.
        chunk_images: images per part.

    Raises:
        GalleryError: the gallery has no images, or the folder is not empty.
    """
    storage = Storage(where)
    check_vacant(storage)
    with GalleryFiles(gallery.directory).reading_all() as (store, index), store.snapshot():
        if not len(index):
            raise GalleryError(f"the gallery in {gallery.directory} has no images to export")
        root = os.path.abspath(gallery.root)
        count, images = ChunkList.write(
            storage, (_chunk(number, rows) for number, rows in _groups(store, index, chunk_images))
        )
        job = Job(made_with(store), root, chunk_images, count, images, root)
        parts = Parts(storage, job)
        try:
            for number, rows in _groups(store, index, chunk_images):
                batch = to_batch(job, _with_vectors(index, rows))
                parts.write_chunk(_chunk(number, rows), batch)
            first = job.last_id + 1
            removed = [replace(row, id=first + n) for n, row in enumerate(store.removed())]
            if removed:
                parts.append(first, Rows([], np.empty((0, job.model.dim), np.float16), removed))
            job.write(storage)
        except BaseException:
            with suppress(OSError):
                for name in parts.names():
                    storage.delete(name)
            raise
    return parts


def _chunk(number: int, rows: list[tuple[int, ImageRow]]) -> Chunk:
    names = tuple(os.fsdecode(row.path) for _, row in rows)
    return Chunk(number, rows[0][1].id, "files", names)


def _with_vectors(index: LSHIndex, rows: list[tuple[int, ImageRow]]) -> Rows:
    images = [(old, row) for old, row in rows if row.skipped is None]
    vectors = index.vectors([old for old, _ in images]).astype(np.float16)
    return Rows([row for _, row in images], vectors, [row for _, row in rows if row.skipped])


def _groups(
    store: Store, index: LSHIndex, size: int
) -> Iterator[tuple[int, list[tuple[int, ImageRow]]]]:
    """Images and skipped files by id, ``size`` at a time: the old id, and the row with its new one.

    A row whose vector is lost is left out: the next update of the gallery reads it again.
    """
    numbered = enumerate(_whole_rows(store, index), 1)
    pairs = ((row.id, replace(row, id=new)) for new, row in numbered)
    number = 0
    while group := list(islice(pairs, size)):
        yield number, group
        number += 1


def _whole_rows(store: Store, index: LSHIndex) -> Iterator[ImageRow]:
    rows = store.rows("skipped IS NOT ? ORDER BY id", (REMOVED,))
    while page := list(islice(rows, PAGE)):
        there = index.contains([row.id for row in page])
        for row, has_vector in zip(page, there, strict=True):
            if has_vector or row.skipped is not None:
                yield row


def import_gallery(
    parts: Parts,
    folder: Path,
    *,
    directory: Path | None = None,
    model: Path | None = None,
    wait: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
) -> UpdateReport:
    """Make the gallery of ``folder`` from a job's parts: the same vectors and ids.

    Interrupted or refused, there is no gallery.

    Args:
        folder: where the images are on this machine.
        directory: where the gallery's files go; None: ``folder/.lookalike``.
        model: the job's ONNX model file, for later searches; None: the one that comes with
            lookalike.
        wait: seconds to wait for another writer.
        progress: called after each part.

    Raises:
        GalleryError: parts are missing or damaged, the images are not in ``folder``, or there is a
            gallery already.
        ModelMismatchError: ``model`` is not the job's.
    """
    began = time.monotonic()
    parts.check_complete()
    _check_model(parts, model)
    root, home = places(folder, directory)
    names = parts.refresh()
    _check_root(parts, names, root)
    meta = {
        "model": parts.job.model.as_dict(),
        "model_path": None if model is None else os.fspath(model.absolute()),
        "root": stored_root(root, home),
    }

    def batches() -> Iterator[Embedded]:
        done = skipped = 0
        for name in names:
            rows = parts.live(name)
            yield Embedded(rows.images, rows.vectors, rows.others)
            skipped += len(rows.others)
            done += len(rows.images) + len(rows.others)
            if progress is not None:
                progress(Progress(done, max(done, parts.job.images), skipped))

    settings = LSHSettings(parts.job.model.dim)
    counts = write_gallery(GalleryFiles(home), meta, settings, batches(), parts.next_id(), wait)
    return UpdateReport(
        added=counts.images,
        images=counts.images,
        skipped=counts.skipped,
        removed=counts.removed,
        seconds=time.monotonic() - began,
    )


def _check_model(parts: Parts, model: Path | None) -> None:
    path, known = model or DEFAULT_MODEL, parts.job.model
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read model {path} ({error.strerror})") from error
    if sha256 != known.sha256:
        raise ModelMismatchError(
            f"the parts in {parts.where} were made with model {known.name} {known.version} "
            f"(SHA-256 {known.sha256[:12]}), {path} has {sha256[:12]}; searches need the first: "
            f"name it with --model FILE"
        )


def _check_root(parts: Parts, names: list[str], root: Path) -> None:
    """Raises GalleryError if it is not a folder, or seems to be another than the images'."""
    if not root.is_dir():
        raise GalleryError(f"{root} is not a folder, or its disk is not mounted")
    made_of = parts.job.root
    if not made_of or is_uri(made_of) or root.resolve() == Path(made_of).resolve() or not names:
        return
    rows = parts.live(names[0], vectors=False)
    paths = [os.fsdecode(row.path) for row in rows.images[:LOOKED_FOR]]
    if paths and not any((root / path).exists() for path in paths):
        raise GalleryError(
            f"{root} has none of the first {len(paths)} images of {parts.where} ({paths[0]}, for "
            f"instance); give the folder that they are in, which was {made_of}"
        )
