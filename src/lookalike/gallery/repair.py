"""Rebuild what can be rebuilt of a damaged gallery."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike.errors import GalleryDamagedError, GalleryError, IndexFormatError
from lookalike.gallery.files import GalleryFiles, recover
from lookalike.gallery.identity import (
    entries_of,
    identity_of,
    read_identity,
    removed_rows,
    write_identity,
)
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import IDENTITY, LOCK
from lookalike.gallery.store import ImageRow, Store, checked_row, meta_checksum
from lookalike.lsh import LSHIndex, LSHSettings

__all__ = ["RepairReport", "repair"]


@dataclass
class RepairReport:
    """What was done, in sentences, and how many images the next update has to read again."""

    done: list[str] = field(default_factory=list)
    to_read: int = 0


def repair(files: GalleryFiles) -> RepairReport:
    """Make anew what is damaged, from every row and vector that is still whole.

    Raises:
        GalleryDamagedError: nothing tells any more which model made the gallery.
        GalleryLockedError: another process is writing.
    """
    report = RepairReport()
    with writer_lock(files.directory / LOCK):
        _repair_table(files, report)
        store = Store.open(files.table, write=True)
        try:
            if read_identity(files.directory) is None:
                report.done.append(f"{IDENTITY} was written anew")
            identity = identity_of(store)
            write_identity(files.directory, identity)
            index = _repair_index(files.index_folder, int(identity["model"]["dim"]), report)
            report.to_read = recover(store, index)
            index.save(files.index_folder)
        finally:
            store.close()
    return report


def _repair_table(files: GalleryFiles, report: RepairReport) -> None:
    try:
        with files.reading() as store:
            if not store.integrity():
                return
    except GalleryError:
        pass
    meta, rows = _salvage_table(files.table)
    identity = read_identity(files.directory)
    meta = entries_of(identity) | meta
    if "model" not in meta:
        raise GalleryDamagedError(
            f"{files.table} is damaged beyond repair: it does not tell which model made the "
            f"gallery; run: lookalike index --rebuild"
        )
    # Ids are never given out twice, or old vectors would belong to new files.
    top = max((row.id for row in rows), default=0)
    with suppress(IndexFormatError):
        top = max(top, int(LSHIndex.open(files.index_folder).ids.max(initial=0)))
    saved = {row.path for row in rows}
    removed = [row for row in removed_rows(identity, top + 1) if row.path not in saved]
    fresh = files.table.with_name("repaired.sqlite")
    Store.create(fresh, meta, top + 1)
    store = Store.open(fresh, write=True)
    try:
        with store.transaction():
            store.put([*rows, *removed])
    finally:
        store.close()
    told = f"{len(rows)} rows of the table were saved"
    if files.table.exists():
        aside = files.table.with_name(files.table.name + ".damaged")
        shutil.copyfile(files.table, aside)
        told += f"; the damaged one is {aside.name}"
    else:
        told = "the table was missing; a new one was made"
    Path(f"{files.table}-journal").unlink(missing_ok=True)
    os.replace(fresh, files.table)
    report.done.append(told)
    if removed:
        report.done.append(f"{len(removed)} removed by you are known from {IDENTITY} and stay out")
    if identity is None:
        report.done.append(
            f"{IDENTITY} is lost, too: images that you took out and whose rows were not saved come "
            f"back; remove them again"
        )


def _salvage_table(path: Path) -> tuple[dict[str, Any], list[ImageRow]]:
    """What a damaged table still gives: entries, and rows, that match their checksum."""
    meta: dict[str, Any] = {}
    rows: dict[bytes, ImageRow] = {}
    if not path.exists():
        return meta, []
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    connection.text_factory = lambda raw: raw.decode(errors="replace")

    def read(condition: str, *values: int) -> int:
        """Reads rows until a damaged page; the id of the last good one, 0 if there was none."""
        last = 0
        with suppress(sqlite3.DatabaseError):
            query = f"SELECT * FROM images NOT INDEXED {condition}"
            for found in connection.execute(query, values):
                row = checked_row(found)
                if row is not None:
                    rows[row.path] = row
                    last = row.id
        return last

    try:
        with suppress(sqlite3.DatabaseError):
            for name, value, checksum in connection.execute("SELECT * FROM meta"):
                if meta_checksum(name, value) == checksum:
                    meta[name] = json.loads(value)
        # From both ends, then one by one what lies between damaged pages.
        first, last = read("ORDER BY id"), read("ORDER BY id DESC")
        for number in range(first + 1, last):
            read("WHERE id = ?", number)
    finally:
        connection.close()
    return meta, list(rows.values())


def _repair_index(folder: Path, dim: int, report: RepairReport) -> LSHIndex:
    """The index as it is, or a new one from the vectors that are still whole."""
    try:
        index = LSHIndex.open(folder)
        if not (damage := index.damaged()):
            return index
    except IndexFormatError as error:
        damage = [str(error)]
    settings = LSHIndex.stored_settings(folder) or LSHSettings(dim=dim)
    index = LSHIndex.salvage(folder, settings)
    report.done.append(f"index made anew from {len(index)} whole vectors ({'; '.join(damage)})")
    return index
