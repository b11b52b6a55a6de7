"""Taking images out of a gallery's table, and letting them back in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lookalike.errors import GalleryError
from lookalike.gallery.identity import removed_row
from lookalike.gallery.query import row_of
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import REMOVED, Store

__all__ = ["restore_rows", "take_out_rows"]

Paths = Sequence[str | os.PathLike[str]]


def take_out_rows(store: Store, root: Path, paths: Paths) -> list[ImageRow]:
    """Mark files as removed by the user; returns their rows as they were.

    Raises:
        GalleryError: one is not in the gallery; none is removed then.
    """
    rows: dict[int, ImageRow] = {}
    for path in paths:
        row = row_of(store, root, path)
        if row is None or row.skipped == REMOVED:
            raise GalleryError(f"{os.fspath(path)} is not an indexed image")
        rows[row.id] = row
    with store.transaction():
        store.put(removed_row(row) for row in rows.values())
    return list(rows.values())


def restore_rows(store: Store, root: Path, paths: Paths) -> int:
    """Forget the marks of removed files, which the next update then reads; returns how many.

    Raises:
        GalleryError: one was not removed; none is restored then.
    """
    found = set[int]()
    for path in paths:
        row = row_of(store, root, path)
        if row is None or row.skipped != REMOVED:
            raise GalleryError(f"{os.fspath(path)} was not removed from this gallery")
        found.add(row.id)
    with store.transaction():
        store.delete(found)
    return len(found)
