"""A part as a Parquet table: a row per file, with its embedding, code and keys, or why it has none.

Columns: id, path, size, mtime_ns, hash, width, height, format of the file; embedding (float16),
code, correction and keys, null for a file that was skipped; skipped, detail and remedy, null for
others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.encoder import ModelInfo
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHSettings

__all__ = [
    "FORMAT",
    "Job",
    "Rows",
    "note_of",
    "part_schema",
    "removed_schema",
    "to_batch",
    "to_rows",
]

FORMAT = 1
OF_ROW = ("id", "path", "size", "mtime_ns", "hash", "width", "height", "format")
OF_SKIPPED = ("skipped", "detail", "remedy")
HASHED = ("embedding", "code", "correction", "keys")


@dataclass(frozen=True)
class Job:
    """What a DIR holds, as its job.json says. ValueError if the values do not fit each other.

    Attributes:
        model: what embeds.
        settings: of the hash functions. Vectors are float16, so ``settings.vectors`` is
            ``"float16"`` or ``"none"`` (an index made from the parts then drops them).
        key_bits: bits of each key.
        root: absolute folder (or URI of one) that paths are relative to; "" if images are rows of
            tables.
        chunk_images: images per chunk; chunk i has the ids from 1 + i * chunk_images on.
        chunks, images: how many were listed when the job was made, skipped ones included. Updates
            add parts beyond them.
        source: what was listed, as an absolute path or URI.
        hasher: name of the file with the hash functions, which is drawn from its content.
    """

    model: ModelInfo
    settings: LSHSettings
    key_bits: int
    root: str
    chunk_images: int = 512
    chunks: int = 0
    images: int = 0
    source: str = ""
    hasher: str = ""

    def __post_init__(self) -> None:
        if self.settings.dim != self.model.dim:
            raise ValueError(
                f"settings are for {self.settings.dim} dimensions, the model gives {self.model.dim}"
            )
        if self.settings.vectors == "float32":
            raise ValueError("settings.vectors is 'float32'; parts keep 'float16'")
        if self.settings.key_bits not in (None, self.key_bits) or not 0 <= self.key_bits <= 14:
            raise ValueError(
                f"key_bits is {self.key_bits}; it must be from 0 to 14 and agree with "
                f"settings.key_bits, {self.settings.key_bits}"
            )
        if not 1 <= self.chunk_images <= 1 << 20:
            raise ValueError(f"chunk_images is {self.chunk_images}; it must be from 1 to 1,048,576")

    @property
    def last_id(self) -> int:
        """The largest id that its chunks may give; updates go on from the next one."""
        return self.chunks * self.chunk_images

    @property
    def fingerprint(self) -> str:
        """Of what decides embeddings, codes and keys; each part carries it."""
        values = self.settings.as_dict() | {"search": None}
        parts = [self.model.sha256, values, self.key_bits, self.hasher]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Rows(NamedTuple):
    """Rows of one part. ``ids`` ascend and equal those of ``images``.

    ids int64 (n,); vectors float16 (n, dim), unit rows; codes uint8 (n, bytes); corrections int16
    (n,); keys uint32 (tables, n); images (n); skipped: the files that gave no picture, any number.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float16]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    keys: NDArray[np.uint32]
    images: list[ImageRow]
    skipped: list[ImageRow]


def note_of(job: Job) -> dict[str, str]:
    """Metadata of a file that say which job it is of."""
    return {"lookalike": json.dumps({"format": FORMAT, "job": job.fingerprint}, sort_keys=True)}


def part_schema(job: Job) -> pa.Schema:
    """Names and types of the columns, with `note_of` the job."""
    settings = job.settings
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.binary(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_ns", pa.int64(), nullable=False),
            pa.field("hash", pa.binary(16)),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("format", pa.string()),
            pa.field("embedding", _lists(pa.float16(), settings.dim)),
            pa.field("code", pa.binary(settings.code_bits // 8)),
            pa.field("correction", pa.int16()),
            pa.field("keys", _lists(pa.uint32(), settings.tables)),
            *(pa.field(name, pa.string()) for name in OF_SKIPPED),
        ],
        metadata=note_of(job),
    )


def removed_schema(job: Job) -> pa.Schema:
    """Of a list of removed ids."""
    return pa.schema([pa.field("id", pa.int64(), nullable=False)], metadata=note_of(job))


def _lists(kind: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(pa.field("element", kind), length)  # the name that Parquet gives


def to_batch(job: Job, rows: Rows) -> pa.RecordBatch:
    """Images and skipped files together, by id. Raises ValueError if the arrays do not fit."""
    _check(job, rows)
    files = sorted([*rows.images, *rows.skipped], key=lambda row: row.id)
    live = np.array([row.skipped is None for row in files], np.bool_)
    schema = part_schema(job)
    columns = [_column(files, field) for field in schema if field.name not in HASHED]
    hashed = [
        _fixed_lists(rows.vectors, live),
        pa.array(_spread([code.tobytes() for code in rows.codes], live), schema.field("code").type),
        pa.array(_spread(rows.corrections.tolist(), live), pa.int16()),
        _fixed_lists(np.ascontiguousarray(rows.keys.T), live),
    ]
    at = len(OF_ROW)
    columns[at:at] = [
        column.cast(schema.field(name).type) for name, column in zip(HASHED, hashed, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def to_rows(table: pa.Table) -> Rows:
    """The reverse of `to_batch`. Raises ValueError for a row that is neither image nor skipped."""
    skipped = table["skipped"].is_valid().to_numpy()
    whole = np.all([table[name].is_valid().to_numpy() == ~skipped for name in HASHED], axis=0)
    if not whole.all():
        raise ValueError(f"row {np.argmin(whole)} is neither an image nor skipped")
    images = table.filter(pa.array(~skipped))
    return Rows(
        images["id"].to_numpy(),
        _matrix(images["embedding"], np.dtype(np.float16)),
        np.frombuffer(b"".join(images["code"].to_pylist()), np.uint8).reshape(
            len(images), table.schema.field("code").type.byte_width
        ),
        images["correction"].to_numpy(),
        np.ascontiguousarray(_matrix(images["keys"], np.dtype(np.uint32)).T),
        _image_rows(images),
        _image_rows(table.filter(pa.array(skipped))),
    )


def _check(job: Job, rows: Rows) -> None:
    n, settings = len(rows.ids), job.settings
    found = [(array.shape, array.dtype.name) for array in rows[:5]]
    expected = [
        ((n,), "int64"),
        ((n, settings.dim), "float16"),
        ((n, settings.code_bits // 8), "uint8"),
        ((n,), "int16"),
        ((settings.tables, n), "uint32"),
    ]
    if found != expected:
        raise ValueError(f"the arrays of a part are {found}; they must be {expected}")
    if rows.ids.tolist() != [row.id for row in rows.images] or (np.diff(rows.ids) <= 0).any():
        raise ValueError("ids must ascend and equal those of the images")
    if any(row.skipped is not None for row in rows.images) or any(
        row.skipped is None for row in rows.skipped
    ):
        raise ValueError("images have no reason for being skipped, skipped files have one")


def _column(files: Sequence[ImageRow], field: pa.Field) -> pa.Array:
    values = [getattr(row, field.name) for row in files]
    if field.type == pa.string():  # a file's name in a message need not be UTF-8
        values = [None if v is None else v.encode("utf-8", "replace").decode() for v in values]
    return pa.array(values, field.type)


def _spread(values: list[Any], live: NDArray[np.bool_]) -> list[Any]:
    """The values at the rows of images, None elsewhere."""
    source = iter(values)
    return [next(source) if is_image else None for is_image in live]


def _fixed_lists(values: NDArray[Any], live: NDArray[np.bool_]) -> pa.Array:
    flat = np.zeros((len(live), values.shape[1]), values.dtype)
    flat[live] = values
    return pa.FixedSizeListArray.from_arrays(
        pa.array(flat.ravel()), values.shape[1], mask=pa.array(~live)
    )


def _matrix(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)
    return flat.reshape(len(column), column.type.list_size)


def _image_rows(table: pa.Table) -> list[ImageRow]:
    columns = [table[name].to_pylist() for name in (*OF_ROW, *OF_SKIPPED)]
    return [ImageRow(*values) for values in zip(*columns, strict=True)]
