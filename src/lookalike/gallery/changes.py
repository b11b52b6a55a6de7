"""What differs between a gallery's table and its folder, found by joining the two in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lookalike.gallery.scan import FoundFile
from lookalike.gallery.store import ImageRow, Store

__all__ = ["ToRead", "missing", "note_files", "to_read"]

PAGE = 1000


@dataclass(frozen=True, slots=True)
class ToRead:
    """A file that an update has to look into; the hash of its row, if it is indexed already."""

    file: FoundFile
    indexed_hash: bytes | None


def note_files(store: Store, files: Iterable[FoundFile]) -> None:
    """Keep what the folder holds now in a temporary table, for the questions below."""
    with store.guarded():
        store.connection.execute("DROP TABLE IF EXISTS temp.found")
        store.connection.execute(
            "CREATE TEMP TABLE found (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER) "
            "WITHOUT ROWID"
        )
        store.connection.executemany(
            "INSERT OR REPLACE INTO found VALUES (?, ?, ?)",
            ((file.path, file.size, file.mtime_ns) for file in files),
        )


def to_read(store: Store, retry: Sequence[str], never: str) -> tuple[int, Iterator[ToRead]]:
    """Files that are new, changed, or were skipped for one of the reasons ``retry``; counted.

    Files skipped as ``never`` are left alone. The iterator pages through a temporary table, so that
    rows may be committed meanwhile.
    """
    marks = ",".join("?" * len(retry))
    with store.guarded():
        store.connection.execute("DROP TABLE IF EXISTS temp.todo")
        store.connection.execute(
            "CREATE TEMP TABLE todo AS SELECT f.path, f.size, f.mtime_ns, "
            "CASE WHEN i.skipped IS NULL THEN i.hash END AS hash "
            "FROM found f LEFT JOIN images i ON i.path = f.path WHERE i.id IS NULL OR "
            f"((i.size != f.size OR i.mtime_ns != f.mtime_ns OR i.skipped IN ({marks})) "
            "AND i.skipped IS NOT ?) ORDER BY f.path",
            (*retry, never),
        )
        (total,) = store.connection.execute("SELECT count(*) FROM todo").fetchone()

    def pages() -> Iterator[ToRead]:
        query = "SELECT * FROM todo WHERE rowid > ? ORDER BY rowid LIMIT ?"
        for start in range(0, total, PAGE):
            with store.guarded():
                page = store.connection.execute(query, (start, PAGE)).fetchall()
            for path, size, mtime_ns, digest in page:
                yield ToRead(FoundFile(path, size, mtime_ns), digest)

    return total, pages()


def missing(store: Store, unlisted: Sequence[bytes]) -> list[ImageRow]:
    """Rows whose file is gone, except below the folders ``unlisted``, which could not be listed."""
    if b"" in unlisted:
        return []
    prefixes = tuple(folder + b"/" for folder in unlisted)
    gone = store.rows("path NOT IN (SELECT path FROM found) ORDER BY path")
    return [row for row in gone if not row.path.startswith(prefixes)]
