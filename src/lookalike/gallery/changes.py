"""What differs between a gallery's table and its folder, found by joining the two in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lookalike.gallery.places import is_within
from lookalike.gallery.report import Absence
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.scan import FoundFile, ScanNotes
from lookalike.gallery.store import REMOVED, Store

PAGE = 1000
ADOPTED_AT_ONCE = 20_000
MOST_FROM = 10
"""Files that must be gone at once, and be more than half of those known, to look like a disk that
is not mounted."""
RENUMBERED_FROM = 100
"""Files whose inode number alone has changed, and which are more than half of all: then the mount
does not keep the numbers of its files."""


@dataclass(frozen=True, slots=True)
class ToRead:
    """A file that an update has to look into; the hash of its row, if it is indexed already."""

    file: FoundFile
    indexed_hash: bytes | None


def note_files(store: Store, files: Iterable[FoundFile]) -> None:
    """Keep what the folder holds now in a temporary table, for the queries below."""
    with store.guarded():
        store.connection.execute("DROP TABLE IF EXISTS temp.found")
        store.connection.execute(
            "CREATE TEMP TABLE found (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
            "inode INTEGER, ctime_ns INTEGER) WITHOUT ROWID"
        )
        store.connection.executemany(
            "INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?)",
            ((file.path, file.size, file.mtime_ns, file.inode, file.ctime_ns) for file in files),
        )


def to_read(store: Store, retry: Sequence[str], never: str) -> tuple[int, Iterator[ToRead]]:
    """Files that are new, changed, or were skipped for one of the reasons ``retry``; counted.

    Changed are those of another size, time, inode or change time; the last two count where they
    are known. Files skipped as ``never`` are left alone. The iterator pages through a temporary
    table, so that rows may be committed meanwhile.
    """
    marks = ",".join("?" * len(retry))
    differs = "i.size != f.size OR i.mtime_ns != f.mtime_ns OR i.ctime_ns != f.ctime_ns"
    if not _are_renumbered(store):
        differs += " OR i.inode != f.inode"
    with store.guarded():
        store.connection.execute("DROP TABLE IF EXISTS temp.todo")
        store.connection.execute(
            "CREATE TEMP TABLE todo AS SELECT f.path, f.size, f.mtime_ns, f.inode, f.ctime_ns, "
            "CASE WHEN i.skipped IS NULL THEN i.hash END AS hash "
            "FROM found f LEFT JOIN images i ON i.path = f.path WHERE i.id IS NULL OR "
            f"(({differs} OR i.skipped IN ({marks})) AND i.skipped IS NOT ?) ORDER BY f.path",
            (*retry, never),
        )
        (total,) = store.connection.execute("SELECT count(*) FROM todo").fetchone()

    def pages() -> Iterator[ToRead]:
        query = "SELECT * FROM todo WHERE rowid > ? ORDER BY rowid LIMIT ?"
        for start in range(0, total, PAGE):
            with store.guarded():
                page = store.connection.execute(query, (start, PAGE)).fetchall()
            for *found, digest in page:
                yield ToRead(FoundFile(*found), digest)

    return total, pages()


def _are_renumbered(store: Store) -> bool:
    """Whether the mount has given most files other inode numbers since they were read."""
    with store.guarded():
        same, others = store.connection.execute(
            "SELECT count(*), coalesce(sum(i.inode != f.inode), 0) FROM found f "
            "JOIN images i ON i.path = f.path WHERE i.size = f.size AND i.mtime_ns = f.mtime_ns "
            "AND i.ctime_ns = f.ctime_ns"
        ).fetchone()
    return bool(others >= RENUMBERED_FROM and 2 * others > same)


def adopt_states(store: Store) -> None:
    """Give rows that lack inode and change time, as those made of parts do, those of their file, if
    its size and time are theirs."""
    condition = (
        "id > ? AND ctime_ns IS NULL AND EXISTS (SELECT 1 FROM found f WHERE f.path = images.path "
        "AND f.size = images.size AND f.mtime_ns = images.mtime_ns AND f.ctime_ns IS NOT NULL) "
        "ORDER BY id LIMIT ?"
    )
    last = 0
    while rows := list(store.rows(condition, (last, ADOPTED_AT_ONCE))):
        last = rows[-1].id
        with store.transaction():
            query = "SELECT inode, ctime_ns FROM found WHERE path = ?"
            states = [store.connection.execute(query, (row.path,)).fetchone() for row in rows]
            store.put(
                replace(row, inode=inode, ctime_ns=ctime_ns)
                for row, (inode, ctime_ns) in zip(rows, states, strict=True)
            )


def missing(store: Store, unlisted: Sequence[bytes]) -> list[ImageRow]:
    """Rows whose file is gone, but for the paths ``unlisted``, which could not be looked at, and
    all that is below them."""
    if b"" in unlisted:
        return []
    gone = store.rows("path NOT IN (SELECT path FROM found) ORDER BY path")
    return [row for row in gone if not any(is_within(row.path, path) for path in unlisted)]


def devices_of(store: Store) -> dict[bytes, int]:
    """`ScanNotes.devices` of the last update."""
    stored = store.meta("devices") or {}
    return {bytes.fromhex(folder): device for folder, device in stored.items()}


def known_below(store: Store, folder: bytes) -> bool:
    """Whether the table has a row of a file in this folder."""
    return _any_below(store, "images", folder)


def found_below(store: Store, folder: bytes) -> bool:
    """Whether a file that the table knows is in this folder now."""
    return _any_below(store, "images JOIN found USING (path)", folder)


def _any_below(store: Store, table: str, folder: bytes) -> bool:
    condition, values = "1", tuple[bytes, ...]()
    if folder:  # "0" follows "/"
        condition, values = "path > ? AND path < ?", (folder + b"/", folder + b"0")
    query = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"
    with store.guarded():
        return store.connection.execute(query, values).fetchone() is not None


def absences(
    gone: Iterable[ImageRow],
    notes: ScanNotes,
    devices: Mapping[bytes, int],
    is_there: Callable[[bytes], bool],
) -> tuple[list[Absence], list[ImageRow]]:
    """Files that seem to be on a disk that is not mounted, so that their rows are to be kept.

    That is so if the folder is empty, or if a folder was on a device of its own, is now on another
    one or gone, and holds none of its files.

    Args:
        gone: rows whose file is missing.
        devices: as in ``notes``, at the last scan.
        is_there: whether a known file is in a folder now.

    Returns: what is absent, and the rows of ``gone`` that are not.
    """
    rest, absent = list(gone), list[Absence]()
    lost = [folder for folder, device in devices.items() if notes.devices.get(folder) != device]
    for folder in [b""] if notes.is_empty else sorted(lost, key=len, reverse=True):
        below = [row for row in rest if is_within(row.path, folder)]
        files = sum(map(_is_file_of_user, below))
        if files and not is_there(folder):
            why = "the folder is empty" if notes.is_empty else "its disk is gone, or is another one"
            absent.append(Absence(folder, files, why))
            rest = [row for row in rest if not is_within(row.path, folder)]
    return absent, rest


def most_are_gone(gone: Iterable[ImageRow], known: int) -> Absence | None:
    """Most of the ``known`` files at once, and at least MOST_FROM."""
    files = sum(map(_is_file_of_user, gone))
    if files < MOST_FROM or 2 * files <= known:
        return None
    return Absence(b"", files, f"of {known:,} known files, more than half are gone at once")


def _is_file_of_user(row: ImageRow) -> bool:
    """Whether it is a file that an update may drop and a user would miss."""
    return row.skipped != REMOVED
