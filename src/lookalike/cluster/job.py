"""What a DIR is made of: job.json, and images.parquet, the list of what is to be embedded.

DIR/job.json        written last: without it the folder is not a job
DIR/images.parquet  a row per image, in order: its name, never its bytes
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lookalike.cluster.storage import Storage
from lookalike.encoder import ModelInfo
from lookalike.errors import GalleryError, first_line

FORMAT = 2
JOB, IMAGES = "job.json", "images.parquet"
LIST = pa.schema([pa.field("name", pa.binary(), False), pa.field("row", pa.int64(), False)])
GROUP_ROWS = 1 << 13

Item = tuple[bytes, int]
"""An image: its path relative to the job's root, with forward slashes, as the file system has it,
and -1; or, in a job without a root, the address of a Parquet file and a row of it."""


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
    """

    model: ModelInfo
    root: str
    chunk_images: int = 512
    chunks: int = 0
    images: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 1 <= self.chunk_images <= 1 << 20:
            raise ValueError(f"chunk_images is {self.chunk_images}; it must be from 1 to 1,048,576")

    @property
    def last_id(self) -> int:
        """The largest id that its chunks may give; updates go on from the next one."""
        return self.chunks * self.chunk_images

    def first_id(self, chunk: int) -> int:
        """Of the images of a chunk, which have the ids from it on, in order."""
        return 1 + chunk * self.chunk_images

    def images_of(self, chunk: int) -> int:
        """How many images a chunk has."""
        return min(self.chunk_images, self.images - chunk * self.chunk_images)

    @property
    def fingerprint(self) -> str:
        """Of what its rows are made of and with; each part carries it."""
        made_of = [self.model.sha256, self.root, self.source, self.chunk_images, self.images]
        text = json.dumps(made_of, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def write(self, storage: Storage) -> None:
        """From here on the folder is a job."""
        body = {**asdict(self), "model": self.model.as_dict()}
        text = json.dumps({"format": FORMAT, "crc32": _crc({"job": body}), "job": body}, indent=2)
        storage.write(JOB, text.encode() + b"\n")

    @classmethod
    def read(cls, storage: Storage) -> Job:
        """Raises GalleryError: there is none, it is of another format, or damaged."""
        try:
            content = storage.read(JOB)
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "a job that is not complete" if IMAGES in storage.names() else "no job"
            raise GalleryError(
                f"{storage.where} holds {what} ({JOB} is missing); make one with: lookalike "
                f"cluster embed SOURCE --out DIR"
            ) from error
        try:
            document = json.loads(content)
            version, crc = document.pop("format"), document.pop("crc32")
            if version != FORMAT:
                raise GalleryError(
                    f"{JOB} in {storage.where} has format {version}, this lookalike reads format "
                    f"{FORMAT}; use the lookalike that made it, or embed into an empty folder"
                )
            if crc != _crc(document):
                raise ValueError("it does not match its checksum")
            values = document["job"]
            values.pop("earlier", None)  # empty, in the first jobs of this format
            if values.keys() != {field.name for field in fields(cls)}:
                raise ValueError(f"it has the entries {sorted(values)}")
            return cls(**{**values, "model": ModelInfo.from_dict(values["model"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GalleryError(
                f"{JOB} in {storage.where} is damaged: {error}; restore it from a copy, or embed "
                f"into an empty folder"
            ) from error


def _crc(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


def check_vacant(storage: Storage) -> None:
    """Raises GalleryError unless the folder is empty but for a job that was never finished."""
    names = storage.names()
    if JOB in names:
        raise GalleryError(f"{storage.where} holds a job already; choose an empty folder")
    if strange := [name for name in names if name != IMAGES]:
        raise GalleryError(
            f"{storage.where} holds other files ({strange[0]}); choose an empty folder for the "
            f"parts, or, if these are parts whose {JOB} was lost, restore it from a copy"
        )


# ---- the list of images --------------------------------------------------------------------------


class Chunk(NamedTuple):
    """What one task embeds: some images, by the chunk's number, from 0."""

    number: int
    items: list[Item]


def write_list(storage: Storage, items: Iterable[Item]) -> int:
    """Write the list, of which little is in memory; returns how many images it has."""
    count, left = 0, iter(items)
    with TemporaryFile() as file:
        with pq.ParquetWriter(file, LIST, compression="zstd", write_page_checksum=True) as writer:
            while some := list(islice(left, GROUP_ROWS)):
                names, rows = zip(*some, strict=True)
                writer.write_table(pa.table([names, rows], schema=LIST))
                count += len(some)
        file.seek(0)
        storage.write(IMAGES, file)
    return count


def chunks_of(storage: Storage, job: Job, wanted: Container[int]) -> Iterator[Chunk]:
    """Those chunks of a job, in order. Raises GalleryError if the list is damaged."""
    number, items = 0, list[Item]()
    try:
        with storage.open(IMAGES) as source:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            if file.schema_arrow != LIST or file.metadata.num_rows != job.images:
                raise ValueError(f"it is not a list of {job.images:,} images")
            for batch in file.iter_batches(GROUP_ROWS):
                items += zip(*(column.to_pylist() for column in batch.columns), strict=True)
                while number < job.chunks and len(items) >= job.images_of(number):
                    some, items = items[: job.images_of(number)], items[job.images_of(number) :]
                    if number in wanted:
                        yield Chunk(number, some)
                    number += 1
        if number < job.chunks:
            raise ValueError(f"it ends before chunk {number}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise GalleryError(
            f"{IMAGES} in {storage.where} is missing or damaged ({first_line(error)}); restore it "
            f"from a copy, or embed into an empty folder"
        ) from error
