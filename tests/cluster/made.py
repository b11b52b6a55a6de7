"""Rows and parts made for tests, without pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from servers import Servers

from lookalike.cluster.collection.layouts import Command
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.job.schema import Job, Rows
from lookalike.cluster.wire.connection import Connection
from lookalike.encoder import ModelInfo
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.hashing import Hasher

DIM = 48


def model(name: str = "made") -> ModelInfo:
    digest = blake2b(name.encode(), digest_size=32).hexdigest()
    return ModelInfo(name, "1", digest, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), DIM)


def unit_vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    """(n, DIM) float32 in loose clusters, off the origin as those of a network are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, DIM))
    rows = centres[rng.integers(20, size=n)] + 0.7 * rng.standard_normal((n, DIM)) + 0.4
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4")
    return unit


def hasher_of(settings: LSHSettings) -> Hasher:
    return Hasher.fit(settings, unit_vectors(2000, seed=99))


def image(number: int, path: bytes | None = None) -> ImageRow:
    """Ids 7 and 14, 21 and 28, and so on have the same content."""
    content = number - 7 if number % 14 == 0 else number
    return ImageRow(
        number,
        path or b"folder/%d.jpg" % number,
        1000 + number,
        number * 10**9 + 1,
        blake2b(b"%d" % content, digest_size=16).digest(),
        640,
        480,
        "JPEG",
    )


def rows_of(
    hasher: Hasher, key_bits: int, vectors: NDArray[np.float32], first: int = 1, **more: Any
) -> Rows:
    """Rows with ids from `first` on; `more` replaces fields."""
    halves = vectors.astype(np.float16)
    hashed = hasher.hash(halves.astype(np.float32), key_bits)
    ids = np.arange(first, first + len(vectors))
    rows = Rows(
        ids,
        halves,
        hashed.codes,
        hashed.corrections,
        hashed.keys,
        [image(number) for number in ids.tolist()],
        [],
    )
    return rows._replace(**more)


def take(rows: Rows, chosen: Any) -> Rows:
    """Some of the rows, by position."""
    at = np.arange(len(rows.ids))[chosen]
    return Rows(
        rows.ids[at],
        rows.vectors[at],
        rows.codes[at],
        rows.corrections[at],
        rows.keys[:, at],
        [rows.images[i] for i in at],
        rows.skipped,
    )


@dataclass
class MadeParts:
    """As `lookalike.cluster.job.parts.Parts`, of rows in memory."""

    job: Job
    hasher: Hasher
    parts: dict[str, Rows]
    where: str = "/made"

    @classmethod
    def of(
        cls, settings: LSHSettings, rows: Rows, hasher: Hasher, key_bits: int, size: int = 512
    ) -> Parts:
        parts = {
            f"part-{start:012d}.parquet": take(rows, slice(start, start + size))
            for start in range(0, len(rows.ids), size)
        }
        job = Job(model(), settings, key_bits, "/photos", images=len(rows.ids), hasher="hasher.lka")
        return cast(Parts, cls(job, hasher, parts))

    def check_complete(self) -> None:
        pass

    def names(self) -> list[str]:
        return list(self.parts)

    def read(self, name: str) -> Rows:
        return self.parts[name]

    def sample(self, n: int, seed: int = 0) -> NDArray[np.float32]:
        rows = np.concatenate([rows.vectors for rows in self.parts.values()])
        return rows[:n].astype(np.float32)


def local_index(settings: LSHSettings, vectors: NDArray[np.float32]) -> LSHIndex:
    """The oracle: an ordinary index of one segment, with ids from 1 on."""
    index = LSHIndex(settings=settings)
    index.add(np.arange(1, 1 + len(vectors)), vectors)
    return index


class CutError(Exception):
    """The connection was cut on purpose."""


class Cut:
    """A connection that raises CutError instead of sending the command after the first `left`."""

    def __init__(self, connection: Connection, left: int) -> None:
        self.connection = connection
        self.left = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        return self._some(commands, self.connection.run)

    def write(self, commands: Sequence[Command]) -> list[Any]:
        return self._some(commands, self.connection.write)

    def _some(
        self, commands: Sequence[Command], send: Callable[[Sequence[Command]], list[Any]]
    ) -> list[Any]:
        now = commands[: self.left]
        self.left -= len(now)
        replies = send(now)
        if len(now) < len(commands):
            raise CutError
        return replies


def contents(servers: Servers, name: str) -> dict[bytes, Any]:
    """All keys of a collection but its lock, and what they hold, read from the masters."""
    found: dict[bytes, Any] = {}
    for node in servers.masters():
        for pattern in (f"m:{name}", f"?:{name}:*"):
            for key in node.client.scan_iter(pattern, count=1000):
                found[key] = _value(node.client, key)
    register = found.get(b"m:" + name.encode(), {})
    register.pop(b"version", None)  # random
    return found


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1)
    return {b"string": client.get, b"hash": client.hgetall, b"set": client.smembers}[kind](key)
