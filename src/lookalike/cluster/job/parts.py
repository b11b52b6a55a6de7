"""A job's folder DIR: what is to be embedded, with which hash functions, and the parts done so far.

The parts are the truth: every index, in a cluster or in a local gallery, is made from them.

    DIR/job.json                 the job; written last, so that it is there whole or not at all
    DIR/chunks.jsonl             one task a line
    DIR/hasher-HASH.lka          the hash functions
    DIR/part-FIRSTID.parquet     one per chunk, then one per update
    DIR/removed-UUID.parquet     ids that are removed, for ever
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.cluster.job.descriptor import Chunk, ChunkList, write_chunks
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.jobfile import check_vacant, read_job, store_hasher, write_job
from lookalike.cluster.job.partfile import (
    PartFiles,
    first_id_of,
    is_part,
    is_removal,
    new_removal_name,
    part_name,
)
from lookalike.cluster.job.schema import Job, Rows, removed_schema, to_batch, to_rows
from lookalike.errors import GalleryError
from lookalike.lsh.hashing import Hasher

__all__ = ["Job", "Parts", "Rows", "part_name"]

SAMPLED_PARTS = 64


class Parts:
    """The folder of a job. Several processes may write different parts at once."""

    def __init__(self, folder: Folder, job: Job, hasher: Hasher) -> None:
        """Use `create` or `open`."""
        self.where = folder.where
        self.job = job
        self.hasher = hasher
        self._folder = folder
        self._files = PartFiles(folder, job)
        # What the files beyond the job's own parts say, and which files those were.
        self._noted: set[str] | None = None
        self._latest: dict[bytes, int] = {}
        self._removed = np.empty(0, np.int64)

    @classmethod
    def create(cls, where: str, job: Job, hasher: Hasher, chunks: Iterable[Chunk]) -> Self:
        """Make a job in an empty or new folder; there is none until the call has returned.

        Args:
            where: a folder, or the URI of one that pyarrow or fsspec can write (``s3://...``).
            job: ``chunks``, ``images`` and ``hasher`` are found out here and need not be given.
            chunks: read once; need not fit into memory.

        Raises:
            GalleryError: the folder holds a job, or something else.
        """
        folder = Folder(where)
        check_vacant(folder)
        count, images = write_chunks(folder, chunks)
        return cls.begin(folder, replace(job, chunks=count, images=images), hasher)

    @classmethod
    def begin(cls, folder: Folder, job: Job, hasher: Hasher) -> Self:
        """Make a job in a folder that has the list of its chunks already."""
        name, sha256 = store_hasher(folder, hasher)
        job = replace(job, hasher=name)
        write_job(folder, job, sha256)
        return cls(folder, job, hasher)

    @classmethod
    def open(cls, where: str) -> Self:
        """Raises GalleryError: there is no job, it is of another format, or damaged."""
        folder = Folder(where)
        return cls(folder, *read_job(folder))

    # ---- the tasks -------------------------------------------------------------------------------

    def chunks(self) -> ChunkList:
        """All chunks of the job, whether done or not."""
        return ChunkList(self._folder, range(self.job.chunks))

    def missing(self) -> ChunkList:
        """Chunks whose part is not there yet, as of this call."""
        return ChunkList(self._folder, self._missing(set(self.names())))

    def _missing(self, names: set[str]) -> Sequence[int]:
        size = self.job.chunk_images
        return [i for i in range(self.job.chunks) if part_name(1 + i * size) not in names]

    def check_complete(self) -> None:
        """Raises GalleryError if parts are missing, with their number and the remedy."""
        if missing := self._missing(set(self.names())):
            raise GalleryError(
                f"{len(missing)} of {self.job.chunks} parts in {self.where} are missing; go on "
                f"with: {self._files.command()}"
            )

    # ---- reading ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names of all parts, in order of their ids, as of now."""
        listed = self._folder.names()
        found = sorted((name for name in listed if is_part(name)), key=first_id_of)
        later = {name for name in found if first_id_of(name) > self.job.last_id}
        self._note(later | {name for name in listed if is_removal(name)})
        return found

    def _note(self, files: set[str]) -> None:
        """Learn from ``files``, all updates and removals, what of other parts no longer counts."""
        if self._noted is None or not self._noted <= files:
            self._noted, self._latest, self._removed = set(), {}, np.empty(0, np.int64)
        for name in sorted(files - self._noted):
            if is_removal(name):
                ids = self._files.read(name, ["id"])["id"].to_numpy()
                self._removed = np.union1d(self._removed, ids)
            else:
                table = self._files.read(name, ["id", "path"])
                for path, number in zip(
                    table["path"].to_pylist(), table["id"].to_pylist(), strict=True
                ):
                    self._latest[path] = max(number, self._latest.get(path, 0))
            self._noted.add(name)

    def read(self, name: str) -> Rows:
        """The live rows of a part: no removed ids, no path that a later part has again.

        What later parts and removals say is as of the last call of `names`, `write` or
        `write_removed`, or of the first `read`.

        Raises:
            GalleryError: it is missing, damaged, or of another job.
        """
        if self._noted is None:
            self.names()
        table = self._files.read(name)
        ids = table["id"].to_numpy()
        try:
            if ids.size and (ids[0] < first_id_of(name) or (np.diff(ids) <= 0).any()):
                raise ValueError(f"its ids do not ascend from {first_id_of(name)}")
            superseded = [
                self._latest.get(path, 0) > number
                for path, number in zip(table["path"].to_pylist(), ids.tolist(), strict=True)
            ]
            dead = np.isin(ids, self._removed) | np.array(superseded, np.bool_)
            return to_rows(table.filter(pa.array(~dead)) if dead.any() else table)
        except ValueError as error:
            raise self._files.unreadable(name, error) from error

    def next_id(self) -> int:
        """Larger than any id of the job's chunks or of a part written since."""
        last = self.job.last_id
        names = self.names()
        if names and first_id_of(names[-1]) > last:
            ids = self._files.read(names[-1], ["id"])["id"].to_numpy()
            last = int(ids.max(initial=first_id_of(names[-1])))
        return last + 1

    def sample(self, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Embeddings of at most ``n`` live rows drawn at random, (m, dim), for statistics.

        From at most 64 parts, so fewer than n may come of a large job whose parts are small.
        """
        rng = np.random.default_rng(seed)
        names = self.names()
        chosen = sorted(rng.permutation(len(names))[:SAMPLED_PARTS].tolist())
        found = np.empty((0, self.job.settings.dim), np.float32)
        for left, at in zip(range(len(chosen), 0, -1), chosen, strict=True):
            vectors = self.read(names[at]).vectors
            quota = min(len(vectors), -(-(n - len(found)) // left))
            rows = np.sort(rng.choice(len(vectors), quota, replace=False))
            found = np.concatenate([found, vectors[rows].astype(np.float32)])
        return found

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, first_id: int, rows: Rows) -> str:
        """Write a part, whole or not at all, and return its name; one of that name is replaced.

        Raises:
            ValueError: the arrays do not fit each other, the job, or ``first_id`` (the smallest id
                that may be in it).
        """
        return self.write_batch(first_id, to_batch(self.job, rows))

    def write_batch(self, first_id: int, batch: pa.RecordBatch) -> str:
        """The same of rows in the schema of a part."""
        name = part_name(first_id)
        ids = batch.column("id").to_numpy()
        if first_id < 1 or (ids.size and ids[0] < first_id) or (np.diff(ids) <= 0).any():
            raise ValueError(f"ids of {name} must ascend from {first_id}, not {ids[:1].tolist()}")
        self._files.write(name, pa.Table.from_batches([batch]))
        if first_id > self.job.last_id:
            self.names()
        return name

    def write_removed(self, ids: Iterable[int]) -> str:
        """Note that these ids are removed, for ever; returns the name of the file."""
        name = new_removal_name()
        column = pa.array(sorted(set(ids)), pa.int64())
        self._files.write(name, pa.Table.from_arrays([column], schema=removed_schema(self.job)))
        self.names()
        return name

    def tidy(self) -> None:
        """Delete temporary files of writers that were killed over an hour ago."""
        self._folder.tidy()
