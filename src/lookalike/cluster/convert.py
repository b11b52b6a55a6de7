"""A gallery on this machine -> parts, and parts -> such a gallery; nothing is embedded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from lookalike.cluster.embed import CHUNK_IMAGES
from lookalike.cluster.job import Job, check_vacant, write_list
from lookalike.cluster.parts import Parts, to_batch
from lookalike.cluster.storage import Storage, is_uri
from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.ingest import Embedded, write_gallery
from lookalike.gallery.opening import GalleryModel
from lookalike.gallery.places import places, stored_root
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import REMOVED, Store
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.progress import Progress

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
        images = write_list(storage, ((row.path, -1) for row in _whole_rows(store, index)))
        chunks = -(-images // chunk_images)
        job = Job(made_with(store), root, chunk_images, chunks, images, root)
        parts, rows = Parts(storage, job), _whole_rows(store, index)
        try:
            for number in range(chunks):
                some = list(islice(rows, chunk_images))
                parts.write_chunk(number, to_batch(job, _numbered(some, index, job, number)))
            removed = _numbered(store.removed(), index, job, chunks)
            if removed.skipped:
                parts.append(job.last_id + 1, removed)
            job.write(storage)
        except BaseException:
            with suppress(OSError):
                for name in parts.names():
                    storage.delete(name)
            raise
    return parts


def _whole_rows(store: Store, index: LSHIndex) -> Iterator[ImageRow]:
    """What the gallery knows of files, by id, but what was taken out, or lost its vector."""
    rows = store.rows("skipped IS NOT ? ORDER BY id", (REMOVED,))
    while page := list(islice(rows, PAGE)):
        there = index.contains([row.id for row in page])
        for row, has_vector in zip(page, there, strict=True):
            if has_vector or row.skipped is not None:
                yield row


def _numbered(rows: list[ImageRow], index: LSHIndex, job: Job, chunk: int) -> Embedded:
    """With their vectors, under the ids of a chunk."""
    old = [row.id for row in rows if row.skipped is None]
    vectors = index.vectors(old).astype(np.float16)
    new = [replace(row, id=job.first_id(chunk) + n) for n, row in enumerate(rows)]
    skipped = [row for row in new if row.skipped is not None]
    return Embedded([row for row in new if row.skipped is None], vectors, skipped)


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
    began, job = time.monotonic(), parts.job
    parts.check_complete()
    GalleryModel(model).check_now(job.model, lambda: "lookalike cluster embed, into a new DIR")
    root, home = places(folder, directory)
    names = parts.refresh()
    _check_root(parts, names, root)
    meta = {
        "model": job.model.as_dict(),
        "model_path": None if model is None else os.fspath(model.absolute()),
        "root": stored_root(root, home),
    }

    def batches() -> Iterator[Embedded]:
        done = skipped = 0
        for name in names:
            rows = parts.live(name)
            yield rows
            skipped += len(rows.skipped)
            done += len(rows.images) + len(rows.skipped)
            if progress is not None:
                progress(Progress(done, max(done, job.images), skipped))

    settings = LSHSettings(job.model.dim)
    files = GalleryFiles(home)
    counts = write_gallery(files, meta, settings, batches(), parts.next_id(), wait)
    with files.writing(wait) as (_, index):
        files.update_graph(index)
    seconds = time.monotonic() - began
    return UpdateReport(added=counts.images, **counts._asdict(), seconds=seconds)


def _check_root(parts: Parts, names: list[str], root: Path) -> None:
    """Raises GalleryError if it is not a folder, or seems to be another than the images'."""
    if not root.is_dir():
        raise GalleryError(f"{root} is not a folder, or its disk is not mounted")
    made_of = parts.job.root
    if not made_of or is_uri(made_of) or root.resolve() == Path(made_of).resolve():
        return
    rows = chain.from_iterable(parts.live(name, vectors=False).images for name in names)
    paths = [os.fsdecode(row.path) for row in islice(rows, LOOKED_FOR)]
    if paths and not any((root / path).exists() for path in paths):
        raise GalleryError(
            f"{root} has none of the first {len(paths)} images of {parts.where} ({paths[0]}, for "
            f"instance); give the folder that they are in, which was {made_of}"
        )
