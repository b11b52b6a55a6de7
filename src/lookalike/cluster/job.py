"""What a DIR holds: job.json, and the list of chunks that are to be embedded.

DIR/job.json     written last: without it the folder is not a job
DIR/chunks.jsonl one task a line: names of images, never their bytes
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from lookalike.cluster.storage import Storage
from lookalike.encoder import ModelInfo
from lookalike.errors import GalleryError

__all__ = ["CHUNKS", "JOB", "Chunk", "ChunkList", "Job", "TableSlice", "check_vacant", "read_job"]

FORMAT = 2
JOB, CHUNKS = "job.json", "chunks.jsonl"

TableSlice = tuple[str, int, int, int]
"""Rows of a Parquet file: its path or URI, the row group, the first row in that group, how many."""


@dataclass(frozen=True)
class Job:
    """What a DIR holds.

    Attributes:
        model: what embeds.
        root: absolute folder (or URI of one) that paths are relative to; "" if images are rows of
            tables.
        chunk_images: images per chunk; chunk i has the ids from 1 + i * chunk_images on.
        chunks, images: how many were listed when the job was made, skipped ones included. Updates
            add parts beyond them.
        source: what was listed, as an absolute path or URI.
        earlier: fingerprint in parts of format 1, which an earlier lookalike wrote; "" if none did.
    """

    model: ModelInfo
    root: str
    chunk_images: int = 512
    chunks: int = 0
    images: int = 0
    source: str = ""
    earlier: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 1 <= self.chunk_images <= 1 << 20:
            raise ValueError(f"chunk_images is {self.chunk_images}; it must be from 1 to 1,048,576")

    @property
    def last_id(self) -> int:
        """The largest id that its chunks may give; updates go on from the next one."""
        return self.chunks * self.chunk_images

    @property
    def fingerprint(self) -> str:
        """Of what its rows are made of and with; each part carries it."""
        return _digest([self.model.sha256, self.root, self.source, self.chunk_images, self.images])

    def write(self, storage: Storage) -> None:
        """From here on the folder is a job."""
        body = {**asdict(self), "model": self.model.as_dict()}
        text = json.dumps({"format": FORMAT, "crc32": _crc({"job": body}), "job": body}, indent=2)
        storage.write(JOB, text.encode() + b"\n")


def read_job(storage: Storage) -> Job:
    """Raises GalleryError: there is none, it is of another format, or damaged."""
    try:
        content = storage.read(JOB)
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "a job that is not complete" if CHUNKS in storage.names() else "no job"
        raise GalleryError(
            f"{storage.where} holds {what} ({JOB} is missing); make one with: lookalike cluster "
            f"embed SOURCE --out DIR"
        ) from error
    try:
        document = json.loads(content)
        version, crc = document.pop("format"), document.pop("crc32")
        if version not in (1, FORMAT):
            raise GalleryError(
                f"{JOB} in {storage.where} has format {version}, this lookalike reads formats 1 "
                f"and {FORMAT}; use the lookalike that made it"
            )
        if crc != _crc(document):
            raise ValueError("it does not match its checksum")
        values = document["job"]
        if version == 1:
            values = _from_format_1(values)
        if values.keys() != {field.name for field in fields(Job)}:
            raise ValueError(f"it has the entries {sorted(values)}")
        return Job(**{**values, "model": ModelInfo.from_dict(values["model"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryError(
            f"{JOB} in {storage.where} is damaged: {error}; restore it from a copy, or embed into "
            f"an empty folder"
        ) from error


def _from_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """Its parts held codes and keys as well, of hash functions that all shards had in common."""
    hashed = [values.pop(name) for name in ("settings", "key_bits", "hasher")]
    settings, key_bits, hasher = hashed
    made_of = [values["model"]["sha256"], {**settings, "search": None}, key_bits, hasher]
    return {**values, "earlier": _digest(made_of)}


def _digest(values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _crc(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


def check_vacant(storage: Storage) -> None:
    """Raises GalleryError unless the folder is empty but for a job that was never finished."""
    names = storage.names()
    if JOB in names:
        raise GalleryError(f"{storage.where} holds a job already; choose an empty folder")
    strange = [name for name in names if name != CHUNKS]
    if strange:
        raise GalleryError(
            f"{storage.where} holds other files ({strange[0]}); choose an empty folder for the "
            f"parts, or, if these are parts whose {JOB} was lost, restore it from a copy"
        )


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
        """The reverse of `to_json`. Raises ValueError."""
        try:
            number, first_id, kind, items = json.loads(line)
            if kind == "files" and all(isinstance(item, str) for item in items):
                return cls(int(number), int(first_id), "files", tuple(items))
            if kind == "table":
                slices = ((str(file), int(group), int(at), int(n)) for file, group, at, n in items)
                return cls(int(number), int(first_id), "table", tuple(slices))
        except TypeError as error:
            raise ValueError(f"not a chunk: {error}") from error
        raise ValueError(f"not a chunk: kind {kind!r}")


class ChunkList:
    """Chunks of a job in order, read from its list as they are asked for: memory does not grow."""

    def __init__(self, storage: Storage, numbers: Sequence[int]) -> None:
        """``numbers``: of those chunks that this list has, ascending."""
        self._storage = storage
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
            with self._storage.open(CHUNKS) as file:
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
                f"{CHUNKS} in {self._storage.where} is missing or damaged ({error}); restore it "
                f"from a copy, or embed into an empty folder"
            ) from error

    @classmethod
    def write(cls, storage: Storage, chunks: Iterable[Chunk]) -> tuple[int, int]:
        """Write the list; returns the number of chunks and of images."""
        counts = [0, 0]

        def lines() -> Iterator[bytes]:
            for chunk in chunks:
                counts[0], counts[1] = counts[0] + 1, counts[1] + chunk.images
                yield chunk.to_json().encode() + b"\n"

        storage.write_lines(CHUNKS, lines())
        return counts[0], counts[1]
