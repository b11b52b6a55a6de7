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
changes under a reader and identical data is written once. Each file keeps the id of its index, the
owner, so that those of two indexes are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import IrregularFileError, atomic_writer, open_regular
from lookalike.errors import IndexFormatError

MAGIC = b"LKARRAY\n"
FORMAT_VERSION = 1
PREAMBLE = 24
ALIGN = 64
CHUNK = 1 << 20
READ_AHEAD_UP_TO = 64 << 20
HEADER_LIMIT = 64 << 20
MOST_ROWS = 1 << 40
DTYPES = ("|u1", "<i2", "<u4", "<i8", "<f2", "<f4")


@dataclass(frozen=True)
class ArrayFile:
    """An opened array file of ``bytes`` bytes: ``arrays`` are read-only memory maps."""

    path: Path
    kind: str
    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    checksums: dict[str, list[int]]
    bytes: int

    @property
    def owner(self) -> str | None:
        """Id of the index that the file belongs to; None: written before there were ids."""
        owner: str | None = self.meta.get("owner")
        return owner

    def check_owner(self, owner: str | None) -> None:
        """Raises IndexFormatError unless the file belongs to the index ``owner``."""
        check_owner(self.path.name, self.owner, owner)

    def is_in(self, folder: Path, owner: str, **meta: str) -> bool:
        """Whether ``folder`` holds it, of this owner and with these entries of ``meta``."""
        own = (self.owner, {name: self.meta.get(name) for name in meta}) == (owner, meta)
        return own and (folder / self.path.name).exists()

    def damaged(self) -> list[str]:
        """Names of the arrays whose bytes no longer match their checksums (reads everything)."""
        return [name for name, array in self.arrays.items() if _crcs(array) != self.checksums[name]]

    def whole_rows(self, name: str) -> NDArray[np.bool_]:
        """Which rows (along the first axis) of an array lie in chunks that match their checksum."""
        array = self.arrays[name]
        whole = np.ones(len(array), np.bool_)
        row = array.nbytes // max(1, len(array))
        stored = self.checksums[name]
        for i, found in enumerate(_crcs(array)):
            if found != stored[i]:
                whole[i * CHUNK // row : -(-(i + 1) * CHUNK // row)] = False
        return whole


def _crcs(array: NDArray[Any]) -> list[int]:
    return [zlib.crc32(chunk) for chunk in _chunks(array)]


def _chunks(array: NDArray[Any]) -> Iterator[memoryview]:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


def write_arrays(
    folder: Path,
    kind: str,
    meta: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    fixed_name: str | None = None,
) -> Path:
    """Write ``arrays`` to ``folder/KIND-HASH.lka`` and return its path; written already: kept.

    ``fixed_name``: of a file that has one name whatever it holds, which replaces an earlier one.
    """
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
    path = folder / (fixed_name or f"{kind}-{hashlib.sha256(header).hexdigest()[:16]}.lka")
    if fixed_name is None and _is_whole(path, kind):
        return path
    starts, size = _offsets(len(header), [array.nbytes for array in arrays.values()])
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


def _offsets(header_length: int, sizes: list[int]) -> tuple[list[int], int]:
    """Where each array begins, and the length of the file."""
    position = PREAMBLE + header_length
    starts = []
    for size in sizes:
        position = -(-position // ALIGN) * ALIGN
        starts.append(position)
        position += size
    return starts, -(-position // ALIGN) * ALIGN


def open_arrays(path: Path, kind: str, *, cut: bool = False) -> ArrayFile:
    """Map the arrays of ``path`` after checking magic, version, header and length.

    The data itself is not read; :meth:`ArrayFile.damaged` does that.

    Args:
        cut: accept a file that was cut short, for salvage: arrays end at their last whole row.

    Raises:
        IndexFormatError: the file is missing, not a regular file (links are not followed), foreign,
            of another version, truncated or forged.
    """
    try:
        descriptor = open_regular(path)
    except FileNotFoundError as error:
        raise IndexFormatError(f"{path.name} is missing") from error
    except IrregularFileError as error:
        raise IndexFormatError(f"{path.name} {error.strerror}; put back the file") from error
    with open(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header_length, content = _read_header(path.name, file, size)
        try:
            found, meta, entries = _parse(content)
        except ValueError as error:
            raise IndexFormatError(f"{path.name} is damaged: its header has {error}") from error
        if found != kind:
            raise IndexFormatError(f"{path.name} holds '{found}', expected '{kind}'")
        starts, expected = _offsets(header_length, [entry.bytes for entry in entries])
        if size != expected and not (cut and size < expected):
            raise IndexFormatError(
                f"{path.name} has {size:,} bytes, its header announces {expected:,}: it was cut or "
                f"overwritten"
            )
        buffer = np.memmap(file, dtype=np.uint8, mode="r")
    if size > READ_AHEAD_UP_TO and hasattr(mmap, "MADV_RANDOM"):
        # A search touches pages here and there; reading ahead would fetch most of the file.
        buffer._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    data = np.asarray(buffer)
    arrays: dict[str, NDArray[Any]] = {}
    for entry, start in zip(entries, starts, strict=True):
        raw = data[start : start + entry.bytes]
        rows = len(raw) // entry.row_bytes if len(raw) < entry.bytes else entry.shape[0]
        whole = raw[: rows * entry.row_bytes].view(entry.dtype)
        arrays[entry.name] = whole.reshape(rows, *entry.shape[1:])
    checksums = {entry.name: entry.crc32 for entry in entries}
    return ArrayFile(path, found, meta, arrays, checksums, size)


def _read_header(name: str, file: BinaryIO, size: int) -> tuple[int, bytes]:
    """Length and content of the header, which matches its checksum."""
    preamble = file.read(PREAMBLE)
    if len(preamble) < PREAMBLE or preamble[:8] != MAGIC:
        raise IndexFormatError(
            f"{name} is not an index file: it begins with {preamble[:8]!r} instead of {MAGIC!r}"
        )
    version, length, crc, _ = (
        int.from_bytes(preamble[at : at + 4], "little") for at in (8, 12, 16, 20)
    )
    if version != FORMAT_VERSION:
        raise IndexFormatError(
            f"{name} has format version {version}; this lookalike reads version {FORMAT_VERSION}"
        )
    if length > HEADER_LIMIT:
        raise IndexFormatError(
            f"{name} is damaged: its header would have {length:,} bytes, {HEADER_LIMIT:,} at most"
        )
    header = file.read(min(length, size))
    if len(header) != length or zlib.crc32(header) != crc:
        raise IndexFormatError(f"{name} is damaged: its header does not match its checksum")
    return length, header


class _Entry(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bytes: int
    crc32: list[int]

    @property
    def row_bytes(self) -> int:
        return max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)


def _parse(header: bytes) -> tuple[str, dict[str, Any], list[_Entry]]:
    """Kind, meta and arrays of a header; ValueError says which value cannot be."""
    body = parse_json(header)
    if not isinstance(body, dict) or body.keys() != {"kind", "meta", "arrays"}:
        raise ValueError("other entries than kind, meta and arrays")
    kind, meta, arrays = body["kind"], body["meta"], body["arrays"]
    if not (isinstance(kind, str) and isinstance(meta, dict) and isinstance(arrays, list)):
        raise ValueError("kind, meta or arrays of another type")
    if (owner := meta.get("owner")) is not None and not is_owner(owner):
        raise ValueError(f"the owner {owner!r}")
    entries = [_entry(values) for values in arrays]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two arrays of one name")
    return kind, meta, entries


def _entry(values: Any) -> _Entry:
    if not isinstance(values, dict) or values.keys() != {*_Entry._fields}:
        raise ValueError("an array without name, dtype, shape, bytes and crc32 alone")
    name, dtype, shape = values["name"], values["dtype"], values["shape"]
    size, crcs = values["bytes"], values["crc32"]
    if not isinstance(name, str):
        raise ValueError(f"an array named {name!r}")
    if dtype not in DTYPES:
        raise ValueError(f"an array of dtype {dtype!r}")
    if not (isinstance(shape, list) and 1 <= len(shape) <= 3 and all(map(is_count, shape))):
        raise ValueError(f"an array of shape {shape!r}")
    kind = np.dtype(dtype)
    if max(shape) > MOST_ROWS or not is_count(size) or math.prod(shape) * kind.itemsize != size:
        raise ValueError(f"an array {name!r} of {size!r} bytes")
    if not (
        isinstance(crcs, list)
        and len(crcs) == -(-size // CHUNK)
        and all(is_count(crc) and crc < 1 << 32 for crc in crcs)
    ):
        raise ValueError(f"an array {name!r} with wrong checksums")
    return _Entry(name, kind, tuple(shape), size, crcs)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value of a JSON document is a whole number from 0 to 2^63 - 1 (bool is not)."""
    return type(value) is int and 0 <= value < 1 << 63


def parse_json(content: bytes) -> Any:
    """The value of a JSON document. ValueError for whatever is not one; NaN and infinities are
    not, nor is what is nested too deeply.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"the value {name}")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


def new_owner() -> str:
    """32 random hexadecimal digits."""
    return secrets.token_hex(16)


def is_owner(value: object) -> bool:
    """Whether ``value`` is an id: 32 lowercase hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None


def check_owner(name: str, found: str | None, owner: str | None) -> None:
    """Raises IndexFormatError unless the file ``name``, of the index ``found``, is of ``owner``."""
    if found != owner:
        raise IndexFormatError(
            f"{name} belongs to {_index(found)}, not to {_index(owner)}: put back the file that "
            f"belongs here, or build the index again"
        )


def _index(owner: str | None) -> str:
    return "an index without an id" if owner is None else f"the index {owner}"
