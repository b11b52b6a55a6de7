"""Tasks of a job: read the images of chunks, embed them, write the part of each.

Free of Ray: Spark, Dask or a shell script may call it as well.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.cluster.job import Chunk, Job
from lookalike.cluster.parts import Parts, to_batch
from lookalike.cluster.source import rows_of
from lookalike.cluster.storage import is_uri, resolve
from lookalike.encoder import (
    Encoded,
    Encoder,
    EncoderSettings,
    ModelInfo,
    bundled_model,
    one_by_one,
)
from lookalike.errors import GalleryError, LookalikeError, ModelMismatchError, first_line
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.update import ReadImage, read_row, why_skipped
from lookalike.images import DEFAULT_MAX_PIXELS, SkippedImageError, SkipReason, content_hash
from lookalike.images.decoder import Decoder, Limits
from lookalike.lsh.vectors import unit_rows


@dataclass(frozen=True)
class EmbedSettings:
    """How chunks are embedded.

    Attributes:
        model: path of the ONNX model file, the same on all machines; None: the job's, which comes
            with lookalike.
        threads: of the model, and as many again that decode; on Ray, CPUs that a task reserves.
            None: all cores; on Ray, 1.
        max_pixels: larger images are skipped.
    """

    model: str | None = None
    threads: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS


DEFAULTS = EmbedSettings()


@dataclass(frozen=True)
class ChunkReport:
    """What became of a chunk: images embedded, items skipped, seconds taken."""

    number: int
    images: int
    skipped: int
    seconds: float


def embed_chunk(where: str, chunk: Chunk, settings: EmbedSettings = DEFAULTS) -> ChunkReport:
    """One of `embed_chunks`."""
    (report,) = embed_chunks(where, [chunk], settings)
    return report


def embed_chunks(
    where: str, chunks: Iterable[Chunk], settings: EmbedSettings = DEFAULTS
) -> Generator[ChunkReport, None, None]:
    """Embed chunks of the job in ``where``, and write the part of each, whole or not at all.

    The model is opened once per process. The images of the next chunk are read while the last of
    one are embedded. Doing a chunk again writes the same part again.

    Raises:
        GalleryError: no such job, or its source cannot be read. ModelMismatchError: the model is
            not the job's.
    """
    began = time.monotonic()
    parts = Parts.open(where)
    encoder = _encoder(settings.model or str(bundled_model(parts.job.model)), settings.threads)
    check_model(encoder.info, parts.job)
    with closing(_batches(chunks, parts.job, encoder, settings.max_pixels)) as batches:
        for number, batch in batches:
            parts.write_chunk(number, batch)
            skipped = len(batch) - batch.column("skipped").null_count
            seconds = time.monotonic() - began
            yield ChunkReport(number, len(batch) - skipped, skipped, seconds)
            began = time.monotonic()


@lru_cache(maxsize=1)
def _encoder(model: str, threads: int | None) -> Encoder:
    return Encoder.open(Path(model), EncoderSettings(threads=threads))


def check_model(model: ModelInfo, job: Job) -> None:
    """Raises ModelMismatchError unless ``model`` is the job's, to the byte."""
    if model.sha256 != job.model.sha256:
        theirs, ours = (
            f"{m.name} {m.version} (SHA-256 {m.sha256[:12]})" for m in (job.model, model)
        )
        raise ModelMismatchError(
            f"the job was made with model {theirs}, the one in use is {ours}; name the first with "
            f"--model FILE, or make a new job in an empty folder"
        )


def embed_batch(
    chunk: Chunk, job: Job, encoder: Encoder, max_pixels: int = DEFAULT_MAX_PIXELS
) -> pa.RecordBatch:
    """The same without writing: a chunk's rows in the schema of a part, for Spark or Dask.

    The image ``chunk.items[i]`` has the id ``job.first_id(chunk.number) + i``; what gave no image
    has the reason instead. Images are decoded in processes that may be ended, as in
    `Gallery.update`.

    Raises:
        GalleryError: the source cannot be read.
    """
    with closing(_batches([chunk], job, encoder, max_pixels)) as batches:
        return next(batches)[1]


def _batches(
    chunks: Iterable[Chunk], job: Job, encoder: Encoder, max_pixels: int
) -> Generator[tuple[int, pa.RecordBatch], None, None]:
    """The number of each chunk and its rows, from one stream of images."""
    taken = deque[Chunk]()
    images, others = list[ImageRow](), list[ImageRow]()
    vectors: list[NDArray[np.float32]] = []

    def items() -> Iterator[_Item]:
        for chunk in chunks:
            taken.append(chunk)
            yield from _items_of(chunk, job)

    with Decoder(Limits(max_pixels)) as decoder:
        decoder.prepare(job.images)

        def read(items: Sequence[_Item]) -> list[ReadImage | LookalikeError]:
            found = one_by_one(_Item.load)(items)
            sources = [one[1] for one in found if not isinstance(one, LookalikeError)]
            made = iter(decoder.read_images(sources, encoder.info.input_size))
            return [
                one if isinstance(one, LookalikeError) else read_row(one[0], next(made))
                for one in found
            ]

        stream = encoder.encode(items(), read, decoder.close)
        with closing(cast("Generator[object]", stream)):  # ends its threads
            for outcome in stream:
                if isinstance(outcome, Encoded):
                    images.append(outcome.image.row)
                    vectors.append(outcome.embedding)
                elif isinstance(outcome.error, GalleryError):  # it is not the image's fault
                    raise outcome.error
                else:
                    reason, detail, remedy = why_skipped(outcome.error)
                    row = outcome.item.row()
                    others.append(replace(row, skipped=reason, detail=detail, remedy=remedy))
                if len(images) + len(others) == len(taken[0].items):
                    found = Embedded(images, as_stored(vectors, job.model.dim), others)
                    yield taken.popleft().number, to_batch(job, found)
                    images, vectors, others = [], [], []


def as_stored(embeddings: Sequence[NDArray[np.float32]], dim: int) -> NDArray[np.float16]:
    """Embeddings, each (dim,), as an index keeps them: unit rows (n, dim), rounded."""
    rows = np.array(embeddings, np.float32).reshape(len(embeddings), dim)
    return unit_rows(rows, dim).astype(np.float16)


@dataclass(frozen=True)
class _Item:
    """An image to read: a file ``where`` on a file system, None for this machine's, or content."""

    id: int
    path: bytes
    where: str = ""
    system: Any = None
    content: bytes | None = None

    def row(self) -> ImageRow:
        """With size in bytes and time of change in ns; -1 and -1 if there is no such file."""
        size, mtime_ns = -1, -1
        with suppress(OSError, ValueError, NotImplementedError):
            if self.content is not None:
                size, mtime_ns = len(self.content), 0
            elif self.system is None:
                found = os.stat(self.where)
                size, mtime_ns = found.st_size, found.st_mtime_ns
            else:
                changed = self.system.modified(self.where).timestamp()
                size, mtime_ns = int(self.system.size(self.where) or 0), int(changed * 1e9)
        return ImageRow(self.id, self.path, size, mtime_ns)

    def load(self) -> tuple[ImageRow, str | io.BytesIO]:
        """Its row, with a digest, and its path on this machine, or its content."""
        row = self.row()  # first, so that a change while reading is found by an update
        source: str | io.BytesIO = self.where
        if self.content is not None:
            source = io.BytesIO(self.content)
        elif self.system is not None:
            try:
                source = io.BytesIO(self.system.cat_file(self.where))
            except FileNotFoundError as error:
                raise SkippedImageError(SkipReason.VANISHED, "the file is gone") from error
            except OSError as error:  # the network's fault, not the image's
                raise GalleryError(
                    f"cannot read {self.where}: {first_line(error)}; run the command again"
                ) from error
        return replace(row, hash=content_hash(source)), source


def _items_of(chunk: Chunk, job: Job) -> Iterator[_Item]:
    """The images of a chunk in order, as they are needed. GalleryError: the root, or a table, is
    not there."""
    first = job.first_id(chunk.number)
    if not job.root:
        groups = groupby(chunk.items, key=itemgetter(0))
        tables = [(os.fsdecode(name), [row for _, row in items]) for name, items in groups]
        found = (image for name, rows in tables for image in rows_of(name, rows[0], len(rows)))
        for number, (path, content) in enumerate(found, first):
            yield _Item(number, path, content=content)
        return
    system, base = resolve(job.root)
    if not system.isdir(base):
        raise GalleryError(
            f"{job.root} is not a folder, or its disk is not mounted on this machine; every "
            f"machine that embeds needs it at this place"
        )
    far = system if is_uri(job.root) else None
    for number, (path, _) in enumerate(chunk.items, first):
        yield _Item(number, path, f"{base.rstrip('/')}/{os.fsdecode(path)}", far)
