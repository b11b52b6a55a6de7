"""Taking images out of a gallery's table, and letting them back in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lookalike.errors import GalleryError
from lookalike.gallery.filter import glob_matcher
from lookalike.gallery.identity import removed_row
from lookalike.gallery.places import is_within
from lookalike.gallery.query import names_of, row_of
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import REMOVED, Store

Paths = Sequence[str | os.PathLike[str]]


def take_out_rows(store: Store, root: Path, paths: Paths) -> list[ImageRow]:
    """Mark files as removed by the user; returns their rows as they were.

    Raises:
        GalleryError: one is not in the gallery; none is removed then.
    """
    rows: dict[int, ImageRow] = {}
    for path in paths:
        found = [row for row in _rows_at(store, root, path) if row.skipped != REMOVED]
        if not found:
            raise GalleryError(f"{os.fspath(path)} is not an indexed image, nor a folder with any")
        rows |= {row.id: row for row in found}
    with store.transaction():
        store.put(removed_row(row) for row in rows.values())
    return list(rows.values())


def _rows_at(store: Store, root: Path, path: str | os.PathLike[str]) -> list[ImageRow]:
    """The row of a file; or those of all files below a folder, or of a pattern with * or ?."""
    row = row_of(store, root, path)
    if row is not None:
        return [row]
    rows = [*store.indexed(), *store.skipped()]
    names = names_of(root, path)
    below = [row for row in rows if any(is_within(row.path, name) for name in names)]
    text = os.fspath(path)
    if below or not set(text) & set("*?") or os.path.lexists(path):
        return below
    matches = glob_matcher(text)
    return [row for row in rows if matches(row.path)]


def restore_rows(store: Store, root: Path, paths: Paths) -> int:
    """Forget the marks of removed files, which the next update then reads; returns how many.

    Raises:
        GalleryError: one was not removed; none is restored then.
    """
    found = set[int]()
    for path in paths:
        removed = [row.id for row in _rows_at(store, root, path) if row.skipped == REMOVED]
        if not removed:
            raise GalleryError(f"{os.fspath(path)} was not removed from this gallery")
        found.update(removed)
    with store.transaction():
        store.delete(found)
    return len(found)
