"""Bringing a gallery in a cluster up to date with its folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from lookalike.cluster.embed.chunk import embed_batch
from lookalike.cluster.job.descriptor import Chunk
from lookalike.cluster.relisting import files_now
from lookalike.cluster.store import ClusterStore
from lookalike.cluster.truth import Writing
from lookalike.encoder import Encoder
from lookalike.gallery.changes import ToRead, missing, note_files, to_read
from lookalike.gallery.places import TABLE
from lookalike.gallery.rarity import SAMPLE, PairStatistics
from lookalike.gallery.report import Progress, UpdateReport
from lookalike.gallery.scan import FoundFile
from lookalike.gallery.store import OWN_SHEET, REMOVED, ImageRow, Store
from lookalike.gallery.update import RETRIED
from lookalike.images import SkippedImageError, content_hash

__all__ = ["Update"]

BATCH = 256
"""Files between two commits, at most; the images among them are one new part."""
MIRRORED_AT_ONCE = 4096
Item = TypeVar("Item")


@dataclass
class _Batch:
    """What becomes of some files: known images under new ids, notes that move, and the rest."""

    images: list[ImageRow] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)  # whose vectors the images have
    notes: list[ImageRow] = field(default_factory=list)
    moved: list[ImageRow] = field(default_factory=list)  # rows whose file is elsewhere now
    unread: list[ToRead] = field(default_factory=list)


class Update:
    """One run over the folder; the caller holds the writer's lock.

    The collection's rows are copied to a temporary table first, which is joined with the folder as
    that of a local gallery is.
    """

    def __init__(self, writing: Writing, encoder: Callable[[], Encoder], max_pixels: int) -> None:
        self._writing = writing
        self._collection = writing.collection
        self._keeps_vectors = self._collection.settings.vectors != "none"
        self._encoder = encoder
        self._max_pixels = max_pixels
        self._report = UpdateReport()
        self._missing: dict[bytes, list[ImageRow]] = {}

    def run(self, progress: Callable[[Progress], None] | None = None) -> UpdateReport:
        """Walk the folder, and commit after each BATCH files; killed, only the last are lost.

        Raises:
            GalleryError: the list of files that the gallery was made of is elsewhere now.
        """
        report, began = self._report, time.monotonic()
        unlisted: list[bytes] = []

        def note_unlisted(folder: bytes, error: OSError) -> None:
            unlisted.append(folder)
            report.unlisted.append((folder, error.strerror or str(error)))

        files = files_now(self._writing.parts.job, note_unlisted)
        marks = ClusterStore(self._collection)
        with self._mirror() as store:
            note_files(store, files)
            for row in missing(store, unlisted):
                self._missing.setdefault(row.hash or b"", []).append(row)
            for rows in self._missing.values():  # taken from the end: images before notes
                rows.sort(key=lambda row: row.skipped is None)
            total, todo = to_read(store, RETRIED, REMOVED)
            if total:
                self._encoder()  # another model than the gallery's changes nothing
                marks.set_unfinished(True)
            for done, batch in _batches(todo, BATCH):
                self._take(store, batch)
                if progress is not None:
                    progress(Progress(done, total, len(report.newly_skipped)))
            gone = [row for rows in self._missing.values() for row in rows]
            report.dropped = sum(row.skipped is None for row in gone)
            self._drop(store, gone)
            self._measure(store)
            report.images, report.skipped, report.removed = store.counts()
        if marks.unfinished():
            marks.set_unfinished(False)
        report.seconds = time.monotonic() - began
        return report

    @contextmanager
    def _mirror(self) -> Iterator[Store]:
        """A table, until the block ends, with the collection's rows."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / TABLE
            Store.create(path, {})
            store = Store.open(path, write=True)
            try:
                rows = (record.row for record in self._collection.iterate_records())
                for _, some in _batches(rows, MIRRORED_AT_ONCE):
                    _commit(store, some)
                _commit(store, self._collection.skipped())
                yield store
            finally:
                store.close()

    # ---- one batch -------------------------------------------------------------------------------

    def _take(self, store: Store, files: list[ToRead]) -> None:
        batch = self._sort_out(store, files)
        if batch.images or batch.notes:
            found = self._collection.vectors(batch.sources) if batch.sources else np.empty((0, 0))
            vectors = found.astype(np.float16).reshape(-1, self._collection.settings.dim)
            rows = self._writing.add_known(batch.images, vectors, batch.notes)
            _commit(store, (*rows.images, *rows.skipped))
            self._drop(store, batch.moved)
        if not batch.unread:
            return
        names = tuple(os.fsdecode(wanted.file.path) for wanted in batch.unread)
        chunk = Chunk(0, self._writing.take_ids(len(names)), "files", names)
        parts = self._writing.parts
        made = embed_batch(chunk, parts.job, parts.hasher, self._encoder(), self._max_pixels)
        rows = self._writing.add(made)
        _commit(store, (*rows.images, *rows.skipped))
        images = {row.path for row in rows.images}
        for wanted in batch.unread:
            if wanted.file.path in images:
                self._count(wanted)
        self._report.newly_skipped += [row for row in rows.skipped if row.skipped != OWN_SHEET]

    def _sort_out(self, store: Store, files: list[ToRead]) -> _Batch:
        """Which of the files have content that is known, so that they need not be decoded."""
        batch = _Batch()
        if not self._keeps_vectors:
            batch.unread = files
            return batch
        for wanted in files:
            path = os.path.join(os.fsencode(self._collection.root), wanted.file.path)
            try:
                digest = content_hash(path)
            except SkippedImageError:  # the reader will say so
                batch.unread.append(wanted)
                continue
            if not self._reuse(store, wanted, digest, batch):
                batch.unread.append(wanted)
        return batch

    def _reuse(self, store: Store, wanted: ToRead, digest: bytes, batch: _Batch) -> bool:
        """Content that is known: of this path (touched), or of a file that moved or was copied."""
        known: ImageRow | None
        if digest == wanted.indexed_hash:
            known = store.by_path(wanted.file.path)
        elif self._missing.get(digest):
            known = self._missing[digest].pop()
            batch.moved.append(known)
            self._report.moved += 1
        else:
            known = next(iter(store.by_hash(digest)), None)
            if known is not None:
                self._count(wanted)
                self._report.reused += 1
        if known is None:
            return False
        row = _at(wanted.file, replace(known, id=self._writing.take_ids(1)))
        if known.skipped is None:
            batch.images.append(row)
            batch.sources.append(known.id)
        else:
            batch.notes.append(row)
        return True

    def _count(self, wanted: ToRead) -> None:
        if wanted.indexed_hash is None:
            self._report.added += 1
        else:
            self._report.changed += 1

    # ---- afterwards ------------------------------------------------------------------------------

    def _drop(self, store: Store, rows: list[ImageRow]) -> None:
        self._writing.drop(rows)
        with store.transaction():
            store.delete(row.id for row in rows)

    def _measure(self, store: Store) -> None:
        """Renew the pair statistics when more than a tenth of the images are others."""
        ids, known = np.array(store.ids(), np.int64), self._collection.pairs
        if known is not None and known.fits(ids):
            return
        self._collection.set_pairs(PairStatistics.measure(self._writing.parts.sample(SAMPLE), ids))


def _at(file: FoundFile, row: ImageRow) -> ImageRow:
    return replace(row, path=file.path, size=file.size, mtime_ns=file.mtime_ns)


def _commit(store: Store, rows: Iterable[ImageRow]) -> None:
    with store.transaction():
        store.put(rows)


def _batches(items: Iterable[Item], size: int) -> Iterator[tuple[int, list[Item]]]:
    """At most ``size`` items at a time, and how many there were with them."""
    iterator, done = iter(items), 0
    while some := list(islice(iterator, size)):
        done += len(some)
        yield done, some
