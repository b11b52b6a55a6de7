"""The table of images: one SQLite file, one row per file of the folder, each with a checksum."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from lookalike.errors import GalleryDamagedError, GalleryError, StorageFullError
from lookalike.gallery.places import FULL, NO_SPACE, repair_command

__all__ = [
    "OWN_SHEET",
    "REMOVED",
    "SCHEMA_VERSION",
    "Counts",
    "ImageRow",
    "Store",
    "checked_row",
    "meta_checksum",
]

APPLICATION_ID = 0x4C4B4C4B
BUSY_SECONDS = 60.0
META = ("model", "model_path", "root", "pairs")
# Entries that a table may lack, which then counts as None.
OPTIONAL_META = ("tuning", "unfinished", "gallery_id", "devices")
REMOVED = "removed"
"""Reason for which files are skipped that a user took out."""
OWN_SHEET = "own sheet"
"""Reason for which contact sheets of lookalike itself are skipped, which no count includes."""
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
);
CREATE INDEX images_hash ON images (hash);
CREATE INDEX images_skipped ON images (skipped) WHERE skipped IS NOT NULL;
"""
"""Of version 1. What came later is in MIGRATIONS, which also make new tables."""
FIRST_FIELDS = 11
"""Fields of an `ImageRow` in version 1; in the table, the checksum follows them."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One file: indexed under ``id`` (then ``skipped`` is None), or skipped and why.

    ``path`` is relative to the gallery's folder, with forward slashes, as stored by the file
    system. ``hash`` is the BLAKE2b-128 of the file's content. ``inode`` and ``ctime_ns`` are those
    of the file when it was read, None if not known. ``note`` says what the embedding leaves out of
    the file, for instance all frames but the first; None: nothing.
    """

    id: int
    path: bytes
    size: int
    mtime_ns: int
    hash: bytes | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    skipped: str | None = None
    detail: str | None = None
    remedy: str | None = None
    inode: int | None = None
    ctime_ns: int | None = None
    note: str | None = None

    @property
    def checksum(self) -> int:
        values = _values(self)
        count = len(values)  # later fields count once set: rows of version 1 keep their checksum
        while count > FIRST_FIELDS and values[count - 1] is None:
            count -= 1
        return zlib.crc32(repr(values[:count]).encode())


_values = attrgetter(*(field.name for field in fields(ImageRow)))  # astuple copies deeply


def _columns(row: ImageRow) -> tuple[Any, ...]:
    values = _values(row)
    return (*values[:FIRST_FIELDS], row.checksum, *values[FIRST_FIELDS:])


class Counts(NamedTuple):
    """Files of a gallery: indexed, skipped for a fault of theirs, taken out by the user."""

    images: int
    skipped: int
    removed: int


def checked_row(values: Sequence[Any]) -> ImageRow | None:
    """The row of these columns of the table, of any version; None if its checksum differs."""
    row = ImageRow(*values[:FIRST_FIELDS], *values[FIRST_FIELDS + 1 :])
    return row if row.checksum == values[FIRST_FIELDS] else None


def meta_checksum(name: str, value: str) -> int:
    return zlib.crc32(f"{name}={value}".encode())


class Store:
    """The SQLite file of a gallery. Not for several threads at once: each opens its own."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any], first_id: int = 1) -> None:
        """Make an empty table at ``path`` that gives out ids from ``first_id`` on.

        ``meta``: values of META, None if not given; ``gallery_id`` is made if not given. The file
        is there whole or not at all.
        """
        temporary = path.with_name(path.name + ".new")
        for leftover in (temporary, Path(f"{temporary}-journal")):
            leftover.unlink(missing_ok=True)
        store = cls(_connect(temporary, "rwc"), temporary)
        try:
            store.connection.execute("PRAGMA synchronous = FULL")
            with store.transaction():
                store._migrate(0)
                store.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                store.connection.execute(
                    "INSERT INTO sqlite_sequence VALUES ('images', ?)", (first_id - 1,)
                )
                store.set_meta({**dict.fromkeys(META), **meta})
        finally:
            store.close()
        os.replace(temporary, path)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Store:
        """A table of an earlier version is migrated if it is to be written, else read as it is.

        Raises:
            GalleryError: it is of a later version.
            GalleryDamagedError: it is damaged.
        """
        if not path.is_file():
            raise GalleryDamagedError(f"{path} is missing; run: {repair_command(path.parent)}")
        # Readers, too, open for writing where they may: after a crash, SQLite has to undo what was
        # half written before anybody can read.
        store = cls(_connect(path, "rw"), path)
        try:
            version = store._check_header()
            with store.guarded():
                pragma = "synchronous = FULL" if write else "query_only = ON"
                store.connection.execute(f"PRAGMA {pragma}")
            if write and version < SCHEMA_VERSION:
                with store.transaction():
                    store._migrate(version)
        except BaseException:
            store.close()
            raise
        return store

    def _migrate(self, version: int) -> None:
        """From schema ``version`` to the present one, inside a transaction."""
        for migration in MIGRATIONS[version:]:
            migration(self)
        self.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_header(self) -> int:
        """The version of the schema."""
        with self.guarded():
            application, version, pages, page = (
                self.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "page_count", "page_size")
            )
        size = self.path.stat().st_size
        if application != APPLICATION_ID:
            raise self.damaged(
                f"it is no table of images (application id {application:#x} instead of "
                f"{APPLICATION_ID:#x})"
            )
        if not 1 <= version <= SCHEMA_VERSION:
            raise GalleryError(
                f"{self.path} has schema version {version}, this lookalike reads versions 1 to "
                f"{SCHEMA_VERSION}; use the lookalike that made it, or: lookalike index --rebuild"
            )
        if size < pages * page:
            raise self.damaged(f"it has {size:,} bytes of {pages * page:,}")
        return int(version)

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
                code == sqlite3.SQLITE_IOERR and _is_full(self.path.parent)
            ):
                raise StorageFullError(FULL.format(self.path.parent)) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self.damaged(str(error)) from error
            if code == sqlite3.SQLITE_BUSY:
                raise GalleryError(
                    f"{self.path} stayed locked for {BUSY_SECONDS:.0f} s; try again"
                ) from error
            if code == sqlite3.SQLITE_ERROR and "no such" in str(error):  # its schema is garbled
                raise self.damaged(str(error)) from error
            raise GalleryError(f"{self.path}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when the block ends."""
        with self.guarded():
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

    def rows(self, condition: str, values: Sequence[Any] = ()) -> Iterator[ImageRow]:
        """The rows that fulfil an SQL condition, each compared with its checksum."""
        with self.guarded():
            query = f"SELECT * FROM images WHERE {condition}"
            for found in self.connection.execute(query, values):
                row = checked_row(found)
                if row is None:
                    raise self.damaged(f"row {found[0]} does not match its checksum")
                yield row

    # ---- reading ------------------------------------------------------------------------------

    def meta(self, name: str) -> Any:
        """The value stored under ``name``, one of META or OPTIONAL_META."""
        with self.guarded():
            found = self.connection.execute(
                "SELECT value, checksum FROM meta WHERE name = ?", (name,)
            ).fetchone()
        if found is None and name in OPTIONAL_META:
            return None
        if found is None:
            raise self.damaged(f"its entry '{name}' is missing")
        if meta_checksum(name, found[0]) != found[1]:
            raise self.damaged(f"its entry '{name}' does not match its checksum")
        return json.loads(found[0])

    def counts(self) -> Counts:
        with self.guarded():
            total, skipped, removed, sheets = self.connection.execute(
                "SELECT count(*), count(skipped), coalesce(sum(skipped = ?), 0), "
                "coalesce(sum(skipped = ?), 0) FROM images",
                (REMOVED, OWN_SHEET),
            ).fetchone()
        return Counts(total - skipped, skipped - removed - sheets, removed)

    def skipped(self) -> list[ImageRow]:
        """By path; also those that a user took out, but no sheets of lookalike's own."""
        return list(self.rows("skipped IS NOT NULL AND skipped != ? ORDER BY path", (OWN_SHEET,)))

    def removed(self) -> list[ImageRow]:
        """What a user took out, by path."""
        return list(self.rows("skipped = ? ORDER BY path", (REMOVED,)))

    def indexed(self) -> Iterator[ImageRow]:
        """All indexed images by id."""
        return self.rows("skipped IS NULL ORDER BY id")

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
        found: dict[int, ImageRow] = {}
        for chunk in _chunks(list(ids)):
            marks = ",".join("?" * len(chunk))
            found.update((row.id, row) for row in self.rows(f"id IN ({marks})", chunk))
        return found

    def by_paths(self, paths: Iterable[bytes]) -> list[ImageRow]:
        """The rows of those ``paths`` that are known."""
        found: list[ImageRow] = []
        for chunk in _chunks(list(paths)):
            marks = ",".join("?" * len(chunk))
            found += self.rows(f"path IN ({marks})", chunk)
        return found

    def ids(self) -> list[int]:
        """The ids of all indexed images, ascending."""
        with self.guarded():
            query = "SELECT id FROM images WHERE skipped IS NULL ORDER BY id"
            return [row[0] for row in self.connection.execute(query)]

    def next_id(self) -> int:
        """An id that was never used."""
        with self.guarded():
            found = self.connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
            ).fetchone()
        return int(found[0]) + 1 if found else 1

    def integrity(self, *, rows: bool = True) -> list[str]:
        """What SQLite and, with ``rows``, the rows' checksums find wrong; [] if nothing."""
        try:
            with self.guarded():
                found = [row[0] for row in self.connection.execute("PRAGMA integrity_check(5)")]
            for name in (*META, *OPTIONAL_META):
                self.meta(name)
            if rows:
                for _ in self.rows("1"):
                    pass
        except GalleryError as error:
            return [str(error)]
        return [str(self.damaged(text)) for text in found if text != "ok"]

    # ---- writing (inside a transaction) ---------------------------------------------------------

    def set_meta(self, values: dict[str, Any]) -> None:
        texts = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)",
            [(name, text, meta_checksum(name, text)) for name, text in texts.items()],
        )

    def put(self, rows: Iterable[ImageRow]) -> None:
        """Insert rows, or replace those of the same id or path."""
        values = [_columns(row) for row in rows]
        marks = ",".join("?" * (len(fields(ImageRow)) + 1))
        self.connection.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", values)

    def delete(self, ids: Iterable[int]) -> None:
        self.connection.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in ids])


# ---- schema versions: each function makes the version of its place in MIGRATIONS, from 1 ---------


def _make_tables(store: Store) -> None:
    for statement in SCHEMA.split(";"):
        store.connection.execute(statement)


def _add_file_state(store: Store) -> None:
    """What tells files of equal size and time apart, and an id that index and table share."""
    for column in ("inode INTEGER", "ctime_ns INTEGER", "note TEXT"):
        store.connection.execute(f"ALTER TABLE images ADD COLUMN {column}")
    if store.meta("gallery_id") is None:
        store.set_meta({"gallery_id": secrets.token_hex(16)})


MIGRATIONS: tuple[Callable[[Store], None], ...] = (_make_tables, _add_file_state)
SCHEMA_VERSION = len(MIGRATIONS)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.OperationalError as error:
        raise GalleryError(f"cannot open {path}: {error}") from error
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # text may be damaged
    return connection


def _is_full(folder: Path) -> bool:
    """Whether nothing more can be written there. SQLite reports a quota like a failing disk."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        return error.errno in NO_SPACE
    return False


def _chunks(values: list[Any], size: int = 500) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
