"""What is to be embedded: a folder, a list of files, or a Parquet table."""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types

from lookalike.cluster.job import JOB, Item
from lookalike.cluster.storage import is_uri, local_path, resolve
from lookalike.errors import GalleryError, first_line
from lookalike.gallery.rows import is_path
from lookalike.gallery.scan import scan
from lookalike.images import looks_like_image

BYTES, PATH = "bytes", "path"
HEAD = 1 << 16
ROWS_AT_ONCE = 16
"""Rows of content that are in memory at a time, besides those that are being decoded."""


@dataclass(frozen=True)
class ImageSource:
    """A source that has been looked into.

    Attributes:
        name: its absolute path or URI.
        root: folder or URI that the paths of files are relative to; "" for tables of bytes.
        items: begins a listing.
    """

    name: str
    root: str
    items: Callable[[], Iterator[Item]]


def full_name(source: str) -> str:
    """The same for every way to write a path, from wherever."""
    return source.rstrip("/") if is_uri(source) else local_path(source)


def open_source(source: str) -> ImageSource:
    """Find out what ``source`` is.

    A folder is walked by the rules of a gallery (no hidden names, extensions of images); one with
    ``*.parquet`` files in it is a table. A list is a text file with a path per line, relative to
    the list's own folder or absolute. A table's column ``bytes`` holds images' content, and
    ``path``, if there is one, their names; without ``bytes``, ``path`` is a list of files.

    Raises:
        GalleryError: it is not one of these, or a folder in it cannot be listed.
    """
    where = full_name(source)
    system, path = resolve(where)
    if not system.exists(path):
        raise GalleryError(
            f"{where} does not exist; give a folder of images, a text file that lists image files, "
            f"or a Parquet table of them"
        )
    if system.isdir(path):
        return _open_folder(where, system, path)
    with system.open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return _open_tables(where, [where])
    if b"\0" in head or looks_like_image(path.rpartition("/")[2]):
        raise GalleryError(
            f"{where} is neither a folder, nor a text file that lists image files, nor a Parquet "
            f"table; for a single image, give its folder"
        )
    return _open_list(where, where, lambda: _lines(system, path))


# ---- folders -------------------------------------------------------------------------------------


def _unreadable(folder: bytes, error: OSError) -> NoReturn:
    name = os.fsdecode(folder) or "the folder itself"
    raise GalleryError(
        f"cannot list {name}: {error.strerror or error}; make it readable, or take it out of what "
        f"is embedded"
    ) from error


def _open_folder(where: str, system: Any, path: str) -> ImageSource:
    try:
        names = sorted(posixpath.basename(name) for name in system.ls(path, detail=False))
    except OSError as error:
        raise GalleryError(f"cannot list {where}: {first_line(error)}; make it readable") from error
    if JOB in names:
        raise GalleryError(f"{where} holds the parts of a job, no images; give the job's source")
    tables = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
    if tables:
        return _open_tables(where, [f"{where.rstrip('/')}/{name}" for name in tables])

    def walk() -> Iterator[Item]:
        if is_uri(where):
            return ((os.fsencode(name), -1) for name in _walk(system, path, ""))
        return ((file.path, -1) for file in scan(os.fsencode(path), _unreadable))

    return ImageSource(where, where, walk)


def _walk(system: Any, base: str, folder: str) -> Iterator[str]:
    """As `scan` does, on a file system without links."""
    entries = {
        posixpath.basename(entry["name"].rstrip("/")): entry["type"] == "directory"
        for entry in system.ls(f"{base}/{folder}".rstrip("/"), detail=True)
    }
    visible = sorted(name for name in entries if name and not name.startswith("."))
    for name in visible:
        if looks_like_image(name) and not entries[name]:
            yield posixpath.join(folder, name)
    for name in visible:
        if entries[name]:
            yield from _walk(system, base, posixpath.join(folder, name))


# ---- lists of files ------------------------------------------------------------------------------


@contextmanager
def _first_times() -> Iterator[Callable[[bytes], bool]]:
    """Whether a key comes for the first time; keys are in a temporary file, not in memory."""
    with closing(sqlite3.connect("", isolation_level=None)) as table:
        table.execute("PRAGMA journal_mode = OFF")
        table.execute("CREATE TABLE keys (key BLOB PRIMARY KEY) WITHOUT ROWID")
        table.execute("BEGIN")
        insert = "INSERT OR IGNORE INTO keys VALUES (?)"
        yield lambda key: table.execute(insert, (key,)).rowcount == 1


def _lines(system: Any, path: str) -> Iterator[str]:
    with system.open(path, "rb") as file:
        for number, line in enumerate(file):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if name := text.rstrip(b"\r\n"):
                yield os.fsdecode(name)


def _open_list(where: str, file: str, entries: Callable[[], Iterator[str]]) -> ImageSource:
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

    def relative() -> Iterator[Item]:
        start = root.rstrip("/") + "/"
        with _first_times() as is_first:
            for entry in entries():
                name = os.fsencode(_place(entry, home, folder)[1].removeprefix(start))
                if is_first(name):
                    yield name, -1

    return ImageSource(where, system + root, relative)


def _place(entry: str, system: str, folder: str) -> tuple[str, str]:
    """Which file system a file is on ("" is this machine's), and its absolute path there."""
    if is_uri(entry):
        scheme, _, rest = entry.partition("://")
        host, _, path = rest.partition("/")
        return f"{scheme}://{host}", posixpath.normpath(f"/{path}")
    if entry.startswith("file://"):
        return "", local_path(entry)
    return system, posixpath.normpath(posixpath.join(folder, entry))


# ---- Parquet tables ------------------------------------------------------------------------------


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
        return ImageSource(where, "", lambda: _all_rows(files))
    return _open_list(where, files[0], lambda: _paths_in(files))


def _content_column(address: str) -> str:
    """BYTES or, without that column, PATH. Raises GalleryError if it has neither."""
    with _opened(address) as file:
        schema = file.schema_arrow
    name = next((name for name in (BYTES, PATH) if name in schema.names), None)
    if name is None:
        raise GalleryError(
            f"{address} has the columns {', '.join(schema.names)}; a table of images has a column "
            f"'{BYTES}' or '{PATH}'"
        )
    kind, types = schema.field(name).type, pyarrow.types
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if not (types.is_binary(kind) or types.is_large_binary(kind) or (name == PATH and is_text)):
        wanted = "binary" if name == BYTES else "string or binary"
        raise GalleryError(f"column '{name}' of {address} is {kind}; it must be {wanted}")
    return name


def _values(address: str, column: str) -> Iterator[Any]:
    """None for each row of a table without that column."""
    with _opened(address) as file:
        if column in file.schema_arrow.names:
            for batch in file.iter_batches(columns=[column]):
                yield from batch.column(0).to_pylist()
        else:
            yield from (None for _ in range(file.metadata.num_rows))


def _paths_in(files: list[str]) -> Iterator[str]:
    for address in files:
        for value in _values(address, PATH):
            if not value:
                raise GalleryError(f"a row of {address} has no path; take it out")
            yield os.fsdecode(value)


def _all_rows(files: list[str]) -> Iterator[Item]:
    """Raises GalleryError if two rows have the same path, or one a path that cannot be."""
    with _first_times() as is_first:
        for address in files:
            for row, value in enumerate(_values(address, PATH)):
                name = _row_name(address, row, value)
                if value and not is_first(name):
                    raise GalleryError(
                        f"two rows of {address} have the path {value!r}; an image's path is its "
                        f"name, so make them differ or leave the column out"
                    )
                yield os.fsencode(address), row


def _row_name(address: str, row: int, value: str | bytes | None) -> bytes:
    name = os.fsencode(value or f"{address.rpartition('/')[2]}#{row}")
    if not is_path(name):
        raise GalleryError(
            f"row {row} of {address} has the path {value!r:.80}; an image's path is its name, "
            f"relative and without '//', '.' and '..', so change it or leave the column out"
        )
    return name


def rows_of(address: str, start: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Path and content of rows of a table; a row without a path is named FILE#ROW.

    Raises:
        GalleryError: the table is missing, damaged, or has fewer rows than when it was listed.
    """
    with _opened(address) as file:
        columns = [name for name in (PATH, BYTES) if name in file.schema_arrow.names]
        at, end = 0, start + count
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at + rows <= start:
                at += rows
                continue
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                first = min(max(start - at, 0), len(batch))
                here = batch.slice(first, max(end - at - first, 0)).to_pylist()
                for row, values in enumerate(here, at + first):
                    yield _row_name(address, row, values.get(PATH)), values.get(BYTES) or b""
                at += len(batch)
                if at >= end:
                    return
    raise GalleryError(
        f"{address} has changed since the job was made: it had {end} rows or more, and has {at}; "
        f"embed it into an empty folder"
    )
