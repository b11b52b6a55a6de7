"""What is to be embedded: a folder, a list of files, or a Parquet table; and its chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from lookalike.cluster.embed.listed import common_root, relative_paths
from lookalike.cluster.embed.tables import BYTES, content_column, paths_in, slices_of
from lookalike.cluster.job.descriptor import Chunk, TableSlice
from lookalike.cluster.job.filesystem import Files, first_line, is_uri, local_path, resolve
from lookalike.cluster.job.jobfile import JOB
from lookalike.errors import GalleryError
from lookalike.gallery.scan import scan
from lookalike.images import looks_like_image

__all__ = ["ImageSource", "chunks_of", "full_name", "open_source"]

HEAD = 1 << 16
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
        unreadable: told of each folder that could not be listed; None: such a folder is an error.

    Raises:
        GalleryError: it is none of these.
    """
    where = full_name(source)
    files, path = resolve(where)
    kind = files.kind(path)
    if kind is None:
        raise GalleryError(
            f"{where} does not exist; give a folder of images, a text file that lists image files, "
            f"or a Parquet table of them"
        )
    if kind == "folder":
        return _open_folder(where, files, path, unreadable or _refuse)
    with files.open(path) as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return _open_tables(where, files, [(where, path)])
    if b"\0" in head or looks_like_image(path.rpartition("/")[2]):
        raise GalleryError(
            f"{where} is neither a folder, nor a text file that lists image files, nor a Parquet "
            f"table; for a single image, give its folder"
        )
    return _open_list(where, lambda: _lines(files, path))


def chunks_of(source: ImageSource, size: int) -> Iterator[Chunk]:
    """Chunks of ``size`` images, but for the last; listed as they are asked for."""
    groups: Iterator[tuple[Any, ...]] = _pack(source, size)
    if source.kind == "files":
        groups = _groups(source.items(), size)
    for number, items in enumerate(groups):
        yield Chunk(number, 1 + number * size, source.kind, items)


def _groups(items: Iterator[str], size: int) -> Iterator[tuple[str, ...]]:
    while group := tuple(islice(items, size)):
        yield group


def _pack(source: ImageSource, size: int) -> Iterator[tuple[TableSlice, ...]]:
    """Slices of ``size`` rows in all."""
    group: list[TableSlice] = []
    room = size
    for file, row_group, start, count in source.items():
        while count:
            taken = min(count, room)
            group.append((file, row_group, start, taken))
            start, count, room = start + taken, count - taken, room - taken
            if not room:
                yield tuple(group)
                group, room = [], size
    if group:
        yield tuple(group)


def _refuse(folder: bytes, error: OSError) -> None:
    name = os.fsdecode(folder) or "the folder itself"
    raise GalleryError(
        f"cannot list {name}: {error.strerror or error}; make it readable, or take it out of what "
        f"is embedded"
    ) from error


def _open_folder(where: str, files: Files, path: str, unreadable: Unreadable) -> ImageSource:
    try:
        names = [entry.name for entry in files.entries(path)]
    except OSError as error:
        raise GalleryError(f"cannot list {where}: {first_line(error)}; make it readable") from error
    if JOB in names:
        raise GalleryError(f"{where} holds the parts of a job, no images; give the job's source")
    tables = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
    if tables:
        found = [(_below(where, name), f"{path}/{name}") for name in tables]
        return _open_tables(where, files, found)

    def walk() -> Iterator[str]:
        if is_uri(where):
            return _walk(files, path)
        return (os.fsdecode(file.path) for file in scan(os.fsencode(path), unreadable))

    return ImageSource(where, where, "files", walk)


def _below(where: str, name: str) -> str:
    """A file of a folder; what follows the path of a URI stays behind it."""
    path, mark, options = where.partition("?") if is_uri(where) else (where, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def _walk(files: Files, base: str) -> Iterator[str]:
    """As `scan` does, on a file system without links."""
    pending = [""]
    while pending:
        folder = pending.pop()
        inner = []
        for name, is_folder, _ in files.entries(f"{base}/{folder}".rstrip("/")):
            if name.startswith("."):
                continue
            path = f"{folder}/{name}" if folder else name
            if is_folder:
                inner.append(path)
            elif looks_like_image(name):
                yield path
        pending.extend(reversed(inner))


def _open_tables(where: str, system: Files, files: list[tuple[str, str]]) -> ImageSource:
    """``files``: address, and path on the file system, of each."""
    columns = {content_column(system, path, address) for address, path in files}
    if len(columns) > 1:
        raise GalleryError(
            f"only some of the tables in {where} have a column 'bytes'; embed them one by one"
        )
    if columns == {BYTES}:
        return ImageSource(where, "", "table", lambda: slices_of(system, files))
    return _open_list(files[0][0], lambda: paths_in(system, files), where)


def _open_list(
    file: str, entries: Callable[[], Iterator[str]], where: str | None = None
) -> ImageSource:
    root = common_root(entries(), file)
    return ImageSource(where or file, root, "files", lambda: relative_paths(entries(), file, root))


def _lines(files: Files, path: str) -> Iterator[str]:
    with files.open(path) as file:
        for number, line in enumerate(file):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            if name := text.rstrip(b"\r\n"):
                yield os.fsdecode(name)
