"""How much memory the keys of a generation take, and how to be rid of them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lookalike.cluster.collection.layouts import Command

if TYPE_CHECKING:
    from lookalike.cluster.wire.connection import Connection

__all__ = ["all_keys", "memory_by_kind", "unlink_all"]

KINDS = {
    b"b": "buckets",
    b"c": "codes",
    b"v": "vectors",
    b"r": "records",
    b"p": "paths",
    b"h": "hashes",
    b"s": "skipped",
    b"x": "removing",
    b"d": "loaded",
    b"m": "meta",
}
SAMPLE = 1000
KEYS_AT_ONCE = 2000


def all_keys(connection: Connection, name: str, generation: int) -> Iterator[bytes]:
    """The keys of a generation, in no order; one may come twice."""
    exact = f":{name}:{generation}".encode()
    for key in connection.scan(f"?:{name}:{generation}*"):
        if key[1:] == exact or key[1:].startswith(exact + b":"):
            yield key


def memory_by_kind(connection: Connection, name: str, generation: int) -> dict[str, int]:
    """Bytes by kind of key: the mean of MEMORY USAGE over a sample of keys, times their number."""
    rng = random.Random(0)
    counts = Counter[str]()
    samples = defaultdict[str, list[bytes]](list)
    for key in all_keys(connection, name, generation):
        kind = KINDS[key[:1]]
        counts[kind] += 1
        if len(samples[kind]) < SAMPLE:
            samples[kind].append(key)
        elif (at := rng.randrange(counts[kind])) < SAMPLE:
            samples[kind][at] = key
    found = {}
    for kind, keys in samples.items():
        commands: list[Command] = [("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys]
        sizes = [int(size or 0) for size in connection.run(commands)]
        found[kind] = round(sum(sizes) / len(sizes) * counts[kind])
    return found


def unlink_all(connection: Connection, name: str, generation: int) -> None:
    """Delete the keys of a generation until there are none."""
    while True:
        batch, found = list[bytes](), False
        for key in all_keys(connection, name, generation):
            found = True
            batch.append(key)
            if len(batch) == KEYS_AT_ONCE:
                connection.run([("UNLINK", some) for some in batch])
                batch = []
        connection.run([("UNLINK", some) for some in batch])
        if not found:
            return
