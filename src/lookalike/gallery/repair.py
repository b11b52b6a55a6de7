"""Find damage in a gallery's files, and rebuild what can be rebuilt."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.atomic import atomic_writer, open_regular
from lookalike.errors import (
    GalleryDamagedError,
    GalleryError,
    GalleryVersionError,
    IndexFormatError,
)
from lookalike.gallery.entries import LARGEST_ID, checked_entry
from lookalike.gallery.files import GalleryFiles, made_with, recover
from lookalike.gallery.identity import (
    entries_of,
    identity_of,
    read_identity,
    removed_rows,
    write_identity,
)
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import IDENTITY, INDEX, LOCK, TABLE, command, is_real_folder
from lookalike.gallery.rows import ImageRow, checked_row
from lookalike.gallery.schema import (
    COMPANIONS,
    STEPS,
    Deadline,
    check_beside,
    connect,
    expected_schema,
    schema_entries,
)
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.storage import stored_owner, stored_owners, stored_settings

MOST_TRIED = 1_000_000
"""Ids that are tried one by one between damaged pages."""
UNREADABLE = (sqlite3.Error, UnicodeError, MemoryError, OverflowError)


# ---- finding it ----------------------------------------------------------------------------------


def verify(files: GalleryFiles) -> list[str]:
    """Everything that is wrong with a gallery's own files, in sentences; [] if nothing is. What an
    interrupted update leaves behind is not damage."""
    problems, filled = list[str](), False
    with _noted(problems), files.reading() as store:
        problems += store.integrity()
        filled = not problems and sum(store.counts()) > 0
    identity, lock = files.directory / IDENTITY, files.directory / LOCK
    if os.path.lexists(identity):
        if read_identity(files.directory) is None:
            problems.append(f"{identity} is damaged")
    elif filled:  # a gallery in the making gets it before its first image
        problems.append(f"{identity} is missing")
    if os.path.lexists(lock) and not stat.S_ISREG(lock.lstat().st_mode):
        problems.append(f"{lock} is not a regular file")
    problems += _look_at_graph(files)
    is_table_whole = filled or not problems
    with _noted(problems):
        if is_table_whole:
            problems += _compare_index(files)
        else:
            files.check_index_folder()
            index = LSHIndex.open(files.index_folder)
            problems += [f"index: {what}" for what in index.damaged()]
    return problems


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """An error in the block is one of the problems."""
    try:
        yield
    except GalleryVersionError:  # it is not damaged
        raise
    except GalleryError as error:
        problems.append(str(error))
    except IndexFormatError as error:
        problems.append(f"index: {error}")


def _look_at_graph(files: GalleryFiles) -> list[str]:
    """What is wrong with the neighbour graph; nothing if it is missing or lags behind the index."""
    problem: object = None
    if os.path.lexists(files.neighbours):
        try:
            with files.reading() as store:
                owner = store.meta("gallery_id")
            problem = NeighbourGraph.open(files.neighbours, owner).problem()
        except GalleryError:
            return []  # of the table
        except (IndexFormatError, OSError) as error:
            problem = error
    return [] if problem is None else [f"neighbours: {problem}; an update makes another"]


def _compare_index(files: GalleryFiles) -> list[str]:
    """What is wrong with the index of a whole table."""
    with files.reading_all(again=True) as (store, index):
        known, damage = set(store.ids()), index.damaged()
    lost = set() if damage else known - set(index.ids.tolist())
    if lost:  # a writer may have dropped some since the table was read
        with files.reading() as store:
            lost &= set(store.ids())
    found = [f"index: {what}" for what in damage]
    if lost:
        found.append(f"{len(lost)} images of the table have no vector in the index")
    return found


def changed_contents(rows: Iterable[ImageRow], root: Path) -> list[str]:
    """Images whose content is not what was indexed although their size and time say so, or which
    cannot be read."""
    return [problem for row in rows for problem in _compare(root, row)]


def _compare(root: Path, row: ImageRow) -> list[str]:
    from lookalike.gallery.scan import LEADS_NOWHERE
    from lookalike.images import SkippedImageError, SkipReason, content_hash
    from lookalike.images.formats import unreadable

    path = root / os.fsdecode(row.path)
    problem: object = (
        "the content has changed but not size and time, as on a failing disk; restore the file "
        "from a copy, or, if the change was meant: touch it and update the gallery"
    )
    try:
        if not row.fits(path.stat()) or content_hash(path) == row.hash:
            return []  # a change on purpose, which the next update reads
    except SkippedImageError as error:
        problem = None if error.reason is SkipReason.VANISHED else error
    except OSError as error:
        problem = None if error.errno in LEADS_NOWHERE else unreadable(error)
    return [] if problem is None else [f"{path}: {problem}"]  # None: the next update drops it


# ---- repairing it --------------------------------------------------------------------------------


@dataclass
class RepairReport:
    """What was done, in sentences, and how many images the next update has to read again."""

    done: list[str] = field(default_factory=list)
    to_read: int = 0


def repair(files: GalleryFiles) -> RepairReport:
    """Rebuild what is damaged from every row and vector that is still whole.

    What does not belong to the gallery (links, files of another gallery, journals that lookalike
    does not write) is moved aside or left where it is, and never followed.

    Raises:
        GalleryDamagedError: nothing says any more which model made the gallery.
        GalleryError: the gallery is of another version, or not to be read or written.
        GalleryLockedError: another process is writing.
    """
    report = RepairReport()
    lock = files.directory / LOCK
    with files.explained():
        if os.path.lexists(lock) and not stat.S_ISREG(lock.lstat().st_mode):
            _move_aside(lock, report)
        with writer_lock(lock):
            _tidy(files, report)
            _repair_table(files, report)
            with closing(Store.open(files.table, write=True)) as store:
                if read_identity(files.directory) is None:
                    report.done.append(f"{IDENTITY} was rewritten")
                write_identity(files.directory, identity_of(store))
                index = _repair_index(files, store, report)
                is_graph_lost = _drop_damaged_graph(files, index, report)
                report.to_read = recover(store, index)
                index.save(files.index_folder)
                if is_graph_lost:
                    files.update_graph(index)
                    report.done.append("the neighbour graph was made again")
    return report


def _tidy(files: GalleryFiles, report: RepairReport) -> None:
    """Move aside what is in the place of a gallery's file and must not be opened."""
    with suppress(GalleryDamagedError):
        check_beside(files.table)
        return
    for path in (files.table, *(Path(f"{files.table}{suffix}") for suffix in COMPANIONS)):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            _move_aside(path, report)
    for suffix in COMPANIONS[1:]:
        if os.path.lexists(beside := Path(f"{files.table}{suffix}")):
            _move_aside(beside, report)
    try:
        check_beside(files.table)
    except GalleryDamagedError:
        if os.path.lexists(journal := Path(f"{files.table}{COMPANIONS[0]}")):
            _move_aside(journal, report)


def _drop_damaged_graph(files: GalleryFiles, index: LSHIndex, report: RepairReport) -> bool:
    """Whether there was a neighbour graph that cannot be used."""
    path = files.neighbours
    if not os.path.lexists(path):
        return False
    if not stat.S_ISREG(path.lstat().st_mode):
        _move_aside(path, report)
        return True
    graph = files.graph(index)
    if graph is not None and graph.problem() is None:
        return False
    path.unlink()
    return True


def _move_aside(path: Path, report: RepairReport) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):
        aside.unlink()
    path.rename(aside)
    report.done.append(f"{path.name} does not belong to the gallery; it is now {aside.name}")


def _repair_table(files: GalleryFiles, report: RepairReport) -> None:
    identity = read_identity(files.directory)
    refused: GalleryError | None = None
    meta, rows, whole = dict[str, Any](), list[ImageRow](), False
    try:
        with files.reading() as store:
            meta["gallery_id"], whole = store.meta("gallery_id"), not store.integrity()
    except GalleryDamagedError:
        pass
    except GalleryError as error:
        refused = error
    if not whole:
        meta, rows = _salvage_table(files.table)
    if refused is not None and not rows:  # of another version, unless just its number is damaged
        raise refused
    own = _own_id(files, meta.get("gallery_id"), (identity or {}).get("gallery_id"))
    if own is not None and (identity or {}).get("gallery_id", own) != own:
        report.done.append(f"{IDENTITY} was of another gallery and was rewritten")
        identity = None
    if own is not None and meta.get("gallery_id") not in (None, own):
        _move_aside(files.table, report)  # its rows name another folder's files
        meta, rows = {}, []
    elif whole:
        return
    meta = entries_of(identity) | meta
    if "model" not in meta:
        raise GalleryDamagedError(
            f"{files.table} is damaged beyond repair: nothing says which model made the gallery; "
            f"run: {command('index --rebuild', files.directory)}"
        )
    if own is not None:  # else nothing has it any more, and the index is of no use
        meta["gallery_id"] = own
    # Ids are never given out twice, or old vectors would belong to new files.
    top = max((row.id for row in rows), default=0)
    with suppress(IndexFormatError):
        ids = LSHIndex.open(files.index_folder, own).ids if own else np.empty(0, np.int64)
        top = max(top, int(ids[ids < LARGEST_ID].max(initial=0)))
    saved = {row.path for row in rows}
    removed = [row for row in removed_rows(identity, top + 1) if row.path not in saved]
    fresh = files.table.with_name("repaired.sqlite")
    Store.create(fresh, meta, top + 1)
    with closing(Store.open(fresh, write=True)) as store, store.transaction():
        store.put([*rows, *removed])
    outcome = f"{len(rows)} rows of the table were saved"
    if files.table.exists():
        aside = files.table.with_name(files.table.name + ".damaged")
        with open(open_regular(files.table), "rb") as old, atomic_writer(aside) as copy:
            shutil.copyfileobj(old, copy)
        outcome += f"; the damaged one is {aside.name}"
    else:
        outcome = "the table was missing; a new one was made"
    Path(f"{files.table}-journal").unlink(missing_ok=True)
    os.replace(fresh, files.table)
    report.done.append(outcome)
    if removed:
        report.done.append(f"{len(removed)} removed by you are known from {IDENTITY} and stay out")
    if identity is None:
        report.done.append(
            f"{IDENTITY} is lost as well: images that you removed and whose rows were not saved "
            f"come back, and so do pairs that you called not duplicates; say both again"
        )


def _own_id(files: GalleryFiles, in_table: str | None, in_copy: str | None) -> str | None:
    """The id of the gallery itself: the one that its files agree on, or two of the three carry.

    Raises:
        GalleryDamagedError: the table, its copy and the index belong to different galleries, so
            that any choice could take over another gallery's rows.
    """
    carried = {
        TABLE: {in_table} if in_table else set[str](),
        IDENTITY: {in_copy} if in_copy else set[str](),
        INDEX: set[str](),
    }
    with suppress(GalleryDamagedError):
        files.check_index_folder()
        carried[INDEX] = stored_owners(files.index_folder)
    every = set[str]().union(*carried.values())
    votes = Counter(owner for owners in carried.values() if len(owners) == 1 for owner in owners)
    own, number = max(votes.items(), key=itemgetter(1), default=(None, 0))
    if number < 2 and len(every) > 1:
        found = "; ".join(
            f"{name} of {' and '.join(sorted(owners))}"
            for name, owners in carried.items()
            if owners
        )
        raise GalleryDamagedError(
            f"{files.directory} holds files of different galleries, and it is unknown which are "
            f"its own ({found}); put back its own files from a backup, or read the images again: "
            f"{command('index --rebuild', files.directory)}"
        )
    return own


def _salvage_table(path: Path) -> tuple[dict[str, Any], list[ImageRow]]:
    """What a damaged table still gives: entries, and rows, that match their checksum."""
    meta: dict[str, Any] = {}
    rows: dict[bytes, ImageRow] = {}
    if not path.exists():
        return meta, []
    connection = connect(path)
    deadline = Deadline(path)
    connection.set_progress_handler(deadline.passed, STEPS)

    def read(condition: str, *values: int) -> int:
        """Reads rows until a damaged page; the id of the last good one, 0 if there was none."""
        last, sign = 0, -1 if condition.endswith("DESC") else 1
        with suppress(*UNREADABLE):
            deadline.begin()
            query = f"SELECT * FROM images NOT INDEXED {condition}"
            for found in connection.execute(query, values):
                if type(found[0]) is not int or (last and sign * (found[0] - last) <= 0):
                    break  # pages that refer to each other in a circle
                with suppress(ValueError):
                    row = checked_row(found)
                    rows[row.path] = row
                last = found[0]
        return last

    with closing(connection):
        tables = _tables(connection)
        if "meta" in tables:
            with suppress(*UNREADABLE):
                deadline.begin()
                for name, value, checksum in connection.execute("SELECT * FROM meta LIMIT 1000"):
                    with suppress(ValueError):
                        meta[name] = checked_entry(name, value, checksum)
        if "images" in tables:
            # From both ends, then one by one what lies between damaged pages.
            first, last = read("ORDER BY id"), read("ORDER BY id DESC")
            for number in range(first + 1, min(last, first + MOST_TRIED)):
                read("WHERE id = ?", number)
    return meta, list(rows.values())


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Those of the tables that are just what lookalike has made: nothing else must be read, for a
    view may have no end.
    """
    known = expected_schema()
    found: dict[str, list[bool]] = {}
    with suppress(*UNREADABLE):
        # So that damage to one entry of the schema does not take the others with it.
        connection.execute("PRAGMA writable_schema = ON")
        for entry in schema_entries(connection):
            found.setdefault(entry[0].lower(), []).append(entry in known)
    return {name for name, good in found.items() if good == [True]}


def _repair_index(files: GalleryFiles, store: Store, report: RepairReport) -> LSHIndex:
    """The index as it is, or a new one from those of its vectors that are still whole."""
    dim, owner = made_with(store).dim, store.meta("gallery_id")
    if os.path.lexists(files.index_folder) and not is_real_folder(files.index_folder):
        _move_aside(files.index_folder, report)
    try:
        index = files.open_index(store)
        if not (damage := index.damaged()):
            return index
    except GalleryDamagedError as error:
        damage = [str(error.__cause__ or error)]
    is_own = stored_owner(files.index_folder) == owner
    settings = stored_settings(files.index_folder) if is_own else None
    if settings is None or settings.dim != dim:
        settings = LSHSettings(dim=dim)
    index = LSHIndex.salvage(files.index_folder, settings, owner)
    report.done.append(f"index rebuilt from {len(index)} whole vectors ({'; '.join(damage)})")
    return index
