"""One immutable file of named arrays: magic, version, checksummed header, 64-byte aligned data.

Layout (little endian)::

    0   8 bytes   magic b"LKARRAY\\n"
    8   uint32    format version
    12  uint32    length of the header in bytes
    16  uint32    CRC-32 of the header
    20  uint32    zero
    24  header    JSON: kind, meta, arrays (name, dtype, shape, bytes, a CRC-32 per MiB)
    ..  arrays    each from a 64-byte boundary, memory-mapped on opening

Equal content gives equal bytes, and the file's name is drawn from the header, so that a file never
changes under a reader and identical data is written once.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import atomic_writer
from lookalike.errors import IndexFormatError
from lookalike.lsh.owner import check_owner

__all__ = ["FORMAT_VERSION", "ArrayFile", "open_arrays", "write_arrays"]

MAGIC = b"LKARRAY\n"
FORMAT_VERSION = 1
PREAMBLE = 24
ALIGN = 64
CHUNK = 1 << 20
READ_AHEAD_UP_TO = 64 << 20


@dataclass(frozen=True)
class ArrayFile:
    """An opened array file: ``arrays`` are read-only memory maps."""

    path: Path
    kind: str
    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    checksums: dict[str, list[int]]

    @property
    def owner(self) -> str | None:
        """Id of the index that the file belongs to; None: written before there were ids."""
        owner: str | None = self.meta.get("owner")
        return owner

    def check_owner(self, owner: str | None) -> None:
        """Raises IndexFormatError unless the file belongs to the index ``owner``."""
        check_owner(self.path.name, self.owner, owner)

    def damaged(self) -> list[str]:
        """Names of the arrays whose bytes no longer match their checksums (reads everything)."""
        return [name for name, array in self.arrays.items() if _crcs(array) != self.checksums[name]]

    def whole_rows(self, name: str) -> NDArray[np.bool_]:
        """Which rows (along the first axis) of an array lie in chunks that match their checksum."""
        array = self.arrays[name]
        whole = np.ones(len(array), np.bool_)
        row = array.nbytes // max(1, len(array))
        for i, (found, stored) in enumerate(zip(_crcs(array), self.checksums[name], strict=True)):
            if found != stored:
                whole[i * CHUNK // row : -(-(i + 1) * CHUNK // row)] = False
        return whole


def _crcs(array: NDArray[Any]) -> list[int]:
    return [zlib.crc32(chunk) for chunk in _chunks(array)]


def _chunks(array: NDArray[Any]) -> Iterator[memoryview]:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


def write_arrays(
    folder: Path, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Path:
    """Write ``arrays`` to ``folder/KIND-HASH.lka`` and return its path; written already: kept."""
    entries: list[dict[str, Any]] = []
    for name, array in arrays.items():
        entries.append(
            {
                "name": name,
                "dtype": np.dtype(array.dtype).newbyteorder("<").str,
                "shape": list(array.shape),
                "crc32": _crcs(array),
                "bytes": array.nbytes,
            }
        )
    body = {"kind": kind, "meta": dict(meta), "arrays": entries}
    header = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    path = folder / f"{kind}-{hashlib.sha256(header).hexdigest()[:16]}.lka"
    if _is_whole(path, kind):
        return path
    starts, size = _offsets(len(header), entries)
    with atomic_writer(path) as file:
        file.write(MAGIC)
        for number in (FORMAT_VERSION, len(header), zlib.crc32(header), 0):
            file.write(number.to_bytes(4, "little"))
        file.write(header)
        for array, start in zip(arrays.values(), starts, strict=True):
            file.write(b"\0" * (start - file.tell()))
            for chunk in _chunks(array):
                file.write(chunk)
        file.write(b"\0" * (size - file.tell()))
    return path


def _is_whole(path: Path, kind: str) -> bool:
    try:
        return not open_arrays(path, kind).damaged()
    except IndexFormatError:
        return False


def _offsets(header_length: int, entries: list[dict[str, Any]]) -> tuple[list[int], int]:
    position = PREAMBLE + header_length
    starts = []
    for entry in entries:
        position = -(-position // ALIGN) * ALIGN
        starts.append(position)
        position += int(entry["bytes"])
    return starts, -(-position // ALIGN) * ALIGN


def open_arrays(path: Path, kind: str, *, cut: bool = False) -> ArrayFile:
    """Map the arrays of ``path`` after checking magic, version, header and length.

    The data itself is not read; :meth:`ArrayFile.damaged` does that.

    Args:
        cut: accept a file that was cut short, for salvage: what is missing reads as zeros.

    Raises:
        IndexFormatError: the file is missing, foreign, of another version, truncated or forged.
    """
    try:
        with path.open("rb") as file:
            preamble = file.read(PREAMBLE)
            size = os.fstat(file.fileno()).st_size
            if len(preamble) < PREAMBLE or preamble[:8] != MAGIC:
                raise IndexFormatError(
                    f"{path.name} is not an index file: it begins with {preamble[:8]!r} instead of "
                    f"{MAGIC!r}"
                )
            version, length, crc, _ = (
                int.from_bytes(preamble[at : at + 4], "little") for at in (8, 12, 16, 20)
            )
            if version != FORMAT_VERSION:
                raise IndexFormatError(
                    f"{path.name} has format version {version}; this lookalike reads version "
                    f"{FORMAT_VERSION}"
                )
            header = file.read(min(length, size))
    except FileNotFoundError as error:
        raise IndexFormatError(f"{path.name} is missing") from error
    if len(header) != length or zlib.crc32(header) != crc:
        raise IndexFormatError(f"{path.name} is damaged: its header does not match its checksum")
    try:
        body = json.loads(header)
        entries = body["arrays"]
        starts, expected = _offsets(length, entries)
        dtypes = [np.dtype(entry["dtype"]) for entry in entries]
        for entry, dtype in zip(entries, dtypes, strict=True):
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if min(entry["shape"], default=0) < 0 or count * dtype.itemsize != entry["bytes"]:
                raise ValueError(entry["name"])
        meta, found = body["meta"], body["kind"]
    except (KeyError, TypeError, ValueError) as error:
        raise IndexFormatError(f"{path.name} is damaged: its header makes no sense") from error
    if found != kind:
        raise IndexFormatError(f"{path.name} holds '{found}', expected '{kind}'")
    if size != expected and not (cut and size < expected):
        raise IndexFormatError(
            f"{path.name} has {size:,} bytes, its header announces {expected:,}: it was cut or "
            f"overwritten"
        )
    if size < expected:
        buffer = np.zeros(expected, np.uint8)
        buffer[:size] = np.fromfile(path, np.uint8)
    else:
        buffer = np.memmap(path, dtype=np.uint8, mode="r")
    if isinstance(buffer, np.memmap) and size > READ_AHEAD_UP_TO and hasattr(mmap, "MADV_RANDOM"):
        # A search touches pages here and there; reading ahead would fetch most of the file.
        buffer._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    arrays: dict[str, NDArray[Any]] = {}
    for entry, dtype, start in zip(entries, dtypes, starts, strict=True):
        raw = buffer[start : start + entry["bytes"]]
        arrays[entry["name"]] = np.asarray(raw).view(dtype).reshape(entry["shape"])
    checksums = {entry["name"]: list(entry["crc32"]) for entry in entries}
    return ArrayFile(path, found, meta, arrays, checksums)
