"""Adding rows to a generation and taking them out, so that any of it may be done twice.

Adding writes vectors, codes and buckets first, then paths and hashes, then records. An image exists
once it has a record, so searches pass over what is half written. Taking out begins by noting the
records among the removals; whoever writes next finishes what is noted there. A removed image is
gone for searches when its record is; ids are never given out again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.layouts import Command
from lookalike.cluster.collection.meta import Meta
from lookalike.cluster.collection.record import Record, decode_record, encode_record, encode_skipped
from lookalike.cluster.collection.register import Register
from lookalike.gallery.store import ImageRow

if TYPE_CHECKING:
    from lookalike.cluster.job.schema import Rows
    from lookalike.cluster.wire.connection import Connection

__all__ = ["Writer", "entries_of", "in_slices", "slices"]

ROWS_AT_ONCE = 512
COMMANDS_AT_ONCE = 4096


class Writer:
    """Writes to one generation. One at a time, see `lock`."""

    def __init__(self, connection: Connection, register: Register, keys: Keys, meta: Meta) -> None:
        self._connection = connection
        self._register = register
        self._keys = keys
        self._meta = meta
        self._layout = meta.layout_in(keys)

    # ---- rows ------------------------------------------------------------------------------------

    def put(self, rows: Rows) -> None:
        """See `Collection.put`."""
        images = self._begin()
        for some in slices(rows):
            paths = list({row.path for row in some.images})
            new = self._ids_of(paths).count(None)
            self.add(some)
            images = None if images is None else images + new
        self.put_skipped(rows.skipped)
        self._end(images)

    def add(self, rows: Rows) -> None:
        """Write rows, as many as go at once, but not the number of images."""
        if not len(rows.ids):
            return
        keys = self._keys
        numbers = rows.ids.tolist()
        entries = entries_of(self._meta, rows)
        first = self._layout.put(rows.ids, entries, rows.keys)
        if self._meta.settings.vectors != "none":
            first += [
                ("SET", keys.vector(number), vector.tobytes())
                for number, vector in zip(numbers, rows.vectors.astype("<f2"), strict=True)
            ]
        self._connection.write(first)
        paths, hashes = defaultdict[str, list[Any]](list), defaultdict[str, list[Any]](list)
        for row in rows.images:
            key, field = keys.place_of_path(row.path)
            paths[key] += (field, row.id)
            if row.hash is not None:
                key, prefix = keys.place_of_hash(row.hash)
                hashes[key] += (0, prefix + row.id.to_bytes(8, "big"))
        second: list[Command] = [("HSET", key, *fields) for key, fields in paths.items()]
        second += [("ZADD", key, *members) for key, members in hashes.items()]
        second.append(("HDEL", keys.skipped, *(row.path for row in rows.images)))
        self._connection.write(second)
        by_row = np.ascontiguousarray(rows.keys.T.astype("<u2"))
        records: list[Command] = [
            ("SET", keys.record(row.id), encode_record(row, code.tobytes(), buckets.tobytes()))
            for row, code, buckets in zip(rows.images, rows.codes, by_row, strict=True)
        ]
        self._connection.write(records)

    def delete(self, ids: Iterable[int]) -> None:
        """See `Collection.delete`."""
        images = self._begin()
        for numbers in in_slices(sorted(set(ids)), ROWS_AT_ONCE):
            replies = self._connection.run([("GET", self._keys.record(i)) for i in numbers])
            there = [(i, data) for i, data in zip(numbers, replies, strict=True) if data]
            if there:
                fields = chain.from_iterable(there)
                self._connection.write([("HSET", self._keys.removing, *fields)])
            images = self._finish_removals(images)
        self._end(images)

    def _finish_removals(self, images: int | None) -> int | None:
        """Take out whatever is noted among the removals; returns the number of images left, None
        if it is not known.
        """
        (noted,) = self._connection.run([("HGETALL", self._keys.removing)])
        numbers = [int(number) for number in noted[::2]]
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            records = [
                decode_record(number, data)
                for number, data in zip(numbers[some], noted[1::2][some], strict=True)
            ]
            gone = self._take_out(records)
            images = None if images is None else images - gone
            self._connection.write([("HDEL", self._keys.removing, *numbers[some])])
        return images

    def _take_out(self, records: Sequence[Record]) -> int:
        """Returns how many paths lead nowhere now."""
        keys = self._keys
        numbers = [record.row.id for record in records]
        self._connection.write([("DEL", keys.record(number)) for number in numbers])
        owners = self._ids_of([record.row.path for record in records])
        buckets = np.stack([record.keys for record in records], axis=1)
        commands = self._layout.remove(np.array(numbers, np.int64), buckets)
        commands += [("DEL", keys.vector(number)) for number in numbers]
        for record in records:
            if record.row.hash is not None:
                key, prefix = keys.place_of_hash(record.row.hash)
                commands.append(("ZREM", key, prefix + record.row.id.to_bytes(8, "big")))
        # A path may have been given to a newer image.
        own = [r for r, owner in zip(records, owners, strict=True) if owner == r.row.id]
        commands += [("HDEL", *keys.place_of_path(record.row.path)) for record in own]
        self._connection.write(commands)
        return len(own)

    def _ids_of(self, paths: Sequence[bytes]) -> list[int | None]:
        found = self._connection.run([("HGET", *self._keys.place_of_path(p)) for p in paths])
        return [None if number is None else int(number) for number in found]

    # ---- the rest ------------------------------------------------------------------------------

    def put_skipped(self, rows: Iterable[ImageRow]) -> None:
        for some in in_slices(list(rows), ROWS_AT_ONCE):
            fields = chain.from_iterable((row.path, encode_skipped(row)) for row in some)
            self._connection.write([("HSET", self._keys.skipped, *fields)])

    def drop_skipped(self, paths: Iterable[bytes]) -> None:
        for some in in_slices(list(paths), ROWS_AT_ONCE):
            self._connection.write([("HDEL", self._keys.skipped, *some)])

    def count(self) -> int:
        """Images, counted by their paths."""
        shards = range(self._keys.shards)
        total = 0
        for start in range(0, len(shards), COMMANDS_AT_ONCE):
            some = shards[start : start + COMMANDS_AT_ONCE]
            total += sum(self._connection.run([("HLEN", self._keys.path_shard(i)) for i in some]))
        return total

    def _begin(self) -> int | None:
        """Note that something changes; returns the number of images, None if a writer was
        interrupted since it was known. Interrupted removals are finished.
        """
        entry = self._register.read()
        images = None if entry is None or entry.unsure else entry.images
        self._register.begin_change()
        return self._finish_removals(images)

    def _end(self, images: int | None) -> None:
        self._register.end_change(self.count() if images is None else images)


def entries_of(meta: Meta, rows: Rows) -> NDArray[np.uint8]:
    """What a layout keeps of each row: (n, bytes)."""
    if meta.settings.ranking == "hamming":
        return rows.codes
    corrections = rows.corrections.astype("<i2")[:, np.newaxis].view(np.uint8)
    return np.concatenate([rows.codes, corrections], axis=1)


def in_slices(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def slices(rows: Rows) -> Iterator[Rows]:
    """Parts of few enough rows to be written at once, without the skipped ones."""
    for start in range(0, len(rows.ids), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        yield rows._replace(
            ids=rows.ids[some],
            vectors=rows.vectors[some],
            codes=rows.codes[some],
            corrections=rows.corrections[some],
            keys=rows.keys[:, some],
            images=rows.images[some],
            skipped=[],
        )
