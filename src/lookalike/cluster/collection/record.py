"""An image's row as bytes, with what is needed to take the image out again.

Layout (little endian)::

    0   uint32    CRC-32 of the id (8 bytes) and of all that follows
    4   uint8     version of the layout
    5   uint8     which of hash, width, height, format and the three texts there are
    6   uint8     tables
    7   uint8     bytes of the code, in eighths
    8   uint64    size        16  int64  mtime_ns        24  uint32  width        28  uint32  height
    32  hash (16 bytes), code, keys (uint16 each)
    ..  path, format, skipped, detail, remedy: uint16 length and bytes each

Skipped files have neither code nor keys.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryDamagedError
from lookalike.gallery.store import ImageRow

__all__ = ["Record", "decode_record", "decode_skipped", "encode_record", "encode_skipped"]

VERSION = 1
HEAD = struct.Struct("<BBBBQqII")
ID = struct.Struct("<q")
HASH_BYTES = 16
TEXT_LIMIT = 0xFFFF
TEXTS = ("format", "skipped", "detail", "remedy")


@dataclass(frozen=True)
class Record:
    """An indexed image.

    Attributes:
        row: of the table of images.
        code: (bytes,) uint8.
        keys: (tables,) uint16, its bucket in each table.
    """

    row: ImageRow
    code: NDArray[np.uint8]
    keys: NDArray[np.uint16]


def encode_record(row: ImageRow, code: bytes, keys: bytes) -> bytes:
    """An indexed image.

    Args:
        code: a multiple of 8 bytes.
        keys: uint16, little endian, one per table.

    Raises:
        ValueError: the path, or a text, is longer than 65,535 bytes.
    """
    texts = [row.path, *(_bytes_of(getattr(row, name)) for name in TEXTS)]
    if max(map(len, texts)) > TEXT_LIMIT:
        raise ValueError(f"image {row.id}: a text is longer than {TEXT_LIMIT:,} bytes")
    known = (row.hash, row.width, row.height, *(getattr(row, name) for name in TEXTS))
    there = sum((value is not None) << bit for bit, value in enumerate(known))
    width, height = row.width or 0, row.height or 0
    head = HEAD.pack(
        VERSION, there, len(keys) // 2, len(code) // 8, row.size, row.mtime_ns, width, height
    )
    ends = [len(text).to_bytes(2, "little") + text for text in texts]
    body = b"".join([head, row.hash or bytes(HASH_BYTES), code, keys, *ends])
    return _checksum(row.id, body) + body


def decode_record(number: int, data: bytes) -> Record:
    """The record of image ``number``.

    Raises:
        GalleryDamagedError: it is damaged, of another image, or of another version.
    """
    if len(data) < 4 or data[:4] != _checksum(number, data[4:]):
        raise GalleryDamagedError(
            f"the record of image {number} in the cluster does not match its checksum; load the "
            f"collection anew: lookalike cluster load"
        )
    version, there, tables, eighths, size, mtime_ns, width, height = HEAD.unpack_from(data, 4)
    if version != VERSION:
        raise GalleryDamagedError(
            f"the record of image {number} has version {version}, this lookalike reads version "
            f"{VERSION}; load the collection anew: lookalike cluster load"
        )
    at = 4 + HEAD.size + HASH_BYTES
    digest = data[at - HASH_BYTES : at]
    code = np.frombuffer(data, np.uint8, 8 * eighths, at)
    keys = np.frombuffer(data, "<u2", tables, at + len(code))
    at += len(code) + 2 * tables
    texts = []
    for _ in range(1 + len(TEXTS)):
        length = int.from_bytes(data[at : at + 2], "little")
        texts.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    path, *others = texts
    known = [bool(there >> bit & 1) for bit in range(3 + len(TEXTS))]
    words = [
        text.decode(errors="surrogateescape") if has else None
        for text, has in zip(others, known[3:], strict=True)
    ]
    row = ImageRow(
        number,
        path,
        size,
        mtime_ns,
        digest if known[0] else None,
        width if known[1] else None,
        height if known[2] else None,
        words[0],
        words[1],
        words[2],
        words[3],
    )
    return Record(row, code, keys)


def encode_skipped(row: ImageRow) -> bytes:
    """A file that was skipped or taken out: its id, 8 bytes, and its record."""
    return ID.pack(row.id) + encode_record(row, b"", b"")


def decode_skipped(data: bytes) -> ImageRow:
    """Raises GalleryDamagedError as `decode_record`."""
    number = ID.unpack_from(data)[0] if len(data) >= ID.size else -1
    return decode_record(number, data[ID.size :]).row


def _bytes_of(text: str | None) -> bytes:
    return b"" if text is None else text.encode(errors="surrogateescape")


def _checksum(number: int, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(ID.pack(number))).to_bytes(4, "little")
