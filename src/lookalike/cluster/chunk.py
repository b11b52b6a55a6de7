"""One task of a job: read the images of a chunk, embed them, write one part.

Free of Ray: Spark, Dask or a shell script may call it as well.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.cluster.job import Chunk, Job, TableSlice
from lookalike.cluster.parts import Parts, Rows, to_batch
from lookalike.cluster.source import rows_of
from lookalike.cluster.storage import first_line, is_uri, resolve
from lookalike.encoder import Encoded, Encoder, EncoderSettings, ModelInfo, one_by_one
from lookalike.errors import GalleryError, ModelMismatchError
from lookalike.gallery.store import ImageRow
from lookalike.gallery.update import why_skipped
from lookalike.images import (
    DEFAULT_MAX_PIXELS,
    SkippedImageError,
    SkipReason,
    content_hash,
    read_picture,
)
from lookalike.lsh.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from lookalike.encoder import Failed

__all__ = ["ChunkReport", "as_stored", "check_model", "embed_batch", "embed_chunk"]


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
    """Embed a chunk of the job in ``where``, and write its part, whole or not at all.

    The model is opened once per process. Doing a chunk again writes the same part again.

    Args:
        where: folder or URI of the job.
        model: path of the ONNX model file on this machine; None: the one that comes with lookalike.
        threads: of the model, and as many again that decode; None: all cores.
        max_pixels: larger images are skipped.

    Raises:
        GalleryError: no such job, or its source cannot be read. ModelMismatchError: ``model`` is
            not the job's.
    """
    began = time.monotonic()
    parts, encoder = Parts.open(where), _encoder(model, threads)
    check_model(encoder.info, parts.job)
    batch = embed_batch(chunk, parts.job, encoder, max_pixels)
    parts.write_chunk(chunk, batch)
    skipped = len(batch) - batch.column("skipped").null_count
    return ChunkReport(chunk.number, len(batch) - skipped, skipped, time.monotonic() - began)


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
    chunk: Chunk, job: Job, encoder: Encoder, max_pixels: int = DEFAULT_MAX_PIXELS
) -> pa.RecordBatch:
    """The same without writing: a chunk's rows in the schema of a part, for Spark or Dask.

    Row i has the id ``chunk.first_id + i``; what gave no image has the reason instead.

    Raises:
        GalleryError: the source cannot be read.
    """
    images: list[ImageRow] = []
    others: list[ImageRow] = []
    vectors: list[NDArray[np.float32]] = []

    def read(item: _Item) -> _Read:
        return _read(item, encoder.info.input_size, max_pixels)

    outcomes = encoder.encode(_items_of(chunk, job.root), one_by_one(read))
    try:
        for outcome in outcomes:
            if isinstance(outcome, Encoded):
                images.append(replace(outcome.picture.row, id=outcome.item.id))
                vectors.append(outcome.embedding)
            else:
                others.append(_skipped(outcome))
    finally:
        cast("Generator[object]", outcomes).close()  # ends its threads
    return to_batch(job, Rows(images, as_stored(vectors, job.model.dim), others))


def as_stored(embeddings: Sequence[NDArray[np.float32]], dim: int) -> NDArray[np.float16]:
    """Embeddings, each (dim,), as an index keeps them: unit rows (n, dim), rounded."""
    rows = np.array(embeddings, np.float32).reshape(len(embeddings), dim)
    return unit_rows(rows, dim).astype(np.float16)


# ---- the images of a chunk -------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """An image to read. ``status()`` gives size in bytes and time of change in ns, (-1, -1) if
    there is no such file; ``source()`` the local path or the content.
    """

    id: int
    path: bytes
    status: Callable[[], tuple[int, int]]
    source: Callable[[], bytes | io.BytesIO]


@dataclass(frozen=True, eq=False)
class _Read:
    """Pixels RGB (size, size, 3), and the row of the image but for its id."""

    pixels: NDArray[np.uint8]
    row: ImageRow


def _read(item: _Item, size: int, max_pixels: int) -> _Read:
    status = item.status()  # first, so that a change while reading is found by an update
    source = item.source()
    digest = content_hash(source)
    read = read_picture(source, size, max_pixels=max_pixels)
    row = ImageRow(item.id, item.path, *status, digest, read.width, read.height, read.format)
    return _Read(read.pixels, replace(row, note=None if read.note is None else str(read.note)))


def _skipped(outcome: Failed[_Item]) -> ImageRow:
    """Raises GalleryError if it is not the image that is at fault."""
    item, error = outcome.item, outcome.error
    if isinstance(error, GalleryError):
        raise error
    row = ImageRow(item.id, item.path, *item.status())
    reason, detail, remedy = why_skipped(error)
    return replace(row, skipped=reason, detail=detail, remedy=remedy)


def _items_of(chunk: Chunk, root: str) -> Iterator[_Item]:
    """The images of a chunk in order, as they are needed. GalleryError: the root, or a table, is
    not there."""
    if chunk.kind == "table":
        slices = cast("tuple[TableSlice, ...]", chunk.items)
        named = (row for one in slices for row in rows_of(one))
        for number, (path, content) in enumerate(named, chunk.first_id):
            yield _in_memory(number, path, content)
        return
    system, base = resolve(root)
    if not system.isdir(base):
        raise GalleryError(
            f"{root} is not a folder, or its disk is not mounted on this machine; every machine "
            f"that embeds needs it at this place"
        )
    file = _far if is_uri(root) else _here
    for number, name in enumerate(cast("tuple[str, ...]", chunk.items), chunk.first_id):
        yield file(number, system, f"{base.rstrip('/')}/{name}", os.fsencode(name))


def _here(number: int, _: Any, where: str, path: bytes) -> _Item:
    def status() -> tuple[int, int]:
        try:
            found = os.stat(where)
        except (OSError, ValueError):
            return -1, -1
        return found.st_size, found.st_mtime_ns

    return _Item(number, path, status, lambda: os.fsencode(where))


def _far(number: int, system: Any, where: str, path: bytes) -> _Item:
    def content() -> io.BytesIO:
        try:
            return io.BytesIO(system.cat_file(where))
        except FileNotFoundError as error:
            raise SkippedImageError(SkipReason.VANISHED, "the file is gone") from error
        except OSError as error:  # the network's fault, not the image's
            raise GalleryError(
                f"cannot read {where}: {first_line(error)}; run the command again"
            ) from error

    def status() -> tuple[int, int]:
        try:
            return int(system.size(where) or 0), int(system.modified(where).timestamp() * 1e9)
        except (OSError, NotImplementedError):
            return -1, -1

    return _Item(number, path, status, content)


def _in_memory(number: int, path: bytes, content: bytes) -> _Item:
    return _Item(number, path, lambda: (len(content), 0), lambda: io.BytesIO(content))
