"""Bring a gallery up to date with its folder: add, re-encode, drop, recognise what moved."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoded, Encoder
from lookalike.errors import GalleryGoneError, LookalikeError
from lookalike.gallery.changes import (
    ToRead,
    absences,
    adopt_states,
    devices_of,
    found_below,
    known_below,
    missing,
    most_are_gone,
    note_files,
    to_read,
)
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.ignore import read_rules
from lookalike.gallery.places import GONE, is_within
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.scan import FoundFile, ScanNotes, scan
from lookalike.gallery.store import REMOVED, Store
from lookalike.images import DecodedImage, SkippedImageError, SkipReason, content_hash
from lookalike.images.decoder import Decoder, Limits
from lookalike.images.likeness import perceptual_hash, reduced
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.progress import Progress

_log = logging.getLogger(__name__)

COMMIT_IMAGES = 1024
COMMIT_SECONDS = 10.0
SMALLEST_DIM = 8
# What may have changed although the file's size and time have not.
RETRIED = (
    SkipReason.NEEDS_EXTRA,
    SkipReason.TOO_LARGE,
    SkipReason.TOO_SLOW,
    SkipReason.UNREADABLE,
    SkipReason.VANISHED,
)
# What says nothing about a file's content.
OUT_OF_REACH = (SkipReason.UNREADABLE, SkipReason.VANISHED)


class _SameContentError(LookalikeError):
    """The file's content is known already, so that it need not be decoded."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(digest.hex())
        self.digest = digest


def why_skipped(error: LookalikeError) -> tuple[str, str, str]:
    """Reason, detail and remedy of a file that gave no embedding."""
    if isinstance(error, SkippedImageError):
        why = str(error.reason), error.detail, error.remedy
    else:
        why = "failed", str(error), "report it, with the file"
    # A name that is not text would not go into the table.
    reason, detail, remedy = (text.encode(errors="backslashreplace").decode() for text in why)
    return reason, detail, remedy


@dataclass(frozen=True, eq=False)
class ReadImage:
    """What was read of a file: its row, and its pixels, uint8 (s, s, 3)."""

    row: ImageRow
    pixels: NDArray[np.uint8]


def read_row(
    row: ImageRow,
    made: DecodedImage | SkippedImageError,
    reduced: Callable[[NDArray[np.uint8]], NDArray[np.float64]] = reduced,
) -> ReadImage | SkippedImageError:
    """``row``, with what decoding gave; ``reduced`` as for `perceptual_hash`."""
    if isinstance(made, SkippedImageError):
        return made
    row = replace(
        row,
        width=made.width,
        height=made.height,
        format=made.format,
        note=None if made.note is None else str(made.note),
        phash=perceptual_hash(made.pixels, reduced),
        taken=made.taken,
    )
    return ReadImage(row, made.pixels)


def _load_squares() -> ModuleType | None:
    from lookalike.gallery import squares

    return squares if squares.is_as_pillow() else None


def _load_compiled(settings: LSHSettings) -> None:
    """Load, or compile, what a commit and the graph of neighbours run."""
    index = LSHIndex(settings=replace(settings, dim=SMALLEST_DIM))
    vectors = np.eye(2, SMALLEST_DIM, dtype=np.float32)
    index.add([0, 1], vectors)
    index.search(vectors, 1)


ID_GAP = 1 << 32
"""By up to so many the ids of a run are above those of the run before. Where a folder is
synchronised to two machines that both update, the table of one may come to lie beside the index of
the other: no id names different images in the two then, and `recover` reads again what is lacking.
"""


class Update:
    """One run over the folder; the caller holds the writer's lock."""

    def __init__(
        self,
        root: Path,
        files: GalleryFiles,
        store: Store,
        index: LSHIndex,
        encoder: Callable[[], Encoder],
        limits: Limits,
        skip: Sequence[Path] = (),
        accept_missing: bool = False,
        listed: Callable[[], Iterator[FoundFile]] | None = None,
    ) -> None:
        """``skip``: folders that are passed over, besides the gallery's own; ``accept_missing``: as
        in `Gallery.update`; ``listed``: the files that there are, None: the folder is walked."""
        self._root = os.fsencode(root)
        self._files = files
        self._store = store
        self._index = index
        self._encoder = encoder
        self._limits = limits
        self._passed_over = [os.fsencode(folder) for folder in (files.directory, *skip)]
        self._next_id = max(store.next_id(), int(index.ids.max(initial=0)) + 1)
        if self._next_id > 1:
            self._next_id += secrets.randbelow(ID_GAP)
        self._accept_missing = accept_missing
        self._listed = listed
        self._report = UpdateReport()
        self.notes = ScanNotes()
        self._rules = read_rules(files.directory)
        self._known = 0
        # Rows by content: of files that are gone, and those that this run has overwritten. Their
        # vectors stay in the index until the end, for files of that content that turn up.
        self._missing: dict[bytes, list[ImageRow]] = {}
        self._marks = Counter[bytes]()  # of files that were taken out and are gone: not yet moved
        self._overwritten: dict[bytes, ImageRow] = {}
        # What the next commit writes:
        self._rows: dict[bytes, ImageRow] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._committed = time.monotonic()

    def run(self, progress: Callable[[Progress], None] | None = None) -> UpdateReport:
        """Walk the folder and commit at least every COMMIT_IMAGES images or COMMIT_SECONDS seconds.

        Interrupted by Ctrl-C, what was encoded is committed; killed, all but the batch in hand.
        """
        report, began = self._report, time.monotonic()
        counts = self._store.counts()
        self._known = counts.images + counts.skipped
        gone = self._scan()
        for row in gone:
            self._missing.setdefault(row.hash or b"", []).append(row)
            self._marks[row.hash or b""] += row.skipped == REMOVED
        for rows in self._missing.values():  # taken from the end: indexed ones before removed ones
            rows.sort(key=lambda row: row.skipped is None)
        adopt_states(self._store)
        total, files = to_read(self._store, RETRIED, REMOVED)
        if total:
            self._mark_unfinished(True)
        try:
            if total:
                self._read(files, total, progress)
        finally:
            try:
                self._commit()
            except KeyboardInterrupt:  # a second Ctrl-C, or `timeout`, which signals twice
                self._commit()
                raise
        self._drop()
        self._note_devices()
        self._measure()
        if self._store.meta("unfinished"):
            self._mark_unfinished(False)
        report.images, report.skipped, report.removed = self._store.counts()
        report.seconds = time.monotonic() - began
        _log.info(
            "updated %s: %d images, %d added, %d changed, %d moved, %d dropped, %.1f s",
            os.fsdecode(self._root),
            report.images,
            report.added,
            report.changed,
            report.moved,
            report.dropped,
            report.seconds,
        )
        return report

    def _scan(self) -> list[ImageRow]:
        """Walk the folder; the rows whose file is gone and need not be kept."""
        report, notes = self._report, self.notes

        def note_unlisted(path: bytes, error: OSError) -> None:
            report.unlisted.append((path, error.strerror or str(error)))

        if self._listed is None:
            found = scan(
                self._root, note_unlisted, *self._passed_over, notes=notes, rules=self._rules
            )
        else:
            found = self._listed()
        note_files(self._store, found)
        for link in notes.dangling:
            if known_below(self._store, link):
                report.unlisted.append((link, "the link leads to nothing"))
        gone = missing(self._store, [path for path, _ in report.unlisted])
        if not self._accept_missing:
            is_there = partial(found_below, self._store)
            ignored = [row for row in gone if notes.ignores(row.path)]
            gone = [row for row in gone if not notes.ignores(row.path)]
            report.absent, gone = absences(gone, notes, devices_of(self._store), is_there)
            gone += ignored
        report.passed_over, report.others = dict(notes.passed_over), notes.others
        report.ignored = len(notes.ignored)
        report.galleries, report.nested = notes.galleries, notes.nested
        return gone

    # ---- reading ------------------------------------------------------------------------------

    def _read(
        self,
        files: Iterator[ToRead],
        total: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        with ExitStack() as stack:
            decoder = stack.enter_context(Decoder(self._limits))
            decoder.prepare(total)  # while the model is opened
            # In a thread, where Ctrl-C does not interrupt an import, which would fail from then on.
            helper = stack.enter_context(ThreadPoolExecutor(1, "lookalike-load"))
            loading = helper.submit(_load_squares)
            encoder = self._encoder()
            size = encoder.info.input_size

            def scale_faster() -> None:
                if (squares := loading.result()) is not None:
                    encoder.scaling.scale = squares.scale

            helper.submit(scale_faster)
            helper.submit(_load_compiled, self._index.settings)

            def digest_of(wanted: ToRead) -> bytes | LookalikeError:
                """Of content that must be decoded, or why it need not be."""
                path = os.path.join(self._root, wanted.file.path)
                try:
                    digest = content_hash(path)
                except SkippedImageError as error:
                    return error
                with self._store.lock:
                    seen = bool(self._store.by_hash(digest))
                    if not seen and self._marks[digest]:  # one file each: they have no vector
                        self._marks[digest] -= 1
                        seen = True
                same = seen or digest == wanted.indexed_hash
                return _SameContentError(digest) if same else digest

            def read(group: Sequence[ToRead]) -> list[ReadImage | LookalikeError]:
                digests = list(map(digest_of, group))
                paths = [
                    os.path.join(self._root, wanted.file.path)
                    for wanted, digest in zip(group, digests, strict=True)
                    if isinstance(digest, bytes)
                ]
                squares = loading.result() if loading.done() else None
                made = iter(decoder.read_images(paths, size, keep_small=squares is not None))

                def row_of(digest: bytes) -> ReadImage | LookalikeError:
                    row, image = ImageRow(0, b"", 0, 0, digest), next(made)
                    if squares is None or not isinstance(image, DecodedImage):
                        return read_row(row, image)
                    return read_row(row, squares.enlarged(image, size), squares.levels)

                return [row_of(one) if isinstance(one, bytes) else one for one in digests]

            outcomes = encoder.encode(files, read, decoder.close)
            stack.callback(cast("Generator[object]", outcomes).close)  # ends its threads
            for done, outcome in enumerate(outcomes, 1):
                wanted = outcome.item
                if isinstance(outcome, Encoded):
                    self._take(wanted, outcome.image.row, outcome.embedding)
                elif isinstance(outcome.error, _SameContentError):
                    self._reuse(wanted, outcome.error.digest)
                else:
                    self._skip(wanted, outcome.error)
                late = time.monotonic() - self._committed > COMMIT_SECONDS
                if len(self._rows) >= COMMIT_IMAGES or late:
                    self._commit()
                if progress is not None:
                    progress(Progress(done, total, len(self._report.newly_skipped)))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _put(self, file: FoundFile, row: ImageRow, **changes: Any) -> None:
        self._rows[file.path] = replace(
            row,
            path=file.path,
            size=file.size,
            mtime_ns=file.mtime_ns,
            inode=file.inode,
            ctime_ns=file.ctime_ns,
            **changes,
        )

    def _count(self, wanted: ToRead) -> None:
        if wanted.indexed_hash is None:
            self._report.added += 1
        else:
            self._report.changed += 1

    def _take(self, wanted: ToRead, read: ImageRow, vector: NDArray[np.float32]) -> None:
        number = self._new_id()
        self._vectors[number] = vector
        self._put(wanted.file, read, id=number)
        self._count(wanted)

    def _reuse(self, wanted: ToRead, digest: bytes) -> None:
        """Content that is known: of this path (touched), or of a file that moved or was copied."""
        if digest == wanted.indexed_hash:
            (row,) = self._store.by_paths([wanted.file.path])
            self._put(wanted.file, row)
        elif self._missing.get(digest):
            self._put(wanted.file, self._missing[digest].pop())
            self._report.moved += 1
        else:
            row, vector = self._source(digest)
            row = replace(row, id=self._new_id())
            self._vectors[row.id] = vector
            self._put(wanted.file, row)
            self._count(wanted)
            self._report.reused += 1

    def _source(self, digest: bytes) -> tuple[ImageRow, NDArray[np.float32]]:
        """A row of this content that still has its vector, and that vector."""
        pending = next((row for row in self._rows.values() if row.hash == digest), None)
        if pending is not None and pending.id in self._vectors:
            return pending, self._vectors[pending.id]
        row = self._overwritten.get(digest) or self._store.by_hash(digest)[0]
        vector: NDArray[np.float32] = self._index.vectors([row.id])[0]
        return row, vector

    def _skip(self, wanted: ToRead, error: LookalikeError) -> None:
        file, (reason, detail, remedy) = wanted.file, why_skipped(error)
        if reason in OUT_OF_REACH and not self._is_there():
            raise GalleryGoneError(GONE.format(os.fsdecode(self._root)))
        if wanted.indexed_hash is not None and reason in OUT_OF_REACH:
            self._report.unlisted.append((file.path, detail))
            return  # what it was is still known, and it is read again next time
        row = ImageRow(self._new_id(), file.path, file.size, file.mtime_ns)
        row = replace(row, skipped=reason, detail=detail, remedy=remedy)
        self._put(file, row)
        self._report.newly_skipped.append(row)
        _log.info("skipped %s: %s: %s", os.fsdecode(file.path), reason, detail)

    def _is_there(self) -> bool:
        """Whether the folder, and each disk in it, is what was walked."""
        devices: dict[bytes, int | None] = {**self.notes.devices} or {b"": None}
        for folder, device in devices.items():
            try:
                now = os.stat(os.path.join(self._root, folder)).st_dev
            except OSError:
                return False
            if device not in (None, now):
                return False
        return True

    # ---- writing ------------------------------------------------------------------------------

    def _mark_unfinished(self, unfinished: bool) -> None:
        with self._store.transaction():
            self._store.set_meta({"unfinished": unfinished})

    def _commit(self) -> None:
        """Index first, table second: `recover` drops what only the index has.

        May be called again after an interruption anywhere inside.
        """
        self._committed = time.monotonic()
        if not self._rows:
            return
        if self._vectors:
            ids = np.array(list(self._vectors), np.int64)
            new = ids[~self._index.contains(ids)].tolist()
            if new:
                self._index.add(new, np.stack([self._vectors[number] for number in new]))
            self._index.save(self._files.index_folder)
        kept = {row.id for row in self._rows.values()}
        for row in self._store.by_paths(self._rows):
            if row.id not in kept and row.hash is not None and row.skipped is None:
                self._overwritten[row.hash] = row
        with self._store.transaction():
            self._store.put(self._rows.values())
        _log.info("committed %d files", len(self._rows))
        self._rows, self._vectors = {}, {}

    def _drop(self) -> None:
        """Forget the files that are gone and did not turn up elsewhere, and vectors without one.

        What the user has taken out stays so, whether its file is there or not.
        """
        gone = [row for rows in self._missing.values() for row in rows if row.skipped != REMOVED]
        unexplained = [row for row in gone if not self.notes.ignores(row.path)]
        if not self._accept_missing and (most := most_are_gone(unexplained, self._known)):
            self._report.absent.append(most)
            gone = [row for row in gone if self.notes.ignores(row.path)]
        self._report.dropped = sum(row.skipped is None for row in gone)
        if gone:
            with self._store.transaction():
                self._store.delete(row.id for row in gone)
        ids = self._index.ids
        orphans = np.setdiff1d(ids, np.array(self._store.ids(), np.int64), assume_unique=True)
        if orphans.size:
            self._index.remove(orphans)
        self._index.compact(only_if_worth_it=True)
        if not self._index.is_saved:
            self._index.save(self._files.index_folder)

    def _note_devices(self) -> None:
        """Those of folders that are absent or could not be looked at stay as they were."""
        before = devices_of(self._store)
        absent = {absence.folder for absence in self._report.absent}
        unlisted = [path for path, _ in self._report.unlisted]
        kept = {
            folder: device
            for folder, device in before.items()
            if folder in absent or any(is_within(folder, path) for path in unlisted)
        }
        if (now := {**self.notes.devices, **kept}) != before:
            stored = {folder.hex(): device for folder, device in now.items()}
            with self._store.transaction():
                self._store.set_meta({"devices": stored})

    def _measure(self) -> None:
        """Renew the pair statistics when more than a tenth of the images are others."""
        known = self._store.pairs()
        if known is not None and known.fits(self._index.ids):
            return
        pairs = PairStatistics.of_index(self._index)
        if pairs is None and known is None:
            return
        with self._store.transaction():
            self._store.set_meta({"pairs": None if pairs is None else pairs.as_dict()})
