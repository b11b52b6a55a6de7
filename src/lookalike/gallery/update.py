"""Bring a gallery up to date with its folder: add, re-encode, drop, recognise what moved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoded, Encoder
from lookalike.errors import LookalikeError
from lookalike.gallery.rarity import SAMPLE, PairStatistics
from lookalike.gallery.scan import FoundFile, scan
from lookalike.gallery.store import ImageRow, Store, ToRead
from lookalike.images import SkippedImageError, SkipReason, content_hash, read_picture
from lookalike.lsh import LSHIndex

__all__ = ["REMOVED", "Progress", "Update", "UpdateReport", "recover"]

REMOVED = "removed"
COMMIT_IMAGES = 512
COMMIT_SECONDS = 10.0
# What may have changed although the file's size and time have not.
RETRIED = (
    SkipReason.NEEDS_EXTRA,
    SkipReason.TOO_LARGE,
    SkipReason.UNREADABLE,
    SkipReason.VANISHED,
)


@dataclass(frozen=True)
class Progress:
    """How far an update is: files read of those to read, and how many of them were skipped."""

    done: int
    total: int
    skipped: int


@dataclass
class UpdateReport:
    """What an update did, in files. ``skipped`` counts all skipped files that the gallery knows."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    dropped: int = 0
    images: int = 0
    skipped: int = 0
    newly_skipped: list[ImageRow] = field(default_factory=list)
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)
    seconds: float = 0.0


class _SameContentError(LookalikeError):
    """The file's content is known already, so that it need not be decoded."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(digest.hex())
        self.digest = digest


@dataclass(frozen=True)
class _Read:
    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    digest: bytes


def recover(store: Store, index: LSHIndex) -> int:
    """Make table and index agree again after an interruption; returns the rows forgotten.

    The index is written first and the table second, so an item that only the index has is from a
    batch that was not committed. A row without a vector (a repaired index) is read again.
    """
    known, hashed = np.array(store.ids(), np.int64), index.ids
    index.remove(np.setdiff1d(hashed, known, assume_unique=True))
    lost = np.setdiff1d(known, hashed, assume_unique=True)
    if lost.size:
        with store.transaction():
            store.delete(lost.tolist())
    return len(lost)


class Update:
    """One run over the folder; the caller holds the writer's lock."""

    def __init__(
        self,
        root: Path,
        store: Store,
        index: LSHIndex,
        index_folder: Path,
        encoder: Callable[[], Encoder],
        max_pixels: int,
    ) -> None:
        self._root = os.fsencode(root)
        self._store = store
        self._index = index
        self._index_folder = index_folder
        self._encoder = encoder
        self._max_pixels = max_pixels
        self._next_id = max(store.next_id(), int(index.ids.max(initial=0)) + 1)
        self._missing: dict[bytes, list[ImageRow]] = {}
        self._report = UpdateReport()
        # What the next commit writes:
        self._rows: dict[bytes, ImageRow] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._committed = time.monotonic()

    def run(self, skip: Path, progress: Callable[[Progress], None] | None = None) -> UpdateReport:
        """Walk the folder, passing over ``skip``, and commit at least every COMMIT_IMAGES images or
        COMMIT_SECONDS seconds. Interrupted, all but the batch in hand is kept.
        """
        report, began = self._report, time.monotonic()
        unlisted: list[bytes] = []

        def note_unlisted(folder: bytes, error: OSError) -> None:
            unlisted.append(folder)
            report.unlisted.append((folder, error.strerror or str(error)))

        self._store.note_files(scan(self._root, note_unlisted, os.fsencode(skip)))
        for row in self._store.missing(unlisted):
            self._missing.setdefault(row.hash or b"", []).append(row)
        total, files = self._store.to_read(RETRIED, REMOVED)
        try:
            if total:
                self._read(files, total, progress)
        except KeyboardInterrupt:
            self._commit()
            raise
        self._commit()
        self._drop()
        self._measure()
        report.images, report.skipped = self._store.counts()
        report.seconds = time.monotonic() - began
        return report

    def _read(
        self,
        files: Iterator[ToRead],
        total: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        encoder = self._encoder()
        moved = frozenset(self._missing)

        def read(wanted: ToRead) -> _Read:
            path = os.path.join(self._root, wanted.file.path)
            digest = content_hash(path)
            if digest in moved or digest == wanted.indexed_hash:
                raise _SameContentError(digest)
            picture = read_picture(path, encoder.info.input_size, max_pixels=self._max_pixels)
            return _Read(picture.pixels, picture.width, picture.height, picture.format, digest)

        for done, outcome in enumerate(encoder.encode(files, read), 1):
            wanted = outcome.item
            if isinstance(outcome, Encoded):
                self._take(wanted, outcome.picture, outcome.embedding)
            elif isinstance(outcome.error, _SameContentError):
                self._reuse(wanted, outcome.error.digest)
            else:
                self._skip(wanted.file, outcome.error)
            late = time.monotonic() - self._committed > COMMIT_SECONDS
            if len(self._rows) >= COMMIT_IMAGES or late:
                self._commit()
            if progress is not None:
                progress(Progress(done, total, len(self._report.newly_skipped)))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _put(self, file: FoundFile, row: ImageRow) -> None:
        self._rows[file.path] = replace(row, path=file.path, size=file.size, mtime_ns=file.mtime_ns)

    def _take(self, wanted: ToRead, read: _Read, vector: NDArray[np.float32]) -> None:
        row = ImageRow(self._new_id(), b"", 0, 0, read.digest, read.width, read.height, read.format)
        self._vectors[row.id] = vector
        self._put(wanted.file, row)
        if wanted.indexed_hash is None:
            self._report.added += 1
        else:
            self._report.changed += 1

    def _reuse(self, wanted: ToRead, digest: bytes) -> None:
        """Content that is known: of this path (touched), or of a file that moved or was copied."""
        if digest == wanted.indexed_hash:
            row = self._store.by_path(wanted.file.path)
        elif self._missing[digest]:
            row = self._missing[digest].pop()
            self._report.moved += 1
        else:  # copies of a file that is gone: the first took its row, the others take its vector
            known = [row for row in self._rows.values() if row.hash == digest]
            source = (known or self._store.by_hash(digest))[0]
            row = replace(source, id=self._new_id())
            vector = self._vectors.get(source.id)
            self._vectors[row.id] = (
                self._index.vectors([source.id])[0] if vector is None else vector
            )
            self._report.added += 1
        if row is None:
            raise AssertionError("the digest came from a row of this path")
        self._put(wanted.file, row)

    def _skip(self, file: FoundFile, error: LookalikeError) -> None:
        if isinstance(error, SkippedImageError):
            why = str(error.reason), error.detail, error.remedy
        else:
            why = "failed", str(error), "report it, with the file"
        row = ImageRow(self._new_id(), file.path, file.size, file.mtime_ns)
        row = replace(row, skipped=why[0], detail=why[1], remedy=why[2])
        self._put(file, row)
        self._report.newly_skipped.append(row)

    def _commit(self) -> None:
        """Index first, table second: :func:`recover` drops what only the index has."""
        self._committed = time.monotonic()
        if not self._rows:
            return
        if self._vectors:
            self._index.add(list(self._vectors), np.stack(list(self._vectors.values())))
            self._index.save(self._index_folder)
        replaced = self._store.ids_of_paths(self._rows) - {row.id for row in self._rows.values()}
        with self._store.transaction():
            self._store.put(self._rows.values())
        self._forget(replaced)
        self._rows, self._vectors = {}, {}

    def _drop(self) -> None:
        """Forget the files that are gone and did not turn up elsewhere."""
        gone = [row for rows in self._missing.values() for row in rows]
        self._report.dropped = sum(row.skipped is None for row in gone)
        with self._store.transaction():
            self._store.delete(row.id for row in gone)
        self._forget({row.id for row in gone})
        self._index.compact(only_if_worth_it=True)
        self._index.save(self._index_folder)

    def _forget(self, ids: set[int]) -> None:
        numbers = np.array(sorted(ids), np.int64)
        self._index.remove(numbers[self._index.contains(numbers)])

    def _measure(self) -> None:
        """Renew the pair statistics when the gallery has changed by more than a tenth."""
        ids = self._index.ids
        known = self._store.meta("pairs")
        if known is not None and abs(known["images"] - len(ids)) <= len(ids) // 10:
            return
        rng = np.random.default_rng(0)
        sample = np.sort(rng.choice(ids, min(SAMPLE, len(ids)), replace=False))
        pairs = PairStatistics.measure(self._index.vectors(sample), len(ids))
        with self._store.transaction():
            self._store.set_meta({"pairs": None if pairs is None else pairs.as_dict()})
