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
    rows = _chosen(store, root, paths, removed=False)
    with store.transaction():
        store.put(map(removed_row, rows))
    return rows


def restore_rows(store: Store, root: Path, paths: Paths) -> int:
    """Forget the marks of removed files, which the next update then reads; returns how many.

    Raises:
        GalleryError: one was not removed; none is restored then.
    """
    rows = _chosen(store, root, paths, removed=True)
    with store.transaction():
        store.delete(row.id for row in rows)
    return len(rows)


def _chosen(store: Store, root: Path, paths: Paths, *, removed: bool) -> list[ImageRow]:
    """Those that were removed, or the others, of the files at these paths, of all below folders,
    and of patterns with * or ?."""
    rows: dict[int, ImageRow] = {}
    for path in paths:
        there = _rows_at(store, root, path)
        found = {row.id: row for row in there if (row.skipped == REMOVED) == removed}
        if not found:
            why = "was not removed from this gallery"
            why = why if removed else "is not an indexed image, nor a folder with any"
            raise GalleryError(f"{os.fspath(path)} {why}")
        rows |= found
    return list(rows.values())


def _rows_at(store: Store, root: Path, path: str | os.PathLike[str]) -> list[ImageRow]:
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
