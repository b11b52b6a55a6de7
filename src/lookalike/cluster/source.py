"""What is to be embedded: a folder, a list of files, or a Parquet table; and its chunks."""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types

from lookalike.cluster.job import JOB, Chunk, TableSlice
from lookalike.cluster.storage import first_line, is_uri, local_path, resolve
from lookalike.errors import GalleryError
from lookalike.gallery.scan import scan
from lookalike.images import looks_like_image

__all__ = ["ImageSource", "chunks_of", "full_name", "open_source", "rows_of"]

BYTES, PATH = "bytes", "path"
HEAD = 1 << 16
ROWS_AT_ONCE = 16
"""Rows of content that are in memory at a time, besides those that are being decoded."""
Unreadable = Callable[[bytes, OSError], None]


@dataclass(frozen=True)
class ImageSource:
    """A source that has been looked into.

    Attributes:
        name: its absolute path or URI.
        root: folder or URI that the paths of files are relative to; "" for tables of bytes.
        kind: of its chunks.
        items: begins a listing: paths relative to the root, or slices that are whole row groups.
    """

    name: str
    root: str
    kind: Literal["files", "table"]
    items: Callable[[], Iterator[Any]]


def full_name(source: str) -> str:
    """The same for every way to write a path, from wherever."""
    return source.rstrip("/") if is_uri(source) else local_path(source)


def open_source(source: str, unreadable: Unreadable | None = None) -> ImageSource:
    """Find out what ``source`` is.

    A folder is walked by the rules of a gallery (no hidden names, extensions of images); one with
    ``*.parquet`` files in it is a table. A list is a text file with a path per line, relative to
    the list's own folder or absolute. A table's column ``bytes`` holds images' content, and
    ``path``, if there is one, their names; without ``bytes``, ``path`` is a list of files.

    Args:
        unreadable: called for each folder that could not be listed; None: such a folder is an
            error.

    Raises:
        GalleryError: it is none of these.
    """
    where = full_name(source)
    system, path = resolve(where)
    if not system.exists(path):
        raise GalleryError(
            f"{where} does not exist; give a folder of images, a text file that lists image files, "
            f"or a Parquet table of them"
        )
    if system.isdir(path):
        return _open_folder(where, system, path, unreadable or _refuse)
    with system.open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return _open_tables(where, [where])
    if b"\0" in head or looks_like_image(path.rpartition("/")[2]):
        raise GalleryError(
            f"{where} is neither a folder, nor a text file that lists image files, nor a Parquet "
            f"table; for a single image, give its folder"
        )
    return _open_list(where, lambda: _lines(system, path))


def chunks_of(source: ImageSource, size: int) -> Iterator[Chunk]:
    """Chunks of ``size`` images, but for the last; listed as they are asked for."""
    groups = _groups if source.kind == "files" else _slices
    for number, items in enumerate(groups(source.items(), size)):
        yield Chunk(number, 1 + number * size, source.kind, items)


def _groups(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while group := tuple(islice(items, size)):
        yield group


def _slices(items: Iterator[TableSlice], size: int) -> Iterator[tuple[Any, ...]]:
    """Slices of ``size`` rows in all."""
    group: list[TableSlice] = []
    room = size
    for file, row_group, start, count in items:
        while count:
            taken = min(count, room)
            group.append((file, row_group, start, taken))
            start, count, room = start + taken, count - taken, room - taken
            if not room:
                yield tuple(group)
                group, room = [], size
    if group:
        yield tuple(group)


# ---- folders ---------------------------------------------------------------------------------


def _refuse(folder: bytes, error: OSError) -> None:
    name = os.fsdecode(folder) or "the folder itself"
    raise GalleryError(
        f"cannot list {name}: {error.strerror or error}; make it readable, or take it out of what "
        f"is embedded"
    ) from error


def _open_folder(where: str, system: Any, path: str, unreadable: Unreadable) -> ImageSource:
    try:
        names = sorted(posixpath.basename(name) for name in system.ls(path, detail=False))
    except OSError as error:
        raise GalleryError(f"cannot list {where}: {first_line(error)}; make it readable") from error
    if JOB in names:
        raise GalleryError(f"{where} holds the parts of a job, no images; give the job's source")
    tables = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
    if tables:
        return _open_tables(where, [f"{where.rstrip('/')}/{name}" for name in tables])

    def walk() -> Iterator[str]:
        if is_uri(where):
            return _walk(system, path)
        return (os.fsdecode(file.path) for file in scan(os.fsencode(path), unreadable))

    return ImageSource(where, where, "files", walk)


def _walk(system: Any, base: str) -> Iterator[str]:
    """As `scan` does, on a file system without links."""
    pending = [""]
    while pending:
        folder = pending.pop()
        inner = []
        entries = system.ls(f"{base}/{folder}".rstrip("/"), detail=True)
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            name = posixpath.basename(entry["name"].rstrip("/"))
            if not name or name.startswith("."):
                continue
            path = f"{folder}/{name}" if folder else name
            if entry["type"] == "directory":
                inner.append(path)
            elif looks_like_image(name):
                yield path
        pending.extend(reversed(inner))


# ---- lists of files --------------------------------------------------------------------------


class _Once:
    """Which keys came before. They are kept in a file, so that memory does not grow."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)  # a temporary file
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE keys (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def first(self, key: bytes) -> bool:
        """Whether the key comes for the first time."""
        added = self._connection.execute("INSERT OR IGNORE INTO keys VALUES (?)", (key,))
        return added.rowcount == 1

    def close(self) -> None:
        self._connection.close()


def _lines(system: Any, path: str) -> Iterator[str]:
    with system.open(path, "rb") as file:
        for number, line in enumerate(file):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if name := text.rstrip(b"\r\n"):
                yield os.fsdecode(name)


def _open_list(
    file: str, entries: Callable[[], Iterator[str]], where: str | None = None
) -> ImageSource:
    """Paths relative to the folder of ``file`` if all are below it; else to that of them all."""
    home, path = _place(file, "", "/")
    folder = posixpath.dirname(path)
    system = above = None
    for entry in entries():
        other, path = _place(entry, home, folder)
        if system not in (None, other):
            names = " and ".join(name or "this machine" for name in (system or "", other))
            raise GalleryError(
                f"{file} lists files of several file systems ({names}); embed them one by one"
            )
        system, parent = other, posixpath.dirname(path)
        above = parent if above is None else posixpath.commonpath([above, parent])
    if above is None or system is None:
        raise GalleryError(f"{file} lists no files")
    is_below = system == home and posixpath.commonpath([folder, above]) == folder
    root = folder if is_below else above

    def relative() -> Iterator[str]:
        start = root.rstrip("/") + "/"
        with closing(_Once()) as once:
            for entry in entries():
                path = _place(entry, home, folder)[1].removeprefix(start)
                if once.first(os.fsencode(path)):
                    yield path

    return ImageSource(where or file, system + root, "files", relative)


def _place(entry: str, system: str, folder: str) -> tuple[str, str]:
    """Which file system a file is on ("" is this machine's), and its absolute path there."""
    if is_uri(entry):
        scheme, _, rest = entry.partition("://")
        host, _, path = rest.partition("/")
        return f"{scheme}://{host}", posixpath.normpath(f"/{path}")
    if entry.startswith("file://"):
        return "", local_path(entry)
    return system, posixpath.normpath(posixpath.join(folder, entry))


# ---- Parquet tables --------------------------------------------------------------------------


@contextmanager
def _opened(address: str) -> Iterator[pq.ParquetFile]:
    """Raises GalleryError if it is missing, damaged, or becomes unreadable in the block."""
    system, path = resolve(address)
    try:
        with system.open(path, "rb") as source:
            # Not buffered before it is asked for: a row group of images may have gigabytes.
            yield pq.ParquetFile(source, pre_buffer=False, buffer_size=HEAD)
    except (OSError, pa.ArrowException, IndexError) as error:
        raise GalleryError(
            f"cannot read the table {address} ({first_line(error)}); it must be there and whole on "
            f"every machine that embeds"
        ) from error


def _open_tables(where: str, files: list[str]) -> ImageSource:
    columns = {_content_column(address) for address in files}
    if len(columns) > 1:
        raise GalleryError(
            f"only some of the tables in {where} have a column 'bytes'; embed them one by one"
        )
    if columns == {BYTES}:
        return ImageSource(where, "", "table", lambda: _row_groups(files))
    return _open_list(files[0], lambda: _paths_in(files), where)


def _content_column(address: str) -> str:
    """BYTES or, without that column, PATH. Raises GalleryError if it has neither."""
    with _opened(address) as file:
        schema = file.schema_arrow
    types = pyarrow.types
    allowed = {
        BYTES: (types.is_binary, types.is_large_binary),
        PATH: (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary),
    }
    for name, kinds in allowed.items():
        if name in schema.names:
            found = schema.field(name).type
            if not any(is_kind(found) for is_kind in kinds):
                raise GalleryError(
                    f"column '{name}' of {address} is {found}; it must be "
                    f"{'binary' if name == BYTES else 'string or binary'}"
                )
            return name
    raise GalleryError(
        f"{address} has the columns {', '.join(schema.names)}; a table of images has a column "
        f"'{BYTES}' or '{PATH}'"
    )


def _paths_in(files: list[str]) -> Iterator[str]:
    for address in files:
        with _opened(address) as file:
            for batch in file.iter_batches(columns=[PATH]):
                for value in batch.column(0).to_pylist():
                    if not value:
                        raise GalleryError(f"a row of {address} has no path; take it out")
                    yield os.fsdecode(value)


def _row_groups(files: list[str]) -> Iterator[TableSlice]:
    """Of all files. Raises GalleryError if two rows have the same path."""
    with closing(_Once()) as once:
        for address in files:
            with _opened(address) as file:
                for group in range(file.num_row_groups):
                    if PATH in file.schema_arrow.names:
                        _check_names(file, group, once, address)
                    if rows := file.metadata.row_group(group).num_rows:
                        yield address, group, 0, rows


def _check_names(file: pq.ParquetFile, group: int, once: _Once, address: str) -> None:
    for batch in file.iter_batches(row_groups=[group], columns=[PATH]):
        for value in batch.column(0).to_pylist():
            if value and not once.first(os.fsencode(value)):
                raise GalleryError(
                    f"two rows of {address} have the path {value!r}; an image's path is its name, "
                    f"so make them differ or leave the column out"
                )


def rows_of(wanted: TableSlice) -> Iterator[tuple[bytes, bytes]]:
    """Path and content of each row of a slice; a row without a path is named FILE#ROW.

    Raises:
        GalleryError: the table is missing, damaged, or has fewer rows than when it was listed.
    """
    address, group, start, count = wanted
    with _opened(address) as file:
        row = sum(file.metadata.row_group(i).num_rows for i in range(group)) + start
        columns = [name for name in (PATH, BYTES) if name in file.schema_arrow.names]
        at, end = 0, start + count
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
            first = min(max(start - at, 0), len(batch))
            here = batch.slice(first, max(end - at - first, 0))
            at += len(batch)
            for values in here.to_pylist():
                name = values.get(PATH) or f"{address.rpartition('/')[2]}#{row}"
                row += 1
                yield os.fsencode(name), values.get(BYTES) or b""
            if at >= end:
                return
    raise GalleryError(
        f"{address} has changed since the job was made: its row group {group} had {end} rows or "
        f"more, and has {at}; embed it into an empty folder"
    )
