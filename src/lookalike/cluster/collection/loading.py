"""Loading the parts of a job as a new generation of a collection, and dropping one.

A load writes a generation that nobody sees, notes each part that is in, compares a sample of what
the servers hold with the parts, and then changes the register by one command. Killed anywhere
before that, the next load of the same parts goes on; killed later, the next load (or drop) deletes
what is left of the old generation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

from lookalike.cluster.collection.filling import StaleError, fill
from lookalike.cluster.collection.keys import shards_for
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.collection.memory import unlink_all
from lookalike.cluster.collection.meta import Meta
from lookalike.cluster.collection.register import Register
from lookalike.cluster.collection.verifying import trouble_in
from lookalike.errors import ClusterError, GalleryError
from lookalike.gallery.report import Progress

if TYPE_CHECKING:
    from lookalike.cluster.job.parts import Parts
    from lookalike.cluster.wire.connection import Connection

__all__ = ["LoadReport", "drop", "load"]


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        generation: the one that was made and is current now.
        images, skipped: in it.
        parts: how many it was made of; resumed: those that an interrupted load had loaded.
        seconds: all of it.
    """

    name: str
    generation: int
    images: int
    skipped: int
    parts: int
    resumed: int
    seconds: float


def load(
    parts: Parts,
    connection: Connection,
    name: str,
    *,
    layout: Literal["inline", "packed"] = "inline",
    vectors: Literal["float16", "none"] = "float16",
    progress: Callable[[Progress], None] | None = None,
) -> LoadReport:
    """Make a new generation of ``name`` from ``parts``, verify it, and switch to it.

    Searches see the old generation until then. Interrupted, calling it again goes on.

    Raises:
        GalleryError: parts are missing.
        GalleryLockedError: somebody else writes to the collection.
        ClusterError: the servers do not answer, or do not hold what was written to them.
    """
    parts.check_complete()
    began = time.monotonic()
    meta = _meta(parts, layout, vectors)
    register = Register(connection, name)
    with WriterLock(connection, name) as lock:
        while True:
            generation = _to_fill(connection, register, name, meta)
            keys = meta.keys(name, generation)
            try:
                filled = fill(parts, connection, keys, meta, lock, progress)
                break
            except StaleError:
                _delete(connection, register, name, generation)
        lock.renew()
        if trouble := trouble_in(parts, connection, keys, meta, filled.images):
            register.condemn(generation)
            raise ClusterError(
                f"the servers do not hold what was written to them for collection '{name}': "
                f"{trouble}. The collection is as it was before. Look for servers that evict keys "
                f"(maxmemory-policy must be noeviction) or lost data, and load again"
            )
        old = register.switch(generation, keys.meta, filled.images)
        if old is not None:
            _delete(connection, register, name, old)
    return LoadReport(
        name,
        generation,
        filled.images,
        filled.skipped,
        filled.parts,
        filled.resumed,
        time.monotonic() - began,
    )


def drop(connection: Connection, name: str) -> None:
    """Remove a collection with all its generations, also what an interrupted load left.

    Raises:
        GalleryError: there is none.
        GalleryLockedError: somebody writes to it.
    """
    register = Register(connection, name)
    with WriterLock(connection, name):
        entry = register.read()
        if entry is None:
            raise GalleryError(f"there is no collection '{name}' in this cluster")
        for generation in entry.states:
            register.condemn(generation)
        for generation in entry.states:
            unlink_all(connection, name, generation)
        register.delete()


def _meta(parts: Parts, layout: str, vectors: Literal["float16", "none"]) -> Meta:
    settings = replace(parts.job.settings, vectors=vectors)
    return Meta(
        parts.job.model,
        settings,
        parts.job.key_bits,
        replace(parts.hasher, settings=settings),
        layout,
        parts.job.root,
        parts.where,
        shards_for(parts.job.images),
        None,
        time.time(),
    )


def _to_fill(connection: Connection, register: Register, name: str, meta: Meta) -> int:
    """The generation that an interrupted load of the same began, or a new one. What is of no use
    to anybody is deleted.
    """
    entry = register.read()
    states = entry.states if entry else {}
    begun = None
    for generation, state in states.items():
        if state == "building" and _is_of(connection, name, generation, meta):
            begun = generation
        elif state != "ready":
            _delete(connection, register, name, generation)
    if begun is not None:
        return begun
    generation = 1 + max([0, (entry and entry.generation) or 0, *states])
    register.begin(generation)
    fields = chain.from_iterable(meta.fields().items())
    connection.write([("HSET", meta.keys(name, generation).meta, *fields)])
    return generation


def _is_of(connection: Connection, name: str, generation: int, meta: Meta) -> bool:
    """Whether a generation was begun for what ``meta`` says."""
    expected = meta.identity()
    key = meta.keys(name, generation).meta
    (found,) = connection.run([("HMGET", key, *expected)])
    return bool(found == [str(value).encode() for value in expected.values()])


def _delete(connection: Connection, register: Register, name: str, generation: int) -> None:
    register.condemn(generation)
    unlink_all(connection, name, generation)
    register.forget(generation)
