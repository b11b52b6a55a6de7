"""The table of images: one SQLite file, one row per file of the folder."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from lookalike.errors import GalleryDamagedError, GalleryError, StorageFullError
from lookalike.gallery.scan import FoundFile

__all__ = ["SCHEMA_VERSION", "ImageRow", "Store", "ToRead"]

APPLICATION_ID = 0x4C4B4C4B
SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
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
COLUMNS = "id, path, size, mtime_ns, hash, width, height, format, skipped, detail, remedy"


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One file: indexed under ``id`` (then ``skipped`` is None), or skipped and why.

    ``path`` is relative to the gallery's folder, with forward slashes, as stored by the file
    system. ``hash`` is the BLAKE2b-128 of the file's content.
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

    @property
    def checksum(self) -> int:
        return zlib.crc32(repr(astuple(self)).encode())


@dataclass(frozen=True, slots=True)
class ToRead:
    """A file that an update has to look into; the hash of its row, if it is indexed already."""

    file: FoundFile
    indexed_hash: bytes | None


class Store:
    """The SQLite file of a gallery. Not shared between threads: each opens its own."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any]) -> Store:
        store = cls(_connect(path, "rwc"), path)
        with store.transaction():
            # executescript would commit by itself and leave a half-made file if it is interrupted.
            for statement in SCHEMA.split(";"):
                store._connection.execute(statement)
            store._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            store._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            store.set_meta(meta)
        return store

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Store:
        """Raises GalleryError for another version, GalleryDamagedError for a damaged file."""
        store = cls(_connect(path, "rw" if write else "ro"), path)
        with store.guarded():
            (application,) = store._connection.execute("PRAGMA application_id").fetchone()
            (version,) = store._connection.execute("PRAGMA user_version").fetchone()
            (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
            (page,) = store._connection.execute("PRAGMA page_size").fetchone()
        if application != APPLICATION_ID:
            raise GalleryDamagedError(
                f"{path} is no table of images (application id {application:#x} instead of "
                f"{APPLICATION_ID:#x}); run 'lookalike verify --repair'"
            )
        if version != SCHEMA_VERSION:
            raise GalleryError(
                f"{path} has schema version {version}, this lookalike reads {SCHEMA_VERSION}; use "
                f"the version that made it, or 'lookalike index --rebuild'"
            )
        if path.stat().st_size < pages * page:
            raise GalleryDamagedError(
                f"{path} has {path.stat().st_size:,} bytes of {pages * page:,}; run 'lookalike "
                f"verify --repair'"
            )
        return store

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise StorageFullError(
                    f"the disk of {self._path} is full; free some space and run the command again, "
                    f"everything committed before is kept"
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise GalleryDamagedError(
                    f"{self._path} is damaged ({error}); run 'lookalike verify --repair'"
                ) from error
            if code == sqlite3.SQLITE_BUSY:
                raise GalleryError(
                    f"{self._path} stayed locked for {BUSY_SECONDS:.0f} s; try again"
                ) from error
            raise GalleryError(f"{self._path}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk when the block ends."""
        with self.guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, condition: str, values: Sequence[Any] = ()) -> Iterator[ImageRow]:
        with self.guarded():
            query = f"SELECT {COLUMNS}, checksum FROM images WHERE {condition}"
            for *fields, checksum in self._connection.execute(query, values):
                row = ImageRow(*fields)
                if row.checksum != checksum:
                    raise GalleryDamagedError(
                        f"{self._path} is damaged: row {row.id} does not match its checksum; run "
                        f"'lookalike verify --repair'"
                    )
                yield row

    # ---- reading ------------------------------------------------------------------------------

    def meta(self, name: str) -> Any:
        """The value stored under ``name``, or None."""
        with self.guarded():
            found = self._connection.execute(
                "SELECT value FROM meta WHERE name = ?", (name,)
            ).fetchone()
        try:
            return json.loads(found[0]) if found else None
        except ValueError as error:
            raise GalleryDamagedError(
                f"{self._path} is damaged: its entry '{name}' is no JSON; run 'lookalike verify "
                f"--repair'"
            ) from error

    def counts(self) -> tuple[int, int]:
        """Number of indexed and of skipped files."""
        with self.guarded():
            total, skipped = self._connection.execute(
                "SELECT count(*), count(skipped) FROM images"
            ).fetchone()
        return total - skipped, skipped

    def skipped(self) -> list[ImageRow]:
        return list(self._rows("skipped IS NOT NULL ORDER BY path"))

    def indexed(self) -> Iterator[ImageRow]:
        """All indexed images by id."""
        return self._rows("skipped IS NULL ORDER BY id")

    def by_path(self, path: bytes) -> ImageRow | None:
        return next(self._rows("path = ?", (path,)), None)

    def by_hash(self, digest: bytes) -> list[ImageRow]:
        return list(self._rows("hash = ? AND skipped IS NULL ORDER BY id", (digest,)))

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """The rows of those ``ids`` that exist."""
        found: dict[int, ImageRow] = {}
        for chunk in _chunks(list(ids), 500):
            marks = ",".join("?" * len(chunk))
            found.update((row.id, row) for row in self._rows(f"id IN ({marks})", chunk))
        return found

    def ids_of_paths(self, paths: Iterable[bytes]) -> set[int]:
        found: set[int] = set()
        for chunk in _chunks(list(paths), 500):
            marks = ",".join("?" * len(chunk))
            query = f"SELECT id FROM images WHERE path IN ({marks})"
            with self.guarded():
                found.update(row[0] for row in self._connection.execute(query, chunk))
        return found

    def ids(self) -> list[int]:
        """The ids of all indexed images, ascending."""
        with self.guarded():
            query = "SELECT id FROM images WHERE skipped IS NULL ORDER BY id"
            return [row[0] for row in self._connection.execute(query)]

    def next_id(self) -> int:
        """An id that was never used."""
        with self.guarded():
            found = self._connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
            ).fetchone()
        return int(found[0]) + 1 if found else 1

    def integrity(self) -> list[str]:
        """What SQLite and the row checksums find wrong; [] if nothing."""
        try:
            with self.guarded():
                found = [row[0] for row in self._connection.execute("PRAGMA integrity_check")]
            for _ in self._rows("1"):
                pass
        except GalleryError as error:
            return [str(error)]
        return [f"{self._path}: {text}" for text in found if text != "ok"]

    @staticmethod
    def salvage(path: Path) -> tuple[dict[str, Any], list[ImageRow]]:
        """What a damaged file still gives: meta values, and rows that match their checksum."""
        meta: dict[str, Any] = {}
        rows: dict[bytes, ImageRow] = {}
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        except sqlite3.DatabaseError:
            return meta, []
        try:
            with suppress(sqlite3.DatabaseError, ValueError):
                for name, value in connection.execute("SELECT name, value FROM meta"):
                    meta[name] = json.loads(value)
            # From both ends, since reading stops at a damaged page.
            for order in ("ASC", "DESC"):
                with suppress(sqlite3.DatabaseError):
                    query = (
                        f"SELECT {COLUMNS}, checksum FROM images NOT INDEXED ORDER BY id {order}"
                    )
                    for *fields, checksum in connection.execute(query):
                        row = ImageRow(*fields)
                        if row.checksum == checksum:
                            rows[row.path] = row
        finally:
            connection.close()
        return meta, list(rows.values())

    # ---- writing (inside a transaction) ---------------------------------------------------------

    def set_meta(self, values: dict[str, Any]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [(name, json.dumps(value, sort_keys=True)) for name, value in values.items()],
        )

    def put(self, rows: Iterable[ImageRow]) -> None:
        """Insert rows, or replace those of the same path."""
        values = [(*astuple(row), row.checksum) for row in rows]
        self._connection.executemany(
            "DELETE FROM images WHERE path = ? AND id != ?", [(v[1], v[0]) for v in values]
        )
        marks = ",".join("?" * 12)
        self._connection.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", values)

    def delete(self, ids: Iterable[int]) -> None:
        self._connection.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in ids])

    # ---- comparing with the folder --------------------------------------------------------------

    def note_files(self, files: Iterable[FoundFile]) -> None:
        """Remember what the folder holds now, in a temporary table, for the questions below."""
        with self.guarded():
            self._connection.execute("DROP TABLE IF EXISTS temp.found")
            self._connection.execute(
                "CREATE TEMP TABLE found (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER) "
                "WITHOUT ROWID"
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO found VALUES (?, ?, ?)",
                ((file.path, file.size, file.mtime_ns) for file in files),
            )

    def to_read(self, retry: Sequence[str], never: str) -> tuple[int, Iterator[ToRead]]:
        """Files that are new, changed, or were skipped for one of the reasons ``retry``; counted.

        Files skipped as ``never`` are left alone. The iterator pages through a temporary table, so
        that rows may be committed meanwhile.
        """
        marks = ",".join("?" * len(retry))
        with self.guarded():
            self._connection.execute("DROP TABLE IF EXISTS temp.todo")
            self._connection.execute(
                "CREATE TEMP TABLE todo AS SELECT f.path, f.size, f.mtime_ns, "
                "CASE WHEN i.skipped IS NULL THEN i.hash END AS hash "
                "FROM found f LEFT JOIN images i ON i.path = f.path WHERE i.id IS NULL OR "
                f"((i.size != f.size OR i.mtime_ns != f.mtime_ns OR i.skipped IN ({marks})) "
                "AND i.skipped IS NOT ?) ORDER BY f.path",
                (*retry, never),
            )
            (total,) = self._connection.execute("SELECT count(*) FROM todo").fetchone()

        def pages() -> Iterator[ToRead]:
            for start in range(0, total, 1000):
                query = "SELECT * FROM todo WHERE rowid > ? ORDER BY rowid LIMIT 1000"
                for path, size, mtime_ns, digest in self._connection.execute(
                    query, (start,)
                ).fetchall():
                    yield ToRead(FoundFile(path, size, mtime_ns), digest)

        return total, pages()

    def missing(self, unlisted: Sequence[bytes]) -> list[ImageRow]:
        """Rows whose file is gone, except below folders that could not be listed."""
        rows = list(self._rows("path NOT IN (SELECT path FROM found) ORDER BY path"))
        if b"" in unlisted:
            return []
        prefixes = tuple(folder + b"/" for folder in unlisted)
        return [row for row in rows if not row.path.startswith(prefixes)] if prefixes else rows


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.OperationalError as error:
        raise GalleryError(f"cannot open {path}: {error}") from error
    return connection


def _chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
