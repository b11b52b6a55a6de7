"""Parts and lists of removals as Parquet files: their names, written whole, read with checks."""

from __future__ import annotations

import io
import re
import shlex
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

from lookalike.cluster.job.filesystem import first_line
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.schema import Job, note_of, part_schema, removed_schema
from lookalike.errors import GalleryError

__all__ = ["PartFiles", "first_id_of", "is_part", "is_removal", "new_removal_name", "part_name"]

PART = re.compile(r"part-(\d{12,})\.parquet")
REMOVAL = re.compile(r"removed-[0-9a-f]{32}\.parquet")


def part_name(first_id: int) -> str:
    """Of the part whose ids begin there."""
    return f"part-{first_id:012d}.parquet"


def is_part(name: str) -> bool:
    """Whether it is the name of a part."""
    return PART.fullmatch(name) is not None


def first_id_of(name: str) -> int:
    """The reverse of `part_name`. Raises ValueError if it is no part's name."""
    found = PART.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a part")
    return int(found[1])


def new_removal_name() -> str:
    """One that nobody else has."""
    return f"removed-{uuid.uuid4().hex}.parquet"


def is_removal(name: str) -> bool:
    """Whether it is the name of a list of removed ids."""
    return REMOVAL.fullmatch(name) is not None


class PartFiles:
    """The Parquet files of a job's folder."""

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self._job = job

    def write(self, name: str, table: pa.Table) -> None:
        """Whole or not at all; pages carry checksums. Raises GalleryError."""
        buffer = io.BytesIO()  # so that what is sent to an object store is whole at once
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        self.folder.write(name, buffer.getvalue())

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Raises GalleryError: it is missing, damaged, or of another job."""
        expected = part_schema(self._job) if is_part(name) else removed_schema(self._job)
        try:
            with self.folder.open(name) as source:
                file = pq.ParquetFile(source, page_checksum_verification=True)
                self._check_note(name, file.schema_arrow)
                if not file.schema_arrow.equals(expected):
                    raise ValueError(f"it has the columns {file.schema_arrow.names}")
                return file.read(columns)
        except FileNotFoundError as error:
            raise GalleryError(
                f"{name} in {self.folder.where} is missing; {self._remedy(name)}"
            ) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.unreadable(name, error) from error

    def _check_note(self, name: str, schema: pa.Schema) -> None:
        note = (schema.metadata or {}).get(b"lookalike", b"").decode(errors="replace")
        own = note_of(self._job)["lookalike"]
        if note != own:
            raise GalleryError(
                f"{name} in {self.folder.where} is of another job ({note or 'no note'}, this one "
                f"is {own}); take it away"
            )

    def unreadable(self, name: str, error: BaseException) -> GalleryError:
        """What to raise for a file whose content is not what it should be."""
        return GalleryError(
            f"{name} in {self.folder.where} is damaged or cannot be read ({first_line(error)}); "
            f"delete it if it is damaged, and {self._remedy(name)}"
        )

    def _remedy(self, name: str) -> str:
        if is_part(name) and first_id_of(name) <= self._job.last_id:
            return f"run again: {self.command()}"
        return "restore it from a copy, or bring the gallery up to date again"

    def command(self) -> str:
        """What embeds the missing parts."""
        words = ["lookalike", "cluster", "embed", self._job.source or "SOURCE"]
        words += ["--out", self.folder.where]
        return shlex.join(words)
