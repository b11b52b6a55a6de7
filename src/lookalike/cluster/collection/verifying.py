"""Comparing what the servers hold with the parts, before anybody relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.meta import Meta
from lookalike.cluster.collection.record import decode_record
from lookalike.cluster.collection.register import Register
from lookalike.cluster.collection.writing import Writer, entries_of
from lookalike.errors import GalleryDamagedError

if TYPE_CHECKING:
    from lookalike.cluster.job.parts import Parts
    from lookalike.cluster.job.schema import Rows
    from lookalike.cluster.wire.connection import Connection

__all__ = ["trouble_in"]

PARTS_COMPARED = 16
ROWS_COMPARED = 16


def trouble_in(
    parts: Parts, connection: Connection, keys: Keys, meta: Meta, images: int
) -> str | None:
    """What is wrong with a generation, None if nothing was found: all images are counted, and some
    rows of some parts compared to the last byte.
    """
    counted = Writer(connection, Register(connection, keys.name), keys, meta).count()
    if counted != images:
        return f"{counted:,} paths for {images:,} images"
    rng = np.random.default_rng(0)
    names = parts.names()
    for at in sorted(rng.permutation(len(names))[:PARTS_COMPARED].tolist()):
        rows = parts.read(names[at])
        chosen = np.sort(rng.permutation(len(rows.ids))[:ROWS_COMPARED])
        if len(chosen) and (wrong := _first_wrong(connection, keys, meta, rows, chosen.tolist())):
            return f"image {wrong} of {names[at]} differs or is not there"
    return None


def _first_wrong(
    connection: Connection, keys: Keys, meta: Meta, rows: Rows, chosen: list[int]
) -> int | None:
    """The id of the first of the ``chosen`` rows that the servers do not hold as it is."""
    tables = np.arange(meta.settings.tables)[:, np.newaxis] << meta.key_bits
    buckets = (rows.keys[:, chosen].astype(np.int64) + tables).T.ravel()
    held = meta.layout_in(keys).fetch(connection.run, buckets)
    edges = np.cumsum([0, *held.sizes.tolist()])
    entries = entries_of(meta, rows)
    records = connection.run([("GET", keys.record(int(rows.ids[i]))) for i in chosen])
    vectors = [row.tobytes() for row in rows.vectors[chosen].astype("<f2")]
    if meta.settings.vectors != "none":
        stored = connection.run([("GET", keys.vector(int(rows.ids[i]))) for i in chosen])
    else:
        stored = vectors
    for position, i in enumerate(chosen):
        number = int(rows.ids[i])
        for bucket in range(meta.settings.tables):
            span = slice(*edges[position * meta.settings.tables + bucket :][:2])
            found = held.entries[span][held.ids[span] == number]
            if len(found) != 1 or (found[0] != entries[i]).any():
                return number
        try:
            record = decode_record(number, records[position] or b"")
        except GalleryDamagedError:
            return number
        right = record.row == rows.images[i] and (record.code == rows.codes[i]).all()
        if not right or stored[position] != vectors[position]:
            return number
    return None
