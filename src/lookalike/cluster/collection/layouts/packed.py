"""Ids in the buckets, entries once: two questions per search, less than a quarter of the memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.keys import IDS_PER_BLOCK
from lookalike.cluster.collection.layouts import Command, Held, Ids, Run, Shape, by_bucket, integers

__all__ = ["Packed"]

WHOLE_FROM = 16
"""Of how many entries on a block is fetched whole: that costs about as much as so many parts."""


class Packed:
    """A bucket is a SET of ids, which Valkey keeps as sorted integers of 4 bytes up to
    ``set-max-intset-entries`` of them. Entries stand back to back in STRINGs of 512, in order of
    their ids.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def put(self, ids: Ids, entries: NDArray[np.uint8], keys: NDArray[Any]) -> list[Command]:
        return [*self._put_entries(ids, entries), *self._buckets("SADD", ids, keys)]

    def remove(self, ids: Ids, keys: NDArray[Any]) -> list[Command]:
        return self._buckets("SREM", ids, keys)  # no one asks for an entry that no bucket names

    def _buckets(self, verb: str, ids: Ids, keys: NDArray[Any]) -> list[Command]:
        names = ids.tolist()
        return [
            (verb, self._shape.bucket(number), *(names[i] for i in positions))
            for number, positions in by_bucket(keys, self._shape.key_bits).items()
        ]

    def _put_entries(self, ids: Ids, entries: NDArray[np.uint8]) -> list[Command]:
        """One command per run of ids within a block, the last run first: it makes the string as
        long as need be, where growing it would allocate twice as much.
        """
        order = np.argsort(ids)
        ids, entries = ids[order], entries[order]
        blocks, places = _places(ids)
        ends = np.flatnonzero((np.diff(ids) != 1) | (np.diff(blocks) != 0)) + 1
        edges = [0, *ends.tolist(), len(ids)] if len(ids) else [0]
        return [
            (
                "SETRANGE",
                self._shape.keys.codes(int(blocks[start])),
                int(places[start]) * self._shape.entry_bytes,
                entries[start:end].tobytes(),
            )
            for start, end in reversed(list(pairwise(edges)))
        ]

    def fetch(self, run: Run, buckets: Ids) -> Held:
        replies = run([("SMEMBERS", self._shape.bucket(number)) for number in buckets.tolist()])
        ids = integers([name for reply in replies for name in reply])
        sizes = np.array([len(reply) for reply in replies], np.int64)
        unique, positions = np.unique(ids, return_inverse=True)
        return Held(ids, self._entries(run, unique)[positions], sizes)

    def _entries(self, run: Run, ids: Ids) -> NDArray[np.uint8]:
        """The entries of ids (m,), ascending: (m, bytes)."""
        width = self._shape.entry_bytes
        out = np.zeros((len(ids), width), np.uint8)
        if not len(ids):
            return out
        blocks, places = _places(ids)
        commands: list[Command] = []
        wanted: list[slice | int] = []
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(ids)]
        for start, end in pairwise(edges):
            key = self._shape.keys.codes(int(blocks[start]))
            if end - start >= WHOLE_FROM:
                commands.append(("GET", key))
                wanted.append(slice(start, end))
                continue
            for i, place in enumerate(places[start:end].tolist(), start):
                commands.append(("GETRANGE", key, place * width, (place + 1) * width - 1))
                wanted.append(i)
        singles, parts = list[int](), list[bytes]()
        for some, reply in zip(wanted, run(commands), strict=True):
            if isinstance(some, int):
                singles.append(some)
                parts.append(reply.ljust(width, b"\0"))
            else:
                block = (reply or b"").ljust(IDS_PER_BLOCK * width, b"\0")
                out[some] = np.frombuffer(block, np.uint8).reshape(-1, width)[places[some]]
        out[singles] = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, width)
        return out


def _places(ids: Ids) -> tuple[Ids, Ids]:
    """Block and place in it of each id. Ids begin at 1, and so do the parts."""
    return (ids - 1) // IDS_PER_BLOCK, (ids - 1) % IDS_PER_BLOCK
