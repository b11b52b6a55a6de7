"""Write a gallery of images whose embeddings are known already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.identity import identity_of, write_identity
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import LOCK, delete_gallery, require_own
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Counts, Store
from lookalike.lsh import LSHIndex, LSHSettings

SAVED_IMAGES = 32_768
"""Images between two saves, after which their vectors are mapped, not in memory; the hash functions
are learned from the first so many."""
NEW_TABLE = "imported.sqlite"


class Embedded(NamedTuple):
    """Images and their embeddings (n, dim), unit rows of float16; and files that were skipped."""

    images: list[ImageRow]
    vectors: NDArray[np.float16]
    skipped: list[ImageRow]


def write_gallery(
    files: GalleryFiles,
    meta: dict[str, Any],
    settings: LSHSettings,
    batches: Iterable[Embedded],
    first_id: int,
    wait: float = 0.0,
) -> Counts:
    """Make the gallery ``files``; there is none until it is whole.

    Args:
        meta: entries of the table.
        settings: of its index, which learns its hash functions from the vectors.
        batches: read once. Ids are kept; none may come twice.
        first_id: what the next update gives out, above all ids of ``batches``.
        wait: seconds to wait for another writer.

    Raises:
        GalleryError: there is a gallery, or it cannot be written.
        GalleryLockedError: another process is writing there.
    """
    with files.explained():
        if not files.exist():
            require_own(files.directory)
        files.directory.mkdir(parents=True, exist_ok=True)
        lock = files.directory / LOCK
        with writer_lock(lock, wait):
            if files.exist():
                raise GalleryError(
                    f"there is a gallery in {files.directory}; delete it first, or make the new "
                    f"one elsewhere with --gallery DIR"
                )
            try:
                delete_gallery(files.directory, keep=LOCK)  # what an interrupted call has left
                return _write(files, meta, settings, batches, first_id)
            except BaseException:
                delete_gallery(files.directory, keep=LOCK)
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # there is something else in it
                    files.directory.rmdir()
                raise


def _write(
    files: GalleryFiles,
    meta: dict[str, Any],
    settings: LSHSettings,
    batches: Iterable[Embedded],
    first_id: int,
) -> Counts:
    files.check_index_folder()
    table = files.directory / NEW_TABLE
    index = LSHIndex(settings=settings)
    Store.create(table, {**meta, "gallery_id": index.owner}, first_id)
    with closing(Store.open(table, write=True)) as store:
        for batch in _together(batches):
            with store.transaction():
                store.put([*batch.images, *batch.skipped])
            index.add_stored([row.id for row in batch.images], batch.vectors)
            index.save(files.index_folder)
        index.compact()
        index.save(files.index_folder)
        pairs = PairStatistics.of_index(index)
        if pairs is not None:
            with store.transaction():
                store.set_meta({"pairs": pairs.as_dict()})
        identity, counts = identity_of(store), store.counts()
        if counts.images != len(index):  # a row takes the place of one with its path
            lost = np.setdiff1d(index.ids, store.ids())[0]
            raise GalleryError(
                f"the image of id {lost} has the path of another; give each its own, or embed "
                f"again into an empty folder"
            )
    os.replace(table, files.table)  # from here on it is a gallery
    write_identity(files.directory, identity)
    return counts


def _together(batches: Iterable[Embedded]) -> Iterator[Embedded]:
    """The same in batches of SAVED_IMAGES or more, but for the last."""
    waiting: list[Embedded] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(part.images) + len(part.skipped) for part in waiting) >= SAVED_IMAGES:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Embedded]) -> Embedded:
    return Embedded(
        [row for part in parts for row in part.images],
        np.concatenate([part.vectors for part in parts]),
        [row for part in parts for row in part.skipped],
    )
