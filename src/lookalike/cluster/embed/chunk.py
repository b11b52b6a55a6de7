"""One task of a job: read the images of a chunk, embed and hash them, write one part.

Free of Ray: Spark, Dask or a shell script may call it as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.cluster.embed.reading import Item, OwnSheetError, Read, items_of, read_item
from lookalike.cluster.job.descriptor import Chunk
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.job.schema import Job, Rows, to_batch
from lookalike.encoder import Encoded, Encoder, EncoderSettings, ModelInfo
from lookalike.errors import GalleryError, ModelMismatchError
from lookalike.gallery.store import OWN_SHEET, ImageRow
from lookalike.gallery.update import why_skipped
from lookalike.images import DEFAULT_MAX_PIXELS
from lookalike.lsh.threads import one_blas_thread
from lookalike.lsh.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from lookalike.encoder import Failed
    from lookalike.lsh.hashing import Hasher

__all__ = [
    "Chunk",
    "ChunkReport",
    "as_stored",
    "check_model",
    "embed_batch",
    "embed_chunk",
    "hash_stored",
]


@dataclass(frozen=True)
class ChunkReport:
    """What became of a chunk: images embedded, items skipped, seconds taken."""

    number: int
    images: int
    skipped: int
    seconds: float


def embed_chunk(
    where: str,
    chunk: Chunk,
    *,
    model: str | None = None,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ChunkReport:
    """Embed and hash a chunk of the job in ``where``, and write its part, whole or not at all.

    The model is opened once per process. Doing a chunk again writes the same part again.

    Args:
        where: folder or URI of the job.
        model: path of the ONNX model file on this machine; None: the one that comes with lookalike.
        threads: of the model, and as many again that decode; None: all cores.
        max_pixels: larger pictures are skipped.

    Raises:
        GalleryError: no such job, or its source cannot be read. ModelMismatchError: ``model`` is
            not the job's.
    """
    began = time.monotonic()
    parts, encoder = Parts.open(where), _encoder(model, threads)
    check_model(encoder.info, parts.job)
    batch = embed_batch(chunk, parts.job, parts.hasher, encoder, max_pixels)
    parts.write_batch(chunk.first_id, batch)
    skipped = len(batch) - batch.column("skipped").null_count
    seconds = time.monotonic() - began
    return ChunkReport(chunk.number, len(batch) - skipped, skipped, seconds)


@lru_cache(maxsize=1)
def _encoder(model: str | None, threads: int | None) -> Encoder:
    return Encoder.open(None if model is None else Path(model), EncoderSettings(threads=threads))


def check_model(model: ModelInfo, job: Job) -> None:
    """Raises ModelMismatchError unless ``model`` is the job's, to the byte."""
    if model.sha256 != job.model.sha256:
        raise ModelMismatchError(
            f"the job was made with model {_name(job.model)}, the one in use is {_name(model)}; "
            f"name the first with --model FILE, or make a new job in an empty folder"
        )


def _name(model: ModelInfo) -> str:
    return f"{model.name} {model.version} (SHA-256 {model.sha256[:12]})"


def embed_batch(
    chunk: Chunk, job: Job, hasher: Hasher, encoder: Encoder, max_pixels: int = DEFAULT_MAX_PIXELS
) -> pa.RecordBatch:
    """The same without writing: a chunk's rows in the schema of a part, for Spark or Dask.

    Row i has the id ``chunk.first_id + i``; what gave no picture has the reason instead.

    Args:
        job, hasher: of `Parts`.

    Raises:
        GalleryError: the source cannot be read.
    """
    images: list[ImageRow] = []
    skipped: list[ImageRow] = []
    vectors: list[NDArray[np.float32]] = []

    def read(item: Item) -> Read:
        return read_item(item, encoder.info.input_size, max_pixels)

    outcomes = encoder.encode(items_of(chunk, job.root), read)
    try:
        for outcome in outcomes:
            if isinstance(outcome, Encoded):
                images.append(_image(outcome))
                vectors.append(outcome.embedding)
            else:
                skipped.append(_skipped(outcome))
    finally:
        cast("Generator[object]", outcomes).close()  # ends its threads
    rows = hash_stored(job, hasher, images, as_stored(vectors, job.settings.dim))
    return to_batch(job, rows._replace(skipped=skipped))


def as_stored(embeddings: Sequence[NDArray[np.float32]], dim: int) -> NDArray[np.float16]:
    """Embeddings, each (dim,), as an index keeps them: unit rows (n, dim), rounded."""
    rows = np.array(embeddings, np.float32).reshape(len(embeddings), dim)
    return unit_rows(rows, dim).astype(np.float16)


def hash_stored(
    job: Job, hasher: Hasher, images: list[ImageRow], vectors: NDArray[np.float16]
) -> Rows:
    """Rows of a part from images and their embeddings, (n, dim) unit rows.

    They are hashed as they are stored, so that hashing them again gives the same bits.
    """
    with one_blas_thread():
        hashed = hasher.hash(vectors.astype(np.float32), job.key_bits)
    ids = np.array([row.id for row in images], np.int64)
    return Rows(ids, vectors, hashed.codes, hashed.corrections, hashed.keys, images, [])


def _image(outcome: Encoded[Item, Read]) -> ImageRow:
    item, read = outcome.item, outcome.picture
    return ImageRow(
        item.id, item.path, *read.status, read.hash, read.width, read.height, read.format
    )


def _skipped(outcome: Failed[Item]) -> ImageRow:
    """Raises GalleryError if it is not the picture that is at fault."""
    item, error = outcome.item, outcome.error
    if isinstance(error, GalleryError):
        raise error
    row = ImageRow(item.id, item.path, *item.status())
    if isinstance(error, OwnSheetError):
        return replace(row, skipped=OWN_SHEET, detail="drawn by lookalike", remedy="")
    reason, detail, remedy = why_skipped(error)
    return replace(row, skipped=reason, detail=detail, remedy=remedy)
