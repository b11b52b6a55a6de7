"""Parquet tables of images: a column of their content, or one of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types

from lookalike.cluster.embed.listed import Once
from lookalike.cluster.job.descriptor import TableSlice
from lookalike.cluster.job.filesystem import Files, first_line, resolve
from lookalike.errors import GalleryError

__all__ = ["BYTES", "PATH", "content_column", "paths_in", "rows_of", "slices_of"]

BYTES, PATH = "bytes", "path"
BUFFER = 1 << 16
ROWS_AT_ONCE = 16
"""Rows of content that are in memory at a time, besides those that are being decoded."""


@contextmanager
def _opened(system: Files, path: str, address: str) -> Iterator[pq.ParquetFile]:
    """Raises GalleryError if it is missing, damaged, or becomes unreadable in the block."""
    try:
        with system.open(path) as source:
            # Not buffered before it is asked for: a row group of images may have gigabytes.
            yield pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER)
    except (OSError, pa.ArrowException, IndexError) as error:
        raise GalleryError(
            f"cannot read the table {address} ({first_line(error)}); it must be there and whole on "
            f"every machine that embeds"
        ) from error


def content_column(system: Files, path: str, address: str) -> str:
    """BYTES or, without that column, PATH. Raises GalleryError if it has neither."""
    with _opened(system, path, address) as file:
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


def paths_in(system: Files, files: list[tuple[str, str]]) -> Iterator[str]:
    """The column of paths of all files (address, path). Raises GalleryError for a missing one."""
    for address, path in files:
        with _opened(system, path, address) as file:
            for batch in file.iter_batches(columns=[PATH]):
                for value in batch.column(0).to_pylist():
                    if not value:
                        raise GalleryError(f"a row of {address} has no path; take it out")
                    yield os.fsdecode(value)


def slices_of(system: Files, files: list[tuple[str, str]]) -> Iterator[TableSlice]:
    """The row groups of all files. Raises GalleryError if two rows have the same path."""
    with closing(Once()) as once:
        for address, path in files:
            with _opened(system, path, address) as file:
                for group in range(file.num_row_groups):
                    if PATH in file.schema_arrow.names:
                        _check_names(file, group, once, address)
                    if rows := file.metadata.row_group(group).num_rows:
                        yield address, group, 0, rows


def _check_names(file: pq.ParquetFile, group: int, once: Once, address: str) -> None:
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
    system, path = resolve(address)
    with _opened(system, path, address) as file:
        row = sum(file.metadata.row_group(i).num_rows for i in range(group)) + start
        columns = [name for name in (PATH, BYTES) if name in file.schema_arrow.names]
        at, end = 0, start + count
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
            first = min(max(start - at, 0), len(batch))
            here = batch.slice(first, max(end - at - first, 0))
            at += len(batch)
            for values in here.to_pylist():
                name = values.get(PATH) or f"{path.rpartition('/')[2]}#{row}"
                row += 1
                yield os.fsencode(name), values.get(BYTES) or b""
            if at >= end:
                return
    raise GalleryError(
        f"{address} has changed since the job was made: its row group {group} had {end} rows or "
        f"more, and has {at}; make a new job in an empty folder"
    )
