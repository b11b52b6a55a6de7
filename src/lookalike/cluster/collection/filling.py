"""Writing the parts of a job into a generation that nobody sees yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.collection.meta import Meta, pairs_text
from lookalike.cluster.collection.register import Register
from lookalike.cluster.collection.writing import Writer, slices
from lookalike.gallery.rarity import SAMPLE, PairStatistics
from lookalike.gallery.report import Progress

if TYPE_CHECKING:
    from lookalike.cluster.job.parts import Parts
    from lookalike.cluster.wire.connection import Connection

__all__ = ["Filled", "StaleError", "fill"]

BEGUN, WHOLE = b"-", b"+"


class StaleError(Exception):
    """What an interrupted load has written is not live any more; the generation is of no use."""


@dataclass
class Filled:
    """What a generation got: see `loading.LoadReport`."""

    images: int = 0
    skipped: int = 0
    parts: int = 0
    resumed: int = 0
    newest: int = 0


def fill(
    parts: Parts,
    connection: Connection,
    keys: Keys,
    meta: Meta,
    lock: WriterLock,
    progress: Callable[[Progress], None] | None,
) -> Filled:
    """Write all parts but those that are in, then the statistics of pairs.

    Raises:
        StaleError: images that are in, or may be, were removed from the parts since.
    """
    writer = Writer(connection, Register(connection, keys.name), keys, meta)
    (reply,) = connection.run([("HGETALL", keys.loaded)])
    known = dict(zip(reply[::2], reply[1::2], strict=True))
    names = parts.names()
    if not known.keys() <= {name.encode() for name in names}:
        raise StaleError
    total, filled = parts.job.images, Filled()
    for name in names:
        lock.renew()
        rows = parts.read(name)
        live = _packed(rows.ids)
        note = known.get(name.encode(), b"")
        if note and note[1:] != live:
            raise StaleError
        if note[:1] == WHOLE:
            filled.resumed += 1
        else:
            connection.write([("HSET", keys.loaded, name, BEGUN + live)])
            for some in slices(rows):
                lock.renew()
                writer.add(some)
            writer.put_skipped(rows.skipped)
            connection.write([("HSET", keys.loaded, name, WHOLE + live)])
        filled.parts += 1
        filled.images += len(rows.ids)
        filled.skipped += len(rows.skipped)
        filled.newest = max(filled.newest, int(rows.ids.max(initial=0)))
        if progress is not None:
            done = filled.images + filled.skipped
            progress(Progress(done, max(total, done), filled.skipped))
    pairs = PairStatistics.measure(parts.sample(SAMPLE), np.array([filled.newest]))
    if pairs is not None:
        pairs = replace(pairs, images=filled.images)
    connection.write([("HSET", keys.meta, "pairs", pairs_text(pairs))])
    return filled


def _packed(ids: NDArray[np.int64]) -> bytes:
    """Ids, ascending (n,), as few bytes: the first one, and a bit for each up to the last."""
    if not len(ids):
        return b""
    bits = np.zeros(int(ids[-1] - ids[0]) + 1, np.bool_)
    bits[ids - ids[0]] = True
    return int(ids[0]).to_bytes(8, "little") + np.packbits(bits).tobytes()
