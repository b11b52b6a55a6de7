"""Which images one task embeds: a chunk, described by a few names, never by the images' bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lookalike.cluster.job.folder import Folder
from lookalike.errors import GalleryError

__all__ = ["CHUNKS", "Chunk", "ChunkList", "TableSlice", "write_chunks"]

CHUNKS = "chunks.jsonl"

TableSlice = tuple[str, int, int, int]
"""Rows of a Parquet file: its path or URI, the row group, the first row in that group, how many."""


@dataclass(frozen=True)
class Chunk:
    """A task of a job. Its n images get the ids first_id to first_id + n - 1, in this order.

    Attributes:
        number: of the chunk, from 0.
        kind: ``"files"``: items are paths relative to the job's root, with forward slashes, as
            Python gives names that need not be UTF-8 (surrogate escapes). ``"table"``: items are
            slices of Parquet files that hold the images' bytes.
    """

    number: int
    first_id: int
    kind: Literal["files", "table"]
    items: tuple[str, ...] | tuple[TableSlice, ...]

    @property
    def images(self) -> int:
        """How many images it names."""
        return sum(1 if isinstance(item, str) else item[3] for item in self.items)

    def to_json(self) -> str:
        """One line, ASCII."""
        return json.dumps([self.number, self.first_id, self.kind, self.items])

    @classmethod
    def from_json(cls, line: str | bytes) -> Chunk:
        """The reverse of `to_json`. Raises ValueError if it is none."""
        try:
            number, first_id, kind, items = json.loads(line)
            if kind == "files" and all(isinstance(item, str) for item in items):
                return cls(int(number), int(first_id), "files", tuple(items))
            if kind == "table":
                return cls(int(number), int(first_id), "table", tuple(map(_slice, items)))
        except TypeError as error:
            raise ValueError(f"no chunk: {error}") from error
        raise ValueError(f"no chunk: kind {kind!r}")


def _slice(item: Any) -> TableSlice:
    file, group, start, count = item
    return str(file), int(group), int(start), int(count)


class ChunkList:
    """Chunks of a job in order, read from its list as they are asked for: memory does not grow."""

    def __init__(self, folder: Folder, numbers: Sequence[int]) -> None:
        """``numbers``: of those chunks that this list has, ascending."""
        self._folder = folder
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Chunk]:
        """Raises GalleryError if the list is damaged."""
        wanted = iter(self._numbers)
        number = next(wanted, None)
        if number is None:
            return
        try:
            with self._folder.open(CHUNKS) as file:
                for at, line in enumerate(file):
                    if at != number:
                        continue
                    chunk = Chunk.from_json(line)
                    if chunk.number != at:
                        raise ValueError(f"line {at + 1} is of chunk {chunk.number}")
                    yield chunk
                    number = next(wanted, None)
                    if number is None:
                        return
            raise ValueError(f"it ends before chunk {number}")
        except (FileNotFoundError, ValueError) as error:
            raise GalleryError(
                f"{CHUNKS} in {self._folder.where} is missing or damaged ({error}); restore it "
                f"from a copy, or make the job anew in an empty folder"
            ) from error

    def __getitem__(self, at: int) -> Chunk:
        """Reads the list from its start; to have several, iterate. Raises IndexError."""
        number = self._numbers[at]
        return next(iter(ChunkList(self._folder, [number])))


def write_chunks(folder: Folder, chunks: Iterable[Chunk]) -> tuple[int, int]:
    """Write the list, one chunk a line; returns the number of chunks and of images."""
    count = images = 0
    with folder.writing(CHUNKS) as file:
        for chunk in chunks:
            file.write(chunk.to_json().encode() + b"\n")
            count, images = count + 1, images + chunk.images
    return count, images
