"""Find damage in a gallery's files, and rebuild what can be rebuilt."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lookalike.errors import GalleryDamagedError, GalleryError, IndexFormatError
from lookalike.gallery.store import ImageRow, Store
from lookalike.images import SkippedImageError, content_hash
from lookalike.lsh import LSHIndex, LSHSettings

__all__ = ["RepairReport", "repair_index", "repair_table", "verify"]


@dataclass
class RepairReport:
    """What was done, in sentences, and how many images the next update has to read again."""

    done: list[str] = field(default_factory=list)
    to_read: int = 0


def verify(root: Path, table: Path, index_folder: Path, *, contents: bool) -> list[str]:
    """Everything that is wrong with a gallery, in sentences; [] if nothing is.

    Args:
        contents: also read every image file and compare its content with what was indexed.
    """
    problems: list[str] = []
    index = None
    try:
        index = LSHIndex.open(index_folder)
        problems += index.damaged()
    except IndexFormatError as error:
        problems.append(f"index: {error}")
    try:
        store = Store.open(table)
    except GalleryError as error:
        return [*problems, str(error)]
    try:
        if found := store.integrity():
            return problems + found
        if index is not None:
            known, hashed = np.array(store.ids(), np.int64), index.ids
            if lost := len(np.setdiff1d(known, hashed)):
                problems.append(f"{lost} images of the table have no vector in the index")
            if orphans := len(np.setdiff1d(hashed, known)):
                problems.append(
                    f"{orphans} vectors of the index belong to no image (an interrupted update; "
                    f"the next one drops them)"
                )
        if contents:
            for row in store.indexed():
                problems += _compare_content(root, row)
    finally:
        store.close()
    return problems


def _compare_content(root: Path, row: ImageRow) -> list[str]:
    path = root / os.fsdecode(row.path)
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) != (row.size, row.mtime_ns):
            return []  # changed on purpose; the next update reads it
        if content_hash(path) == row.hash:
            return []
    except (OSError, SkippedImageError):
        return []  # gone; the next update drops it
    return [f"{path}: the content has changed but not size and time, as on a failing disk"]


def repair_table(table: Path, report: RepairReport) -> None:
    """Make a damaged table anew from the rows that can still be read and match their checksum.

    Raises:
        GalleryDamagedError: not even the model's identity can be read.
    """
    try:
        store = Store.open(table)
        try:
            if not store.integrity():
                return
        finally:
            store.close()
    except GalleryError:
        pass
    meta, rows = Store.salvage(table)
    if "model" not in meta:
        raise GalleryDamagedError(
            f"{table} is damaged beyond repair: it does not tell which model made the gallery; "
            f"run: lookalike index --rebuild"
        )
    aside = table.with_name(table.name + ".damaged")
    fresh = table.with_name(table.name + ".new")
    fresh.unlink(missing_ok=True)
    store = Store.create(fresh, meta)
    try:
        with store.transaction():
            store.put(rows)
    finally:
        store.close()
    os.replace(table, aside)
    os.replace(fresh, table)
    Path(f"{table}-journal").unlink(missing_ok=True)
    report.done.append(f"{len(rows)} rows of the table were saved; the damaged one is {aside.name}")


def repair_index(index_folder: Path, dim: int, report: RepairReport) -> LSHIndex:
    """The index as it is, or a new one from the vectors that are still whole."""
    try:
        index = LSHIndex.open(index_folder)
        if not (damage := index.damaged()):
            return index
    except IndexFormatError as error:
        damage = [str(error)]
    settings = LSHIndex.stored_settings(index_folder) or LSHSettings(dim=dim)
    index = LSHIndex.salvage(index_folder, settings)
    report.done.append(f"index made anew from {len(index)} whole vectors ({'; '.join(damage)})")
    return index
