"""The table of images: one SQLite file, one row per file of the folder."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from lookalike.atomic import replacing
from lookalike.errors import (
    GalleryDamagedError,
    GalleryError,
    GalleryGoneError,
    GalleryVersionError,
    StorageFullError,
)
from lookalike.gallery.entries import LARGEST_ID, OPTIONAL, REQUIRED, checked_entry, entry_row
from lookalike.gallery.places import APPLICATION_ID, FULL, GONE, command, is_full, repair_command
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ImageRow, checked_row, columns, is_id, is_path
from lookalike.gallery.schema import (
    BUSY_SECONDS,
    COMPANIONS,
    SCHEMA_VERSION,
    STEPS,
    Deadline,
    check_beside,
    connect,
    expected_schema,
    make_tables,
    schema_entries,
)
from lookalike.lsh.arrayfile import new_owner

DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_INTERRUPT,  # by a query that does not end
)
REMOVED = "removed"
"""Reason for which files are skipped that a user took out."""
AT_ONCE = 500
"""Values in one query."""


class Counts(NamedTuple):
    """Files of a gallery: indexed, skipped for a fault of theirs, taken out by the user."""

    images: int
    skipped: int
    removed: int


class Store:
    """The SQLite file of a gallery.

    Not for several threads at once, but for reading while ``lock`` is held, which a transaction
    does: what another thread reads then was committed.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self._is_proven = False
        self.lock = threading.RLock()
        self._deadline = Deadline(path)

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any], first_id: int = 1) -> None:
        """Make an empty table at ``path`` that gives out ids from ``first_id`` on.

        ``meta``: values of META, None if not given; ``gallery_id`` is made if not given. The file
        is there whole or not at all.
        """
        for suffix in COMPANIONS:  # a journal of what was here before would be rolled back
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        with replacing(path) as temporary:
            for suffix in COMPANIONS:
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)
            with closing(cls(connect(temporary), temporary)) as store:
                store.connection.execute("PRAGMA synchronous = FULL")
                with store.transaction():
                    make_tables(store.connection)
                    store._is_proven = True
                    store.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    store.connection.execute(
                        "INSERT INTO sqlite_sequence VALUES ('images', ?)", (first_id - 1,)
                    )
                    store.set_meta({**dict.fromkeys(REQUIRED), "gallery_id": new_owner(), **meta})

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Store:
        """What is beside and in the file is proven here before it is used, since it may come from
        anywhere: that it is a regular file, that its journal names no other file, that its schema
        is lookalike's, to the letter.

        Raises:
            GalleryError: it is of another version, or not to be read.
            GalleryDamagedError: it is damaged.
        """
        check_beside(path)
        # Readers also open for writing where they may: after a crash, SQLite has to undo what was
        # half written before the table can be read.
        store = cls(connect(path), path)
        try:
            store._prove()
            with store.guarded():
                store.connection.execute("PRAGMA query_only = ON")
            store.connection.set_progress_handler(store._deadline.passed, STEPS)
            if write:
                store.allow_writing()
        except BaseException:
            store.close()
            raise
        return store

    def __del__(self) -> None:
        self.close()

    def allow_writing(self) -> None:
        """Of a table that was opened to be read."""
        self.connection.set_progress_handler(None, 0)
        with self.guarded():
            self.connection.execute("PRAGMA query_only = OFF")
            self.connection.execute("PRAGMA synchronous = FULL")

    def _prove(self) -> None:
        """Its schema is exactly lookalike's."""
        try:
            with self.snapshot():
                self._check_header()
                if set(schema_entries(self.connection)) != expected_schema():
                    raise self.damaged(f"its schema is not that of version {SCHEMA_VERSION}")
            self._is_proven = True
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error
        except (UnicodeError, MemoryError, OverflowError, RecursionError) as error:
            raise self.damaged(f"it cannot be read ({type(error).__name__})") from error

    def _check_header(self) -> None:
        names = ("application_id", "user_version", "page_count", "page_size", "journal_mode")
        application, version, pages, page, mode = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names
        )
        size = self.path.lstat().st_size
        if application != APPLICATION_ID:
            raise self.damaged(
                f"it is not a table of images (application id {application:#x} instead of "
                f"{APPLICATION_ID:#x})"
            )
        if version != SCHEMA_VERSION:
            raise GalleryVersionError(
                f"{self.path} has schema version {version}, this lookalike reads version "
                f"{SCHEMA_VERSION}; use the lookalike that made it, or: "
                f"{command('index --rebuild', self.path.parent)}"
            )
        if mode != "delete":
            raise self.damaged(f"it has the journal mode {mode!r}")
        if size < pages * page:
            raise self.damaged(f"it has {size:,} bytes of {pages * page:,}")

    def damaged(self, what: str) -> GalleryDamagedError:
        return GalleryDamagedError(
            f"{self.path} is damaged: {what}; run: {repair_command(self.path.parent)}"
        )

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL or (
                code == sqlite3.SQLITE_IOERR and is_full(self.path.parent)
            ):
                raise StorageFullError(FULL.format(self.path.parent)) from error
            if code in DAMAGE:
                raise self.damaged(str(error)) from error
            if code == sqlite3.SQLITE_BUSY:
                raise GalleryError(
                    f"{self.path} stayed locked for {BUSY_SECONDS:.0f} s; try again"
                ) from error
            if code == sqlite3.SQLITE_ERROR and not self._is_proven:  # its schema is garbled
                raise self.damaged(str(error)) from error
            if not self.path.exists():
                raise GalleryGoneError(GONE.format(self.path.parent)) from error
            raise GalleryError(f"{self.path}: {error}") from error
        except UnicodeDecodeError as error:  # of SQLite's messages, which may quote a damaged page
            raise self.damaged("it cannot be read") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when the block ends."""
        with self.lock, self.guarded():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read in the block is of one committed state."""
        with self.guarded():
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    def read(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """What a query gives."""
        with self.guarded():
            self._deadline.begin()
            yield from self.connection.execute(query, values)

    def rows(self, condition: str, values: Sequence[Any] = ()) -> Iterator[ImageRow]:
        """The rows that fulfil an SQL condition, each proven."""
        for found in self.read(f"SELECT * FROM images WHERE {condition}", values):
            try:
                yield checked_row(found)
            except ValueError as error:
                raise self.damaged(f"row {found[0]} {error}") from error

    # ---- reading ------------------------------------------------------------------------------

    def meta(self, name: str) -> Any:
        """The value of the entry ``name``, which is proven; None if the table may lack it."""
        query = "SELECT value, checksum FROM meta WHERE name = ?"
        found = next(self.read(query, (name,)), None)
        if found is None and name in OPTIONAL:
            return None
        if found is None:
            raise self.damaged(f"its entry '{name}' is missing")
        try:
            return checked_entry(name, *found)
        except ValueError as error:
            raise self.damaged(str(error)) from error

    def pairs(self) -> PairStatistics | None:
        """What random pairs of the gallery are like."""
        values = self.meta("pairs")
        return None if values is None else PairStatistics.from_dict(values)

    def distinct(self) -> list[tuple[bytes, bytes]]:
        """Pairs of contents that the user has called no duplicates."""
        stored = self.meta("distinct") or []
        return [(bytes.fromhex(one), bytes.fromhex(two)) for one, two in stored]

    def counts(self) -> Counts:
        query = "SELECT count(*), count(skipped), coalesce(sum(skipped = ?), 0) FROM images"
        ((total, skipped, removed),) = self.read(query, (REMOVED,))
        return Counts(total - skipped, skipped - removed, removed)

    def skipped(self) -> list[ImageRow]:
        """By path; also those that a user took out."""
        return list(self.rows("skipped IS NOT NULL ORDER BY path"))

    def removed(self) -> list[ImageRow]:
        """What a user took out, by path."""
        return list(self.rows("skipped = ? ORDER BY path", (REMOVED,)))

    def indexed(self) -> Iterator[ImageRow]:
        """All indexed images by id."""
        last = 0
        for row in self.rows("skipped IS NULL ORDER BY id"):
            last = self._next(last, row.id)
            yield row

    def by_path(self, path: bytes) -> ImageRow | None:
        row = next(self.rows("path = ?", (path,)), None)
        if row is not None and row.path != path:
            raise self.damaged(f"its index of paths leads from {path!r} to {row.path!r}")
        return row

    def by_hash(self, digest: bytes) -> list[ImageRow]:
        """The indexed images of this content, by id."""
        return list(self.rows("hash = ? AND skipped IS NULL ORDER BY id", (digest,)))

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """The rows of those ``ids`` that exist."""
        return {row.id: row for row in self._where_in("id", ids)}

    def by_paths(self, paths: Iterable[bytes]) -> list[ImageRow]:
        """The rows of those ``paths`` that are known."""
        return list(self._where_in("path", paths))

    def _where_in(self, column: str, values: Iterable[Any]) -> Iterator[ImageRow]:
        wanted = list(values)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            yield from self.rows(f"{column} IN ({','.join('?' * len(some))})", some)

    def ids(self) -> list[int]:
        """The ids of all indexed images, ascending."""
        found, last = list[int](), 0
        for (number,) in self.read("SELECT id FROM images WHERE skipped IS NULL ORDER BY id"):
            last = self._next(last, number)
            found.append(number)
        return found

    def _next(self, last: int, number: int) -> int:
        """``number``, which must be above ``last``: else the table's pages form a circle."""
        if not last < number < LARGEST_ID:
            raise self.damaged(f"the id {number} follows {last}")
        return number

    def paths(self) -> Iterator[tuple[int, bytes]]:
        """Id and path of all indexed images, by path; without comparing rows with their checksums,
        which takes ten times as long.
        """
        last = b""
        query = "SELECT id, path FROM images WHERE skipped IS NULL ORDER BY path"
        for number, path in self.read(query):
            if not (is_id(number) and is_path(path) and last < path):
                raise self.damaged(f"row {number!r:.40} has the path {path!r:.80}")
            last = path
            yield number, path

    def next_id(self) -> int:
        """An id that was never used."""
        # One statement, so that both are of one committed state.
        highest = "(SELECT max(id) FROM images)"
        query = f"SELECT seq, {highest} FROM (SELECT 1) LEFT JOIN sqlite_sequence"
        (last, top), *others = self.read(query)
        last = 0 if last is None else last
        if others or type(last) is not int or not (top or 0) <= last < LARGEST_ID:
            raise self.damaged(f"the last id given out would be {last!r:.40}")
        return last + 1

    def integrity(self, *, rows: bool = True) -> list[str]:
        """What SQLite and, with ``rows``, the rows' checksums find wrong; [] if nothing."""
        try:
            found = [row[0] for row in self.read("PRAGMA integrity_check(5)")]
            if found != ["ok"]:  # its pages may form a circle: go no further
                return [str(self.damaged(text)) for text in found]
            for name in (*REQUIRED, *OPTIONAL):
                self.meta(name)
            self.next_id()
            if rows:
                for _ in self.rows("1"):
                    pass
        except GalleryError as error:
            return [str(error)]
        return []

    # ---- writing (inside a transaction) ---------------------------------------------------------

    def set_meta(self, values: dict[str, Any]) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)",
            [entry_row(name, value) for name, value in values.items()],
        )

    def put(self, rows: Iterable[ImageRow]) -> None:
        """Insert rows, or replace those of the same id or path."""
        values = [columns(row) for row in rows]
        marks = ",".join("?" * (len(fields(ImageRow)) + 1))
        self.connection.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", values)

    def delete(self, ids: Iterable[int]) -> None:
        self.connection.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in ids])
