"""The manifest: which files make up an index. Replacing it is what commits a change."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lookalike.atomic import IrregularFileError, atomic_writer, read_regular
from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import is_count, is_owner, parse_json
from lookalike.lsh.segment import Factors
from lookalike.lsh.settings import MOST_LOOKED_AT, LSHSettings

MANIFEST = "manifest.json"
FORMAT_VERSION = 7
READ_VERSIONS = (2, 3, 4, 5, 6, 7)
"""Format 2 had no owner, 3 no additions, 4 no links, 5 links without codes, 6 no factors."""
LIMIT = 64 << 20


@dataclass(frozen=True)
class SegmentEntry:
    """A segment's file, its number of items, the files that mark removed rows and that hold links
    (or None), and what was measured of it (or None).
    """

    file: str
    items: int
    removed: str | None
    links: str | None = None
    factors: Factors | None = None

    @property
    def files(self) -> set[str]:
        return {name for name in (self.file, self.removed, self.links) if name is not None}


@dataclass(frozen=True)
class Manifest:
    """Names of the files of one state of the index.

    ``owner``: id of the index that they belong to, 32 hexadecimal digits; None in format 2.
    ``hasher`` is None while the index is empty.
    """

    owner: str | None
    settings: LSHSettings
    hasher: str | None
    segments: tuple[SegmentEntry, ...]

    @property
    def files(self) -> set[str]:
        names = {self.hasher} if self.hasher else set()
        return names.union(*(entry.files for entry in self.segments))

    def write(self, folder: Path) -> None:
        body = _canonical(asdict(self))
        text = f'{{"format": {FORMAT_VERSION}, "crc32": {zlib.crc32(body)}, "index": '
        with atomic_writer(folder / MANIFEST) as file:
            file.write(text.encode() + body + b"}\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises IndexFormatError if there is none, or it is damaged, forged or of another
        version.
        """
        try:
            document = parse_json(read_regular(folder / MANIFEST, LIMIT))
            version, crc, body = document["format"], document["crc32"], document["index"]
        except FileNotFoundError as error:
            raise IndexFormatError(f"{MANIFEST} is missing") from error
        except IrregularFileError as error:
            raise IndexFormatError(f"{MANIFEST} {error.strerror}; put back the file") from error
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(f"{MANIFEST} is damaged: it is not a manifest") from error
        if version not in READ_VERSIONS:
            raise IndexFormatError(
                f"{MANIFEST} has format version {version!r}; this lookalike reads versions "
                f"{' and '.join(map(str, READ_VERSIONS))}"
            )
        try:
            if zlib.crc32(_canonical(body)) != crc:
                raise ValueError("another checksum than its content")
            if version == 2:
                body = {"owner": None, **body}
            elif not is_owner(body["owner"]):
                raise ValueError(f"the owner {body['owner']!r}")
            return cls._parse(body)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise IndexFormatError(f"{MANIFEST} is damaged: it has {error}") from error

    @classmethod
    def _parse(cls, body: Any) -> Manifest:
        """ValueError, or TypeError for a value that is not a dictionary, says what cannot be."""
        if body.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"the entries {sorted(body)}")
        settings = LSHSettings.from_dict(body["settings"])
        if not isinstance(body["segments"], list):
            raise ValueError(f"the segments {body['segments']!r}")
        segments = tuple(_segment_entry(values) for values in body["segments"])
        hasher = body["hasher"]
        if hasher is None and segments:
            raise ValueError("segments without a hasher")
        if hasher is not None:
            _check_name(hasher, "hasher")
        if len({entry.file for entry in segments}) != len(segments):
            raise ValueError("a segment twice")
        return cls(body["owner"], settings, hasher, segments)


def _segment_entry(values: Any) -> SegmentEntry:
    entry = SegmentEntry(**values)
    _check_name(entry.file, "segment")
    for kind in ("removed", "links"):
        if (name := getattr(entry, kind)) is not None:
            _check_name(name, kind)
    if not is_count(entry.items):
        raise ValueError(f"a segment of {entry.items!r} items")
    return replace(entry, factors=_factors(entry.factors))


def _factors(values: Any) -> Factors | None:
    if values is None:
        return None
    good = isinstance(values, list) and len(values) == 3
    good = good and all(isinstance(some, list) and len(some) == 3 for some in values[:2])
    numbers = [*values[0], *values[1], values[2] + 2] if good else []
    if not good or not all(isinstance(x, float) and 1 <= x <= MOST_LOOKED_AT for x in numbers):
        raise ValueError(f"the factors {values!r}")
    return Factors(tuple(values[0]), tuple(values[1]), values[2])


def _check_name(name: object, kind: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(f"{kind}-[0-9a-f]{{16}}\\.lka", name):
        raise ValueError(f"{name!r} where a {kind} file should be named")


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
