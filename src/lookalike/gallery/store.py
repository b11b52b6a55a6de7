"""The table of images: one SQLite file, one row per file of the folder, each with a checksum."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from lookalike.atomic import IrregularFileError, open_regular, replacing
from lookalike.errors import GalleryDamagedError, GalleryError, StorageFullError
from lookalike.gallery.entries import LARGEST_ID, OPTIONAL, REQUIRED, check_entry
from lookalike.gallery.places import (
    APPLICATION_ID,
    FULL,
    NO_SPACE,
    explain_unreadable,
    repair_command,
)
from lookalike.lsh.arrayfile import parse_json
from lookalike.lsh.owner import new_owner

__all__ = [
    "COMPANIONS",
    "REMOVED",
    "SCHEMA_VERSION",
    "STEPS",
    "Counts",
    "Deadline",
    "FileState",
    "ImageRow",
    "Store",
    "check_beside",
    "check_row",
    "checked_entry",
    "checked_row",
    "connect",
    "expected_schema",
    "file_state",
    "schema_entry",
]

BUSY_SECONDS = 60.0
COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite may have beside a table, of which lookalike uses the first alone."""
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
JOURNAL_HEADER = 28
LONGEST_VALUE = 16 << 20
"""Bytes of a text or of a path."""
DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_INTERRUPT,  # by a query that does not end
)
STEPS = 1 << 20
STEPS_PER_BYTE = 4
"""SQLite's steps that one query of a table may take for each of its bytes, which is several times
what any takes; a forged table could keep it going for ever."""
REMOVED = "removed"
"""Reason for which files are skipped that a user took out."""
HASH_BYTES = 16
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

    def fits(self, status: os.stat_result, *, strict: bool = False) -> bool:
        """Whether a file has the size and time with which it was indexed.

        Args:
            status: of the file.
            strict: also inode and change time, where they are known. They also differ when a file
                was renamed or copied, or its permissions or links changed.
        """
        state = file_state(status)
        same = (state.size, state.mtime_ns) == (self.size, self.mtime_ns)
        if same and strict:
            pairs = (self.inode, state.inode), (self.ctime_ns, state.ctime_ns)
            return all(None in pair or pair[0] == pair[1] for pair in pairs)
        return same


class FileState(NamedTuple):
    """What the file system says of a file, as the columns of the table can hold it."""

    size: int
    mtime_ns: int
    inode: int | None
    ctime_ns: int


def file_state(status: os.stat_result) -> FileState:
    """Times beyond 64 bits of ns, before 1677 or after 2262, become the last that fit; an inode
    number above 63 bits becomes negative; inode 0, which some mounts give to all files, None.
    """
    inode = (status.st_ino + (1 << 63)) % (1 << 64) - (1 << 63)
    size, mtime_ns, ctime_ns = (
        max(-(1 << 63), min(value, (1 << 63) - 1))
        for value in (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )
    return FileState(size, mtime_ns, inode or None, ctime_ns)


_values = attrgetter(*(field.name for field in fields(ImageRow)))  # astuple copies deeply


def _columns(row: ImageRow) -> tuple[Any, ...]:
    values = _values(row)
    return (*values[:FIRST_FIELDS], row.checksum, *values[FIRST_FIELDS:])


class Counts(NamedTuple):
    """Files of a gallery: indexed, skipped for a fault of theirs, taken out by the user."""

    images: int
    skipped: int
    removed: int


def checked_row(values: Sequence[Any]) -> ImageRow:
    """The row of these columns of the table, of any version.

    Raises:
        ValueError: it does not match its checksum, or holds what no row can have: SQLite keeps any
            type in any column, and who forges a row can forge its checksum.
    """
    row = ImageRow(*values[:FIRST_FIELDS], *values[FIRST_FIELDS + 1 :])
    if row.checksum != values[FIRST_FIELDS]:
        raise ValueError("does not match its checksum")
    check_row(row)
    return row


def check_row(row: ImageRow) -> None:
    """Raises ValueError unless the row's values have the right types, ranges and kind of path."""
    for name, is_good in _FIELDS:
        value = getattr(row, name)
        if not is_good(value):
            raise ValueError(f"has the {name} {value!r:.80}")


def _is_path(value: object) -> bool:
    """Whether these are the bytes of a path that stays below the folder it is relative to."""
    return type(value) is bytes and b"\0" not in value and _OUTSIDE.isdisjoint(value.split(b"/"))


_OUTSIDE = frozenset([b"", b".", b".."])


def _is_hash(value: object) -> bool:
    return value is None or (type(value) is bytes and len(value) == HASH_BYTES)


def _is_text(value: object) -> bool:
    return value is None or type(value) is str


def _is_id(value: object) -> bool:
    return type(value) is int and 0 < value < LARGEST_ID


def _is_size(value: object) -> bool:
    return type(value) is int and -1 <= value < 1 << 63


def _is_length(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 31)


def _is_time(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _may_be_time(value: object) -> bool:
    return value is None or _is_time(value)


_FIELDS: tuple[tuple[str, Callable[[object], bool]], ...] = (
    ("id", _is_id),
    ("path", _is_path),
    ("size", _is_size),
    ("mtime_ns", _is_time),
    ("hash", _is_hash),
    ("width", _is_length),
    ("height", _is_length),
    ("format", _is_text),
    ("skipped", _is_text),
    ("detail", _is_text),
    ("remedy", _is_text),
    ("inode", _may_be_time),
    ("ctime_ns", _may_be_time),
    ("note", _is_text),
)


def checked_entry(name: str, text: Any, checksum: Any) -> Any:
    """The value of an entry of the table. ValueError if it does not match its checksum, or is one
    that the entry cannot have.
    """
    if not isinstance(text, str) or meta_checksum(name, text) != checksum:
        raise ValueError(f"its entry '{name}' does not match its checksum")
    value = parse_json(text.encode())
    check_entry(name, value)
    return value


def meta_checksum(name: str, value: str) -> int:
    return zlib.crc32(f"{name}={value}".encode())


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


class Store:
    """The SQLite file of a gallery. Not for several threads at once: each opens its own."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.version = 0  # of its schema; 0: not proven yet
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
            store = cls(connect(temporary), temporary)
            try:
                store.connection.execute("PRAGMA synchronous = FULL")
                with store.transaction():
                    store._migrate(0)
                    store.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    store.connection.execute(
                        "INSERT INTO sqlite_sequence VALUES ('images', ?)", (first_id - 1,)
                    )
                    store.set_meta({**dict.fromkeys(REQUIRED), "index_has_no_id": False, **meta})
            finally:
                store.close()

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Store:
        """A table of an earlier version is migrated if it is to be written, else read as it is.

        What is beside and in the file is proven here before it is used, since it may come from
        anywhere: that it is a regular file, that its journal names no other file, that its schema
        is lookalike's, to the letter.

        Raises:
            GalleryError: it is of a later version, or not to be read.
            GalleryDamagedError: it is damaged.
        """
        check_beside(path)
        # Readers also open for writing where they may: after a crash, SQLite has to undo what was
        # half written before the table can be read.
        store = cls(connect(path), path)
        try:
            version = store._prove()
            store.version = version
            with store.guarded():
                pragma = "synchronous = FULL" if write else "query_only = ON"
                store.connection.execute(f"PRAGMA {pragma}")
            if not write:
                store.connection.set_progress_handler(store._deadline.passed, STEPS)
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
        self.version = SCHEMA_VERSION

    def _prove(self) -> int:
        """The version of the schema, which is exactly that version's."""
        try:
            with self.snapshot():
                version = self._check_header()
                query = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 100"
                found = {schema_entry(row) for row in self.connection.execute(query)}
                if found != expected_schema(version):
                    raise self.damaged(f"its schema is not that of version {version}")
                return version
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error
        except (UnicodeError, MemoryError, OverflowError, RecursionError) as error:
            raise self.damaged(f"it cannot be read ({type(error).__name__})") from error

    def _check_header(self) -> int:
        """The version of the schema."""
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
        if not 1 <= version <= SCHEMA_VERSION:
            raise GalleryError(
                f"{self.path} has schema version {version}, this lookalike reads versions 1 to "
                f"{SCHEMA_VERSION}; use the lookalike that made it, or: lookalike index --rebuild"
            )
        if mode != "delete":
            raise self.damaged(f"it has the journal mode {mode!r}")
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
            if code in DAMAGE:
                raise self.damaged(str(error)) from error
            if code == sqlite3.SQLITE_BUSY:
                raise GalleryError(
                    f"{self.path} stayed locked for {BUSY_SECONDS:.0f} s; try again"
                ) from error
            if code == sqlite3.SQLITE_ERROR and not self.version:  # its schema is garbled
                raise self.damaged(str(error)) from error
            raise GalleryError(f"{self.path}: {error}") from error
        except UnicodeDecodeError as error:  # of SQLite's messages, which may quote a damaged page
            raise self.damaged("it cannot be read") from error

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
        optional = name in OPTIONAL and not (name == "gallery_id" and self.version > 1)
        if found is None and optional:
            return None
        if found is None:
            raise self.damaged(f"its entry '{name}' is missing")
        try:
            return checked_entry(name, *found)
        except ValueError as error:
            raise self.damaged(str(error)) from error

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
            if not (_is_id(number) and _is_path(path) and last < path):
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
    """What distinguishes files of equal size and time, and an id that index and table share."""
    for column in ("inode INTEGER", "ctime_ns INTEGER", "note TEXT"):
        store.connection.execute(f"ALTER TABLE images ADD COLUMN {column}")
    if store.meta("gallery_id") is None:  # the index gets it next, see `GalleryFiles.writing`
        store.set_meta({"gallery_id": new_owner(), "index_has_no_id": True})


MIGRATIONS: tuple[Callable[[Store], None], ...] = (_make_tables, _add_file_state)
SCHEMA_VERSION = len(MIGRATIONS)


@cache
def expected_schema(version: int) -> set[str]:
    """The entries of sqlite_master of a table of this version."""
    store = Store(sqlite3.connect(":memory:", isolation_level=None), Path())
    try:
        for migration in MIGRATIONS[:version]:
            migration(store)
        query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
        return {schema_entry(row) for row in store.connection.execute(query)}
    finally:
        store.close()


def schema_entry(row: Sequence[Any]) -> str:
    """An entry of sqlite_master with single blanks."""
    return " ".join(" ".join(str(value).split()) for value in row)


def check_beside(path: Path) -> None:
    """Prove what no library should be let near: the table and what SQLite would use beside it.

    Raises:
        GalleryDamagedError: one is missing, not a regular file, or not of a gallery.
        GalleryError: the table is not to be read.
    """

    def damaged(name: Path, what: str) -> GalleryDamagedError:
        return GalleryDamagedError(f"{name} {what}; run: {repair_command(path.parent)}")

    with explain_unreadable(path.parent):
        try:
            status = path.lstat()
        except FileNotFoundError as error:
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
