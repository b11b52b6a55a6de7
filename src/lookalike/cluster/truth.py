"""Changing a gallery in a cluster: the parts first, since they are the truth, then the servers."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.embed.chunk import hash_stored
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.jobfile import JOB
from lookalike.cluster.job.parts import Parts, Rows
from lookalike.errors import GalleryError
from lookalike.gallery.identity import removed_row
from lookalike.gallery.store import ImageRow
from lookalike.lsh.hashing import ARRAYS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Writing"]


class Writing:
    """What is written while the writer's lock is held. Made by `open`.

    A part is noted as loaded when all of it is in and what it supersedes is out, so that the next
    writer ends what one that was killed had begun.
    """

    def __init__(self, parts: Parts, collection: Collection, lock: WriterLock) -> None:
        self.parts = parts
        self.collection = collection
        self._lock = lock
        self._next_id = parts.next_id()

    @classmethod
    def open(cls, where: str, collection: Collection, lock: WriterLock) -> Writing:
        """Open the parts ``where`` and load those that are in none of the servers yet.

        Raises:
            GalleryError: they are not there, not whole, or another collection's; nothing is changed
                then.
        """
        if JOB not in Folder(where).names():
            raise GalleryError(
                f"nothing was changed: the parts of collection '{collection.name}', which come "
                f"first, are not in {where} on this machine; mount their disk, or say where they "
                f"are: valkey://HOST:PORT/{collection.name}?parts=DIR"
            )
        parts = Parts.open(where)
        parts.check_complete()
        _check_same(parts, collection)
        writing = cls(parts, collection, lock)
        writing._catch_up()
        return writing

    def _catch_up(self) -> None:
        """Load the parts that a writer wrote which was killed before the servers had them."""
        loaded = self.collection.loaded()
        late = [name for name in self.parts.names() if name not in loaded]
        for name in late:
            self._load(name)
        if late:
            self.collection.delete(_leftovers(self.collection))

    # ---- adding ----------------------------------------------------------------------------------

    def take_ids(self, count: int) -> int:
        """The first of ``count`` ids that nobody has."""
        first = self._next_id
        self._next_id += count
        return first

    def add(self, batch: pa.RecordBatch) -> Rows:
        """Write rows, in the schema of a part, of ids that were taken; they supersede others of
        their paths. Returns what was loaded.
        """
        self._lock.renew()
        return self._load(self.parts.write_batch(int(batch.column("id")[0].as_py()), batch))

    def add_known(
        self, images: list[ImageRow], vectors: NDArray[np.float16], skipped: list[ImageRow]
    ) -> Rows:
        """The same of images whose embeddings, (n, dim), are known, and of files without one."""
        self._lock.renew()
        rows = hash_stored(self.parts.job, self.parts.hasher, images, vectors)
        first = min(row.id for row in (*images, *skipped))
        return self._load(self.parts.write(first, rows._replace(skipped=skipped)))

    def _load(self, name: str) -> Rows:
        rows, collection = self.parts.read(name), self.collection
        paths = [row.path for row in (*rows.images, *rows.skipped)]
        new = set(rows.ids.tolist())
        old = {record.row.id for record in collection.by_paths(paths).values()} - new
        collection.put(rows)
        collection.delete(old)
        collection.mark_loaded([name])
        return rows

    # ---- taking out ------------------------------------------------------------------------------

    def drop(self, rows: Iterable[ImageRow]) -> None:
        """Take out images, and what is noted of skipped files, as if there never were any."""
        given = list(rows)
        if not given:
            return
        self._lock.renew()
        name = self.parts.write_removed(row.id for row in given)
        self.collection.delete([row.id for row in given if row.skipped is None])
        self.collection.drop_skipped([row.path for row in given if row.skipped is not None])
        self.collection.mark_loaded([name])

    def dismiss(self, rows: Iterable[ImageRow]) -> None:
        """Take out images or skipped files for good: their paths are noted as removed."""
        given = list(rows)
        first = self.take_ids(len(given))
        removed = [replace(removed_row(row), id=first + n) for n, row in enumerate(given)]
        self.add_known([], np.empty((0, self.collection.settings.dim), np.float16), removed)
        # Were the note taken back, the image would be in the parts again.
        self.drop([row for row in given if row.skipped is None])


def _leftovers(collection: Collection) -> list[int]:
    """Images whose path has a newer one: a writer was killed before it could take them out."""
    start = Keys(collection.name, collection.generation, 1).record(0).removesuffix("0")
    found = {int(key[len(start) :]) for key in collection.connection.scan(f"{start}*")}
    return sorted(found.difference(collection.ids().tolist()))


def _check_same(parts: Parts, collection: Collection) -> None:
    """Raises GalleryError unless the collection was loaded from a job like this one."""
    job, settings = parts.job, collection.settings
    same = (
        job.model.sha256 == collection.model.sha256
        and job.key_bits == collection.key_bits
        and job.root == collection.root
        and replace(job.settings, vectors=settings.vectors, search=settings.search) == settings
        and all(
            np.array_equal(getattr(parts.hasher, name), getattr(collection.hasher, name))
            for name in ARRAYS
        )
    )
    if not same:
        raise GalleryError(
            f"nothing was changed: the parts in {parts.where} are not those of collection "
            f"'{collection.name}', which was loaded from {collection.parts}; name these with "
            f"?parts=DIR, or load the others: lookalike cluster load {shlex.quote(parts.where)} "
            f"--uri valkey://HOST:PORT/{collection.name}"
        )
