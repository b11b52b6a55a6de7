"""Changing a gallery in shards: `Gallery.update` and `remove` over a copy of its table.

Each transaction of that table is a part, written before it is committed: the acknowledgement.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.cluster.chunk import as_stored
from lookalike.cluster.job import Job
from lookalike.cluster.lease import Lease
from lookalike.cluster.parts import GONE, OF_FILE, Parts
from lookalike.cluster.source import open_source
from lookalike.cluster.storage import is_uri
from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ImageRow, file_state
from lookalike.gallery.scan import FoundFile
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings

Committed = Callable[[int], None]


def listed_files(job: Job) -> Callable[[], Iterator[FoundFile]] | None:
    """What `Update` compares a gallery with: None: its folder; else the files of a list.

    Raises:
        GalleryError: the parts are not of files on this machine, or these are not there.
    """
    if not job.root or is_uri(job.root) or is_uri(job.source):
        raise GalleryError(
            f"only a gallery of files on this machine is brought up to date, and this one is of "
            f"{job.source or 'a table'}; embed that into a new DIR, start it under another name, "
            f"then: lookalike cluster switch"
        )
    if not os.path.isdir(job.root):
        raise GalleryError(f"{job.root} is not a folder, or its disk is not mounted")
    if job.source == job.root:
        return None
    source = open_source(job.source)
    if source.root != job.root:
        raise GalleryError(
            f"the paths of this gallery are relative to {job.root}, but the files that "
            f"{job.source} lists now are in {source.root}; embed it into a new DIR, start it under "
            f"another name, then: lookalike cluster switch"
        )

    def files() -> Iterator[FoundFile]:
        items = source.items()
        for name, _row in items:
            path = os.path.join(os.fsencode(job.root), name)
            with suppress(FileNotFoundError, NotADirectoryError):
                yield FoundFile(name, *file_state(os.stat(path)))

    return files


@contextmanager
def writing(
    parts: Parts, wait: float = 0.0, committed: Committed = lambda version: None
) -> Iterator[tuple[GalleryFiles, Journal, LSHIndex]]:
    """What `Update` and `remove` take for a gallery's files, table and index.

    Args:
        wait: seconds to wait for another writer.
        committed: called with the version of each part that was written.

    Raises:
        GalleryLockedError: another process is writing.
    """
    parts.check_complete()
    with Lease.acquire(parts.storage, wait) as lease, TemporaryDirectory() as folder:
        files = GalleryFiles(Path(folder))
        measured = PairStatistics((0.0,), (0.0,), 0, 1 << 62)  # which shards do, each of its images
        meta = {"model": parts.job.model.as_dict(), "root": None, "pairs": measured.as_dict()}
        Store.create(files.table, meta, first_id=parts.next_id())
        with closing(Store.open(files.table, write=True)) as store, store.transaction():
            for name in parts.refresh():
                rows = parts.live(name, vectors=False)
                store.put([*rows.images, *rows.skipped])
        with closing(cast("Journal", Journal.open(files.table, write=True))) as journal:
            new = NewVectors(parts, journal)
            journal.begin(parts, lease, new, committed)
            yield files, journal, cast("LSHIndex", new)


class Journal(Store):
    """A table whose changed rows are written as a part when a transaction ends."""

    def begin(self, parts: Parts, lease: Lease, new: NewVectors, committed: Committed) -> None:
        """From now on; until then it is an ordinary table."""
        self._parts, self._lease, self._new, self._committed = parts, lease, new, committed
        self._next_part = parts.next_id()
        self._changed: dict[bytes, ImageRow] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; what the block put and deleted is a part when it ends."""
        with super().transaction():
            self._changed = {}
            yield
            version = self._write()
        if version is not None:
            self._committed(version)

    def put(self, rows: Iterable[ImageRow]) -> None:
        """As of any table; noted if anything differs that parts hold."""
        given = list(rows)
        known = {row.path: row for row in self.by_paths(row.path for row in given)}
        before = self.by_ids(row.id for row in given)
        super().put(given)
        for row in given:
            if row.id in before and before[row.id].path != row.path:  # it moved
                gone = before[row.id]
                self._changed.setdefault(gone.path, _gone(gone))
            old = known.get(row.path)
            if old is None or any(getattr(row, name) != getattr(old, name) for name in OF_FILE):
                self._changed[row.path] = row

    def delete(self, ids: Iterable[int]) -> None:
        """As of any table; noted."""
        given = list(ids)
        self._changed |= {row.path: _gone(row) for row in self.by_ids(given).values()}
        super().delete(given)

    def _write(self) -> int | None:
        """The part of what has changed; returns its version."""
        rows = self._changed.values()
        if not rows:
            return None
        images = [row for row in rows if row.skipped is None]
        others = [row for row in rows if row.skipped is not None]
        vectors = self._new.stored([row.id for row in images])
        self._lease.check()
        first = max(self._next_part, self._parts.job.last_id + 1)
        name = self._parts.append(first, Embedded(images, vectors, others))
        self._next_part = max(first, *(row.id for row in rows)) + 1
        self._new.are_written(images)
        self._changed = {}
        return self._parts.version(name)


def _gone(row: ImageRow) -> ImageRow:
    """That its path is not there any more."""
    return ImageRow(row.id, row.path, row.size, row.mtime_ns, skipped=GONE)


class NewVectors:
    """As an `LSHIndex`, as far as an update asks it: the vectors that are not in a part yet, and,
    when they are asked for, those that are.
    """

    def __init__(self, parts: Parts, store: Store) -> None:
        self._parts = parts
        self._store = store
        self._pending: dict[int, NDArray[np.float16]] = {}
        self._using = threading.Lock()
        self.settings = LSHSettings(parts.job.model.dim)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Of the table's images, and of those to come, ascending."""
        known = np.array(self._store.ids(), np.int64)
        return np.union1d(known, np.array(list(self._pending), np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        wanted = np.asarray(ids, np.int64)
        there = self._store.by_ids(wanted.tolist())
        return np.array(
            [i in self._pending or (i in there and not there[i].skipped) for i in wanted.tolist()],
            np.bool_,
        )

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        rows = np.asarray(vectors, np.float32)
        stored = as_stored(list(rows), rows.shape[1])
        self._pending.update(zip(np.asarray(ids).tolist(), stored, strict=True))

    def vectors(self, ids: ArrayLike) -> NDArray[np.float32]:
        return self.stored(np.asarray(ids, np.int64).tolist()).astype(np.float32)

    def stored(self, ids: list[int]) -> NDArray[np.float16]:
        """Embeddings, float16 (n, dim), as parts hold them."""
        out = np.empty((len(ids), self._parts.job.model.dim), np.float16)
        old = [at for at, number in enumerate(ids) if number not in self._pending]
        if old:
            with self._using:
                out[old] = self._parts.vectors([ids[at] for at in old])
        for at, number in enumerate(ids):
            if number in self._pending:
                out[at] = self._pending[number]
        return out

    def are_written(self, rows: Iterable[ImageRow]) -> None:
        """These are in a part now."""
        for row in rows:
            self._pending.pop(row.id, None)

    def remove(self, ids: ArrayLike) -> None:
        """The parts say it."""

    @property
    def is_saved(self) -> bool:
        """The parts hold it."""
        return True

    def save(self, folder: str | os.PathLike[str]) -> None:
        """The parts hold it."""

    def compact(self, *, only_if_worth_it: bool = False) -> None:
        """Nothing to merge."""
