"""Where the codes of a collection lie: what searches fetch, what writers write.

An *entry* is a code and, for asymmetric ranking, its correction (int16). Another layout is one file
with the methods of `Layout`, and its line in `layouts`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.keys import Keys

__all__ = ["Command", "Held", "Ids", "Layout", "Run", "Shape", "by_bucket", "integers", "layouts"]

Command: TypeAlias = "tuple[bytes | str | int, ...]"
Run: TypeAlias = "Callable[[Sequence[Command]], list[Any]]"
"""Runs commands, each with one key, and returns the replies in order."""
Ids = NDArray[np.int64]


class Held(NamedTuple):
    """What buckets hold, one after the other: ids (p,), entries (p, bytes) uint8, and how many each
    bucket has, (b,).
    """

    ids: Ids
    entries: NDArray[np.uint8]
    sizes: Ids


@dataclass(frozen=True)
class Shape:
    """What a layout has to know: names of keys, tables, bits of a key, bytes of an entry."""

    keys: Keys
    tables: int
    key_bits: int
    entry_bytes: int

    def bucket(self, number: int) -> str:
        """The key of a bucket, numbered table * 2^key_bits + key."""
        return self.keys.bucket(number >> self.key_bits, number & ((1 << self.key_bits) - 1))


class Layout(Protocol):
    """How entries are written and read."""

    def put(self, ids: Ids, entries: NDArray[np.uint8], keys: NDArray[Any]) -> list[Command]:
        """Commands that add items: ids (n,), entries (n, bytes), keys (tables, n)."""
        ...

    def remove(self, ids: Ids, keys: NDArray[Any]) -> list[Command]:
        """Commands that take items out of their buckets: ids (n,), keys (tables, n)."""
        ...

    def fetch(self, run: Run, buckets: Ids) -> Held:
        """What buckets (b,) hold."""
        ...


def layouts() -> dict[str, Callable[[Shape], Layout]]:
    """All layouts by name."""
    from lookalike.cluster.collection.layouts.inline import Inline
    from lookalike.cluster.collection.layouts.packed import Packed

    return {"inline": Inline, "packed": Packed}


def by_bucket(keys: NDArray[Any], key_bits: int) -> dict[int, list[int]]:
    """Number of each bucket that items of these keys (tables, n) are in -> their positions."""
    groups = defaultdict[int, list[int]](list)
    firsts = np.arange(len(keys))[:, np.newaxis] << key_bits
    for table in (keys.astype(np.int64) + firsts).tolist():
        for position, number in enumerate(table):
            groups[number].append(position)
    return groups


def integers(texts: Sequence[bytes]) -> Ids:
    """Decimal numbers as Valkey sends them, (n,)."""
    # Four times as fast as by np.array(texts).astype(int).
    return np.fromstring(b" ".join(texts), np.int64, sep=" ") if texts else np.empty(0, np.int64)
