"""The manifest: which files make up an index. Replacing it is what commits a change."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookalike.atomic import atomic_writer
from lookalike.errors import IndexFormatError

__all__ = ["MANIFEST", "Manifest", "SegmentEntry"]

MANIFEST = "manifest.json"
FORMAT_VERSION = 3
READ_VERSIONS = (2, 3)
"""Format 2 had no owner."""


@dataclass(frozen=True)
class SegmentEntry:
    """A segment's file, its number of items, and the file that marks removed rows (or None)."""

    file: str
    items: int
    removed: str | None


@dataclass(frozen=True)
class Manifest:
    """Names of the files of one state of the index.

    ``owner``: id of the index that they belong to, 32 hexadecimal digits; None in format 2.
    ``hasher`` is None while the index is empty.
    """

    owner: str | None
    settings: dict[str, Any]
    hasher: str | None
    segments: tuple[SegmentEntry, ...]

    @property
    def files(self) -> set[str]:
        names = {self.hasher} if self.hasher else set()
        for entry in self.segments:
            names |= {entry.file} | ({entry.removed} if entry.removed else set())
        return names

    def write(self, folder: Path) -> None:
        body = _canonical(asdict(self))
        text = f'{{"format": {FORMAT_VERSION}, "crc32": {zlib.crc32(body)}, "index": '
        with atomic_writer(folder / MANIFEST) as file:
            file.write(text.encode() + body + b"}\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises IndexFormatError if there is none, or it is damaged or of another version."""
        try:
            document = json.loads((folder / MANIFEST).read_bytes())
            version, crc, body = document["format"], document["crc32"], document["index"]
        except FileNotFoundError as error:
            raise IndexFormatError(f"{MANIFEST} is missing") from error
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(f"{MANIFEST} is damaged: it is no manifest") from error
        if version not in READ_VERSIONS:
            raise IndexFormatError(
                f"{MANIFEST} has format version {version}; this lookalike reads versions "
                f"{' and '.join(map(str, READ_VERSIONS))}"
            )
        if zlib.crc32(_canonical(body)) != crc:
            raise IndexFormatError(f"{MANIFEST} is damaged: it does not match its checksum")
        segments = tuple(SegmentEntry(**entry) for entry in body["segments"])
        owner = None if version == 2 else body["owner"]
        manifest = cls(owner, body["settings"], body["hasher"], segments)
        for name in manifest.files:
            if "/" in name or "\\" in name or name.startswith("."):
                raise IndexFormatError(f"{MANIFEST} names a file outside the index: {name!r}")
        return manifest


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
