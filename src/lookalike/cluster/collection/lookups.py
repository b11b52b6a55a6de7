"""Questions about the images of one generation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.layouts import Command
from lookalike.cluster.collection.record import Record, decode_record, decode_skipped
from lookalike.cluster.collection.writing import COMMANDS_AT_ONCE, in_slices
from lookalike.gallery.store import ImageRow
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.vectors import as_ids

if TYPE_CHECKING:
    from lookalike.cluster.wire.connection import Connection

__all__ = ["Lookups"]


class Lookups:
    """What a generation holds. Any number of threads may ask."""

    def __init__(self, connection: Connection, keys: Keys, settings: LSHSettings) -> None:
        self.connection = connection
        self.settings = settings
        self._keys = keys

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending (n,)."""
        shards = list(range(self._keys.shards))
        replies = self._run([("HVALS", self._keys.path_shard(shard)) for shard in shards])
        return np.sort(np.array([int(number) for found in replies for number in found], np.int64))

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which of ``ids`` (n,) have a record: bool (n,)."""
        found = self._run([("EXISTS", self._keys.record(i)) for i in as_ids(ids).tolist()])
        return np.array(found, np.bool_)

    def records(self, ids: Iterable[int]) -> dict[int, Record]:
        """The records of those ``ids`` that exist; ``Record.row`` is the ImageRow."""
        numbers = list(ids)
        found = self._run([("GET", self._keys.record(number)) for number in numbers])
        return {
            number: decode_record(number, data)
            for number, data in zip(numbers, found, strict=True)
            if data is not None
        }

    def iterate_records(self) -> Iterator[Record]:
        """All records by id."""
        for numbers in in_slices(self.ids().tolist(), COMMANDS_AT_ONCE):
            yield from self.records(numbers).values()

    def by_paths(self, paths: Iterable[bytes]) -> dict[bytes, Record]:
        """The records of those ``paths`` that are indexed."""
        wanted = list(paths)
        found = self._run([("HGET", *self._keys.place_of_path(path)) for path in wanted])
        records = self.records({int(number) for number in found if number is not None})
        paired = ((path, records.get(int(n or -1))) for path, n in zip(wanted, found, strict=True))
        return {path: record for path, record in paired if record and record.row.path == path}

    def by_hashes(self, digests: Iterable[bytes]) -> dict[bytes, list[Record]]:
        """The records of each content (BLAKE2b-128) that is there, by id."""
        commands: list[Command] = []
        for digest in (wanted := list(digests)):
            key, prefix = self._keys.place_of_hash(digest)
            commands.append(("ZRANGEBYLEX", key, b"[" + prefix, b"(" + prefix + b"\xff" * 8))
        members = self._run(commands)
        numbers = [[int.from_bytes(member[8:], "big") for member in some] for some in members]
        records = self.records({number for some in numbers for number in some})
        found = {
            digest: [records[i] for i in some if i in records and records[i].row.hash == digest]
            for digest, some in zip(wanted, numbers, strict=True)
        }
        return {digest: some for digest, some in found.items() if some}

    def stored_vectors(
        self, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Those of ``ids`` (n,) whose vectors are there, (m,), and these as stored, (m, dim)."""
        found = self._run([("GET", self._keys.vector(number)) for number in ids.tolist()])
        there = np.array([data is not None for data in found], np.bool_)
        halves = np.frombuffer(b"".join(data for data in found if data is not None), "<f2")
        return ids[there], halves.astype(np.float16).reshape(-1, self.settings.dim)

    def vectors(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Embeddings (m, dim) of ids (m,).

        KeyError: an id is unknown. ValueError: none are kept.
        """
        if self.settings.vectors == "none":
            raise ValueError(f"collection '{self._keys.name}' keeps no vectors")
        wanted = as_ids(ids)
        there, vectors = self.stored_vectors(wanted)
        if len(there) < len(wanted):
            raise KeyError(f"id {np.setdiff1d(wanted, there)[0]} is not in the collection")
        return vectors.astype(np.float32)

    def skipped(self) -> list[ImageRow]:
        """Files that were skipped or taken out, by path."""
        (values,) = self._run([("HVALS", self._keys.skipped)])
        return sorted((decode_skipped(value) for value in values), key=lambda row: row.path)

    def skipped_at(self, paths: Iterable[bytes]) -> dict[bytes, ImageRow]:
        """Those of ``paths`` that were skipped or taken out."""
        wanted = list(paths)
        found = self._run([("HGET", self._keys.skipped, path) for path in wanted])
        pairs = zip(wanted, found, strict=True)
        return {path: decode_skipped(data) for path, data in pairs if data is not None}

    def loaded(self) -> set[str]:
        """Names of the parts (and removals) that are in, see `mark_loaded`."""
        (names,) = self._run([("HKEYS", self._keys.loaded)])
        return {name.decode() for name in names}

    def _run(self, commands: list[Command]) -> list[Any]:
        """In batches, so that neither side holds more than a few thousand replies in packets."""
        return [
            reply
            for some in in_slices(commands, COMMANDS_AT_ONCE)
            for reply in self.connection.run(some)
        ]
