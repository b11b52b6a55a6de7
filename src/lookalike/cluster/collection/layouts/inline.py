"""Entries beside the ids in every bucket: one question per search, each entry once per table."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.layouts import Command, Held, Ids, Run, Shape, by_bucket, integers

__all__ = ["Inline"]


class Inline:
    """A bucket is a HASH: id -> entry. Valkey keeps it compact up to 512 ids of at most 64 bytes
    (``hash-max-listpack-entries`` and ``-value``).
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def put(self, ids: Ids, entries: NDArray[np.uint8], keys: NDArray[Any]) -> list[Command]:
        names = ids.tolist()
        blobs = [entry.tobytes() for entry in entries]
        return [
            (
                "HSET",
                self._shape.bucket(number),
                *chain.from_iterable((names[i], blobs[i]) for i in positions),
            )
            for number, positions in by_bucket(keys, self._shape.key_bits).items()
        ]

    def remove(self, ids: Ids, keys: NDArray[Any]) -> list[Command]:
        names = ids.tolist()
        return [
            ("HDEL", self._shape.bucket(number), *(names[i] for i in positions))
            for number, positions in by_bucket(keys, self._shape.key_bits).items()
        ]

    def fetch(self, run: Run, buckets: Ids) -> Held:
        replies = run([("HGETALL", self._shape.bucket(number)) for number in buckets.tolist()])
        ids = integers([name for reply in replies for name in reply[::2]])
        data = b"".join(chain.from_iterable(reply[1::2] for reply in replies))
        entries = np.frombuffer(data, np.uint8).reshape(len(ids), self._shape.entry_bytes)
        return Held(ids, entries, np.array([len(reply) // 2 for reply in replies], np.int64))
