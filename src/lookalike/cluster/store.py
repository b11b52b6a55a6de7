"""A collection's rows, asked for as those of a local gallery's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.keys import Keys
from lookalike.gallery.store import OWN_SHEET, REMOVED, Counts, ImageRow

__all__ = ["ClusterStore"]

UNFINISHED = "unfinished"


class ClusterStore:
    """`lookalike.gallery.store.Store`, as far as it is read, of a collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._meta = Keys(collection.name, collection.generation, 1).meta

    def by_path(self, path: bytes) -> ImageRow | None:
        """The row of a file, indexed or skipped."""
        if record := self._collection.by_paths([path]).get(path):
            return record.row
        return self._collection.skipped_at([path]).get(path)

    def by_hash(self, digest: bytes) -> list[ImageRow]:
        """The indexed images of this content, by id."""
        return [record.row for record in self._collection.by_hashes([digest]).get(digest, [])]

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """The rows of those ``ids`` that exist. Of an image that is being replaced the new one."""
        rows = [record.row for record in self._collection.records(ids).values()]
        newest = dict[bytes, int]()
        for row in rows:
            newest[row.path] = max(row.id, newest.get(row.path, 0))
        return {row.id: row for row in rows if newest[row.path] == row.id}

    def indexed(self) -> Iterator[ImageRow]:
        """All indexed images by id."""
        return (record.row for record in self._collection.iterate_records())

    def skipped(self) -> list[ImageRow]:
        """By path; also those that a user took out, but no sheets of lookalike's own."""
        return [row for row in self._collection.skipped() if row.skipped != OWN_SHEET]

    def counts(self) -> Counts:
        reasons = Counter(row.skipped == REMOVED for row in self.skipped())
        return Counts(len(self._collection), reasons[False], reasons[True])

    def snapshot(self) -> AbstractContextManager[None]:
        """Nothing: each question above is answered at once."""
        return nullcontext()

    def unfinished(self) -> bool:
        """Whether the last update did not finish, or is still running."""
        (value,) = self._collection.connection.run([("HGET", self._meta, UNFINISHED)])
        return bool(value == b"1")

    def set_unfinished(self, unfinished: bool) -> None:
        self._collection.connection.write([("HSET", self._meta, UNFINISHED, int(unfinished))])
