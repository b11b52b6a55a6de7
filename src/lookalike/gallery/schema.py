"""The SQLite file of a gallery before anything in it is used: what may be beside it, how it is
opened, and what its tables are.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

from lookalike.atomic import IrregularFileError, open_regular
from lookalike.errors import GalleryDamagedError, GalleryError, GalleryGoneError
from lookalike.gallery.places import GONE, explain_unreadable, repair_command

BUSY_SECONDS = 60.0
COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite may have beside a table, of which lookalike uses the first alone."""
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
JOURNAL_HEADER = 28
LONGEST_VALUE = 16 << 20
"""Bytes of a text or of a path."""
STEPS = 1 << 20
STEPS_PER_BYTE = 4
"""SQLite's steps that one query of a table may take for each of its bytes, which is several times
what any takes; a forged table could keep it going for ever."""
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    hash BLOB,
    width INTEGER,
    height INTEGER,
    format TEXT,
    skipped TEXT,
    detail TEXT,
    remedy TEXT,
    checksum INTEGER NOT NULL
    , inode INTEGER, ctime_ns INTEGER, note TEXT, phash INTEGER, taken INTEGER);
CREATE INDEX images_hash ON images (hash);
CREATE INDEX images_skipped ON images (skipped) WHERE skipped IS NOT NULL;
"""
"""As sqlite_master has it in every table that was made."""
SCHEMA_VERSION = 4


def make_tables(connection: sqlite3.Connection) -> None:
    """In an empty file, inside a transaction."""
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@cache
def expected_schema() -> frozenset[tuple[str, str]]:
    """`schema_entries` of a table of this version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        make_tables(connection)
        return frozenset(schema_entries(connection))


def schema_entries(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Name and definition, with single blanks, of each entry of sqlite_master: at most 100."""
    query = "SELECT name, type, tbl_name, sql FROM sqlite_master LIMIT 100"
    for row in connection.execute(query):
        yield str(row[0]), " ".join(" ".join(map(str, row)).split())


class Deadline:
    """Ends a query that takes more steps than its table has reason for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps = 0

    def begin(self) -> None:
        """Of a query."""
        self._steps = 0

    def passed(self) -> bool:
        """Called every STEPS steps."""
        self._steps += STEPS
        return self._steps > 16 * STEPS + STEPS_PER_BYTE * self._path.stat().st_size


def check_beside(path: Path) -> None:
    """Prove what no library should be let near: the table and what SQLite would use beside it.

    Raises:
        GalleryDamagedError: one is missing, not a regular file, or not of a gallery.
        GalleryError: the table is not to be read; GalleryGoneError: nor is its folder there.
    """

    def damaged(name: Path, what: str) -> GalleryDamagedError:
        return GalleryDamagedError(f"{name} {what}; run: {repair_command(path.parent)}")

    with explain_unreadable(path.parent):
        try:
            status = path.lstat()
        except FileNotFoundError as error:
            if not path.parent.is_dir():
                raise GalleryGoneError(GONE.format(path.parent)) from error
            raise damaged(path, "is missing") from error
        if not stat.S_ISREG(status.st_mode):
            raise damaged(path, "is not a regular file")
        # Not by opening it: closing it again would free the locks that SQLite holds on it here.
        if not os.access(path, os.R_OK):
            raise PermissionError(None, "Permission denied", os.fspath(path))
        for suffix in COMPANIONS[1:]:
            beside = Path(f"{path}{suffix}")
            if os.path.lexists(beside):
                raise damaged(beside, "does not belong to a gallery")
        journal = Path(f"{path}{COMPANIONS[0]}")
        try:
            _check_journal(journal, path)
        except IrregularFileError as error:
            raise damaged(journal, str(error.strerror)) from error
        except ValueError as error:
            raise damaged(journal, str(error)) from error


def _check_journal(path: Path, table: Path) -> None:
    """A journal undoes what a crash left half written, and is a program for SQLite: it may name a
    file to be deleted, and the length that the table is to get. ValueError for what lookalike does
    not write.
    """
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:
        header = file.read(JOURNAL_HEADER)
        size = os.fstat(descriptor).st_size
        file.seek(max(0, size - len(JOURNAL_MAGIC)))
        tail = file.read(len(JOURNAL_MAGIC))
    if size >= JOURNAL_HEADER and tail == JOURNAL_MAGIC:
        raise ValueError("names another file, which no journal of a gallery does")
    if len(header) == JOURNAL_HEADER and header.startswith(JOURNAL_MAGIC):
        pages, page = (int.from_bytes(header[at : at + 4]) for at in (16, 24))
        # Its size after the journal was read: tables only grow, perhaps just now.
        if not 0 < pages * page <= table.lstat().st_size:
            raise ValueError(f"is of a table of {pages:,} pages of {page:,} bytes")


def connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.OperationalError as error:
        raise GalleryError(f"cannot open {path}: {error}") from error
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # text may be damaged
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    # The schema is input: no function of its own, no page before its cells are checked, no mapping
    # of a file that others may cut.
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
