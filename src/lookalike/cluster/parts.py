"""The parts of a DIR: Parquet files with a row per file of the source. They are the truth.

    DIR/part-FIRSTID.parquet   one per chunk; then one per commit of an update, in order
    DIR/lease-NUMBER.json      who may commit, see `lease`

Columns: id, path, size, mtime_ns, hash (of the content), width, height, format, embedding, which is
float16, and note; or, in place of the last six, skipped, detail and remedy. Rows are sorted by
hash, in row groups of which a shard reads those that may have its own. Of rows with the same path,
or the same id, the one in the last part counts. A commit notes a path that is gone as a row skipped
as GONE.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lookalike.cluster.job import FORMAT, Chunk, Item, Job, check_vacant, chunks_of, write_list
from lookalike.cluster.storage import Storage
from lookalike.errors import GalleryDamagedError, GalleryError, GalleryLockedError, first_line
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow, check_row
from lookalike.lsh.segment import are_unit

GONE = "gone"
"""Reason of a row that only says that its path is not there any more."""
PART = re.compile(r"part-(\d{12,})\.parquet")
GROUPS = 16
"""Row groups of a part, for as many shards at least each to read its own share."""
READERS, TOGETHER = 16, 1 << 10
"""Threads that check parts, since each may lie far away, and how many parts they are given."""
OF_FILE = {
    "id": pa.int64(),
    "path": pa.binary(),
    "size": pa.int64(),
    "mtime_ns": pa.int64(),
    "hash": pa.binary(16),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "skipped": pa.string(),
    "detail": pa.string(),
    "remedy": pa.string(),
    "note": pa.string(),
    "phash": pa.int64(),
    "taken": pa.int64(),
}
"""Columns that are fields of an ImageRow."""


class Share(NamedTuple):
    """The files that one shard, of so many, keeps: by content, so that equal files lie together."""

    shard: int
    shards: int

    def has(self, row: ImageRow) -> bool:
        """Whether a row is this shard's."""
        digest = row.hash or hashlib.blake2b(row.path, digest_size=8).digest()
        return self._shard_of(digest) == self.shard

    def of(self, rows: Embedded) -> Embedded:
        """This shard's, without what is gone."""
        return _chosen(rows, self.has)

    def _shard_of(self, digest: bytes) -> int:
        return int.from_bytes(digest[:8], "big") * self.shards >> 64

    def may_be_in(self, group: pq.RowGroupMetaData) -> bool:
        """Whether a row group can have such rows, by its statistics."""
        at = next(i for i in range(group.num_columns) if group.column(i).path_in_schema == "hash")
        found = group.column(at).statistics
        if found is None or not found.has_min_max or found.null_count:
            return True
        return self._shard_of(found.min) <= self.shard <= self._shard_of(found.max)


def _chosen(rows: Embedded, is_wanted: Callable[[ImageRow], bool]) -> Embedded:
    """Those that are wanted and not gone; with their vectors, if these were read."""
    kept = [at for at, row in enumerate(rows.images) if is_wanted(row)]
    vectors = rows.vectors[kept] if len(rows.vectors) else rows.vectors
    skipped = [row for row in rows.skipped if row.skipped != GONE and is_wanted(row)]
    return Embedded([rows.images[at] for at in kept], vectors, skipped)


def part_name(first_id: int) -> str:
    """Of the part whose ids begin there."""
    return f"part-{first_id:012d}.parquet"


def _first_id(name: str) -> int:
    found = PART.fullmatch(name)
    return int(found[1]) if found else -1


def to_batch(job: Job, rows: Embedded) -> pa.RecordBatch:
    """Rows in the schema of a part. ValueError if images and vectors do not fit, or a row is one
    that no gallery can have."""
    if rows.vectors.shape != (len(rows.images), job.model.dim) or rows.vectors.dtype != np.float16:
        raise ValueError(
            f"vectors are {rows.vectors.dtype} {rows.vectors.shape}; they must be float16 "
            f"({len(rows.images)}, {job.model.dim})"
        )
    if any(row.skipped for row in rows.images) or not all(row.skipped for row in rows.skipped):
        raise ValueError("images have no reason for being skipped, other rows have one")
    _check(rows)
    files = [*rows.images, *rows.skipped]
    columns = [
        _column([getattr(row, name) for row in files], kind) for name, kind in OF_FILE.items()
    ]
    flat = np.zeros((len(files), job.model.dim), np.float16)
    flat[: len(rows.images)] = rows.vectors
    missing = pa.array(np.arange(len(files)) >= len(rows.images))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), job.model.dim, mask=missing)
    schema = _schema(job)
    lists = lists.cast(schema.field("embedding").type)
    batch = pa.RecordBatch.from_arrays([*columns, lists], schema=schema)
    return batch.take(pc.sort_indices(batch, [("hash", "ascending"), ("id", "ascending")]))


def _schema(job: Job) -> pa.Schema:
    embedding = pa.list_(pa.field("element", pa.float16()), job.model.dim)  # Parquet's own name
    found = [
        pa.field(name, kind, nullable=name not in ("id", "path")) for name, kind in OF_FILE.items()
    ]
    note = json.dumps({"format": FORMAT, "job": job.fingerprint})
    return pa.schema([*found, pa.field("embedding", embedding)], metadata={"lookalike": note})


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():  # a file's name in a message need not be UTF-8
        values = [None if v is None else v.encode("utf-8", "replace").decode() for v in values]
    return pa.array(values, kind)


def _check(rows: Embedded, ids: range | None = None) -> None:
    """Raises ValueError, which names the row, for what no gallery can have: a user may write parts,
    or alter them; or for an id that is not among ``ids``. Vectors are checked if they were read."""
    seen = set[int | bytes]()
    for row in (*rows.images, *rows.skipped):
        try:
            check_row(row)
        except ValueError as error:
            raise ValueError(f"its row of id {row.id} {error}") from error
        if ids is not None and row.id not in ids:
            raise ValueError(f"its ids are from {ids[0]} to {ids[-1]}, and a row has {row.id}")
        if row.skipped == GONE:  # a file that moved keeps its id
            continue
        if row.id in seen or row.path in seen:
            raise ValueError(f"its row of id {row.id}, {row.path!r:.80}, repeats an id or a path")
        seen |= {row.id, row.path}
    is_good = are_unit(rows.vectors)
    if not is_good.all():
        row = rows.images[int(np.argmin(is_good))]
        raise ValueError(f"its row of id {row.id} has an embedding that is not of unit length")


def _to_rows(table: pa.Table, dim: int) -> Embedded:
    """The reverse of `to_batch`, by id. ValueError for a row that is neither image nor skipped."""
    table = table.take(pc.sort_indices(table["id"]))
    skipped = table["skipped"].is_valid()
    images, others = table.filter(pc.invert(skipped)), table.filter(skipped)
    vectors = np.empty((0, dim), np.float16)
    if "embedding" in table.column_names:
        if images["embedding"].null_count or others["embedding"].null_count < len(others):
            raise ValueError("a row is neither an image nor skipped")
        flat = [
            part.flatten().to_numpy(zero_copy_only=False) for part in images["embedding"].chunks
        ]
        vectors = np.concatenate([vectors.ravel(), *flat]).astype(np.float16, copy=False)
        vectors = vectors.reshape(len(images), dim)
    rows, skips = (
        [ImageRow(**row) for row in some.select(list(OF_FILE)).to_pylist()]
        for some in (images, others)
    )
    return Embedded(rows, vectors, skips)


class Parts:
    """The folder of a job. Several processes may embed different chunks of it at once."""

    def __init__(self, storage: Storage, job: Job) -> None:
        """Use `create` or `open`."""
        self.storage = storage
        self.where = storage.where
        self.job = job
        # For each path, and each id, of a commit: the last part that has it. Filled by `refresh`.
        self._by_path: dict[bytes, str] = {}
        self._by_id: dict[int, str] = {}
        self._noted: set[str] = set()

    @classmethod
    def create(cls, where: str, job: Job, items: Iterable[Item]) -> Self:
        """Make a job of listed images; there is none until the call has returned.

        Args:
            where: a folder, or the URI of one (``s3://...``).
            job: ``chunks`` and ``images`` are counted here and need not be given.

        Raises:
            GalleryError: the folder holds a job, or something else; or there are no images.
        """
        storage = Storage(where)
        check_vacant(storage)
        images = write_list(storage, items)
        if not images:
            raise GalleryError(
                f"there are no images in {job.source}; hidden files, and names without the "
                f"extension of an image, do not count"
            )
        job = replace(job, chunks=-(-images // job.chunk_images), images=images)
        job.write(storage)
        return cls(storage, job)

    @classmethod
    def open(cls, where: str) -> Self:
        """Raises GalleryError: there is no job, or it is damaged."""
        storage = Storage(where)
        return cls(storage, Job.read(storage))

    # ---- which parts there are -------------------------------------------------------------------

    def names(self) -> list[str]:
        """Of all parts, in the order of their commits, as of now."""
        return sorted((n for n in self.storage.names() if PART.fullmatch(n)), key=_first_id)

    def missing(self) -> list[int]:
        """The chunks that have no part yet."""
        there, job = set(self.storage.names()), self.job
        return [n for n in range(job.chunks) if part_name(job.first_id(n)) not in there]

    def chunks(self, numbers: Iterable[int]) -> Iterator[Chunk]:
        """These chunks, in order. Raises GalleryError if the list of images is damaged."""
        wanted = set(numbers)
        return chunks_of(self.storage, self.job, wanted) if wanted else iter(())

    def check_complete(self) -> None:
        """Raises GalleryError if chunks have no part yet."""
        if missing := len(self.missing()):
            raise GalleryError(
                f"{missing} of {self.job.chunks} parts in {self.where} are missing; go on with: "
                f"{self._command()}"
            )

    def drop_damaged(self) -> int:
        """Delete the parts of chunks that are damaged, so that these are missing; returns how many.

        Each is read whole, which takes a hundredth of the time of embedding its chunk.

        Raises:
            GalleryError: one cannot be read, or is of another job.
        """

        def is_damaged(name: str) -> bool:
            try:
                self.read(name)
            except GalleryDamagedError:
                self.storage.delete(name)
                return True
            return False

        names, dropped = [n for n in self.names() if not self.version(n)], 0
        with ThreadPoolExecutor(READERS) as pool:
            for at in range(0, len(names), TOGETHER):
                dropped += sum(pool.map(is_damaged, names[at : at + TOGETHER]))
        return dropped

    def version(self, name: str) -> int:
        """Of the state that a part completes: 0 for all parts of chunks, then rising."""
        first = _first_id(name)
        return first if first > self.job.last_id else 0

    def next_id(self) -> int:
        """Larger than any id in a part."""
        last, names = self.job.last_id, self.names()
        if names and _first_id(names[-1]) > last:
            rows = self.read(names[-1], vectors=False)
            ids = [row.id for row in (*rows.images, *rows.skipped)]
            last = max(_first_id(names[-1]), *ids)
        return last + 1

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, name: str, *, vectors: bool = True, share: Share | None = None) -> Embedded:
        """All rows of a part by id, or those row groups of it that may have a shard's own; without
        ``vectors`` they are (0, dim).

        Raises:
            GalleryError: the part is missing, damaged, or of another job.
        """
        columns = [*OF_FILE, "embedding"] if vectors else list(OF_FILE)
        first, job = _first_id(name), self.job
        ids = None if self.version(name) else range(first, first + job.chunk_images)
        try:
            rows = _to_rows(self._table(name, columns, share), job.model.dim)
            _check(rows, ids)
        except ValueError as error:
            raise self._unreadable(name, error) from error
        return rows

    def live(self, name: str, *, vectors: bool = True, share: Share | None = None) -> Embedded:
        """The rows of a part that no later part has again, as of the last `refresh`: all, or those
        of a shard."""

        def is_live(row: ImageRow) -> bool:
            return (
                self._by_path.get(row.path, name) == name
                and self._by_id.get(row.id, name) == name
                and (share is None or share.has(row))
            )

        return _chosen(self.read(name, vectors=vectors, share=share), is_live)

    def refresh(self) -> list[str]:
        """Learn which rows later parts replace; returns the names of all parts."""
        names = self.names()
        for name in names:
            if self.version(name) and name not in self._noted:
                table = self._table(name, ["id", "path"])
                self._by_path.update(dict.fromkeys(table["path"].to_pylist(), name))
                self._by_id.update(dict.fromkeys(table["id"].to_pylist(), name))
                self._noted.add(name)
        return names

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float16]:
        """Embeddings of live images, (m, dim), in the order of their ids as given."""
        out = np.empty((len(ids), self.job.model.dim), np.float16)
        size = self.job.chunk_images
        where: dict[str, list[int]] = {}
        for at, number in enumerate(ids):
            name = self._by_id.get(number) or part_name(1 + (number - 1) // size * size)
            where.setdefault(name, []).append(at)
        for name, places in where.items():
            rows = self.read(name)
            at_of = {row.id: at for at, row in enumerate(rows.images)}
            out[places] = rows.vectors[[at_of[ids[place]] for place in places]]
        return out

    def verify(self) -> list[str]:
        """What is wrong with the parts, each read whole, in sentences; [] if nothing is."""
        problems: list[str] = []
        checks: list[Callable[[], object]] = [self.check_complete]
        checks += [partial(self.read, name) for name in self.names()]
        for check in checks:
            try:
                check()
            except GalleryError as error:
                problems.append(str(error))
        return problems

    def _table(self, name: str, columns: list[str], share: Share | None = None) -> pa.Table:
        try:
            with self.storage.open(name) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                self._check_note(name, file.schema_arrow)
                expected = _schema(self.job)
                for column in columns:
                    if file.schema_arrow.field(column).type != expected.field(column).type:
                        raise ValueError(f"its column '{column}' is of another type")
                groups = [
                    group
                    for group in range(file.num_row_groups)
                    if share is None or share.may_be_in(file.metadata.row_group(group))
                ]
                return file.read_row_groups(groups, columns)
        except FileNotFoundError as error:
            raise GalleryError(
                f"{name} in {self.where} is missing; {self._remedy(name)}"
            ) from error
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._unreadable(name, error) from error

    def _check_note(self, name: str, schema: pa.Schema) -> None:
        text = (schema.metadata or {}).get(b"lookalike", b"").decode(errors="replace")
        try:
            note = json.loads(text)
            of_this_job = note["format"] == FORMAT and note["job"] == self.job.fingerprint
        except (ValueError, KeyError, TypeError):
            of_this_job = False
        if not of_this_job:
            raise GalleryError(
                f"{name} in {self.where} is of another job ({text or 'it has no note'}, this one "
                f"is {self.job.fingerprint}); move it elsewhere"
            )

    # ---- writing ---------------------------------------------------------------------------------

    def write_chunk(self, number: int, batch: pa.RecordBatch) -> None:
        """Write the part of a chunk, whole or not at all; one that is there is replaced."""
        self.storage.write(part_name(self.job.first_id(number)), _parquet(batch))

    def append(self, first_id: int, rows: Embedded) -> str:
        """Commit rows after all that was committed; returns the name of their part.

        Args:
            first_id: what `next_id` gave: two writers that saw the same parts cannot both commit.

        Raises:
            GalleryLockedError: another writer has committed meanwhile.
        """
        name = part_name(first_id)
        try:
            self.storage.create(name, _parquet(to_batch(self.job, rows)))
        except FileExistsError as error:
            raise GalleryLockedError(
                f"another process has changed {self.where} meanwhile; what was written before is "
                f"kept, run the command again"
            ) from error
        self.refresh()
        return name

    def _unreadable(self, name: str, error: BaseException) -> GalleryError:
        what = f"{name} in {self.where}"
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not pyarrow's
            return GalleryError(
                f"{what} cannot be read ({first_line(error)}); check its permissions and its disk"
            )
        return GalleryDamagedError(
            f"{what} is damaged ({first_line(error)}); delete it, and {self._remedy(name)}"
        )

    def _remedy(self, name: str) -> str:
        if 0 < _first_id(name) <= self.job.last_id:
            return f"run again: {self._command()}"
        return "restore it from a copy, or bring the gallery up to date again"

    def _command(self) -> str:
        source = self.job.source or "SOURCE"
        return shlex.join(["lookalike", "cluster", "embed", source, "--out", self.where])


def _parquet(batch: pa.RecordBatch) -> bytes:
    buffer = io.BytesIO()  # so that what is sent to an object store is whole at once
    table, size = pa.Table.from_batches([batch]), max(16, -(-len(batch) // GROUPS))
    pq.write_table(table, buffer, row_group_size=size, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
