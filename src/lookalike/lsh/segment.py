"""An immutable run of hashed vectors: codes in bucket order, offsets, ids and vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, open_arrays, write_arrays
from lookalike.lsh.hashing import MAX_KEY_BITS, Hasher, pack_bits

__all__ = ["Segment", "default_key_bits"]

PROJECT_ROWS = 16_384


def default_key_bits(n: int) -> int:
    """Key bits for ``n`` items: buckets of about 32 to 64, at most 2^16 of them."""
    return max(0, min(16, int(math.log2(max(n, 1) / 32)))) if n > 32 else 0


@dataclass(frozen=True)
class Segment:
    """Items in *row* order, that is, in bucket order of the first table.

    Attributes:
        key_bits: bits that name a bucket here.
        ids: (n,) int64.
        by_id: (n,) uint32 rows in order of their ids, for look-ups by bisection.
        vectors: (n, dim) float16 or float32, unit length.
        codes: (tables, n, words) uint64, each table in its own bucket order.
        offsets: (tables, 2^key_bits + 1) uint32.
        rows: (tables, n) uint32, position in a table -> row; (1, 0) for a single table.
        file: where it is stored, if it is.
    """

    key_bits: int
    ids: NDArray[np.int64]
    by_id: NDArray[np.uint32]
    vectors: NDArray[Any]
    codes: NDArray[np.uint64]
    offsets: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    file: ArrayFile | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(cls, hasher: Hasher, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Segment:
        """Hash ``vectors`` (n, dim), unit rows, and sort them into buckets.

        The result depends on the set of items alone, not on their order.
        """
        settings = hasher.settings
        by_input_id = np.argsort(ids, kind="stable")
        ids = ids[by_input_id]
        key_bits = settings.key_bits
        if key_bits is None:
            key_bits = default_key_bits(len(ids))
        keys = np.empty((settings.tables, len(ids)), np.uint32)
        codes = np.empty((len(ids), settings.code_bits // 64), np.uint64)
        powers = (1 << np.arange(MAX_KEY_BITS, dtype=np.uint32))[:key_bits]
        stored = np.empty((len(ids), settings.dim), settings.vectors)
        for start in range(0, len(ids), PROJECT_ROWS):
            part = slice(start, start + PROJECT_ROWS)
            stored[part] = vectors[by_input_id[part]]
            # Hash what is stored, so that a rebuild from the stored vectors gives the same bits.
            key_margins, code_margins = hasher.project(stored[part].astype(np.float32))
            keys[:, part] = ((key_margins[:, :, :key_bits] > 0) @ powers).T
            codes[part] = pack_bits(code_margins > 0)
        row_order = np.argsort(keys[0], kind="stable")
        keys, codes = keys[:, row_order], codes[row_order]
        position = np.empty(len(ids), np.uint32)
        position[row_order] = np.arange(len(ids), dtype=np.uint32)
        offsets = np.zeros((settings.tables, (1 << key_bits) + 1), np.uint32)
        for t in range(settings.tables):
            counts = np.bincount(keys[t], minlength=1 << key_bits)
            offsets[t, 1:] = np.cumsum(counts)
        if settings.tables == 1:
            rows, table_codes = np.empty((1, 0), np.uint32), codes[np.newaxis]
        else:
            rows = np.argsort(keys, axis=1, kind="stable").astype(np.uint32)
            table_codes = codes[rows]
        return cls(
            key_bits, ids[row_order], position, stored[row_order], table_codes, offsets, rows
        )

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``ids``, -1 where an id is not here."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self.ids, ids, sorter=self.by_id)
        rows = self.by_id[np.minimum(at, len(self) - 1)].astype(np.int64)
        return np.where(self.ids[rows] == ids, rows, -1)

    def save(self, folder: Path, hasher_name: str) -> Path:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        meta = {"key_bits": self.key_bits, "hasher": hasher_name}
        return write_arrays(folder, "segment", meta, arrays)

    @classmethod
    def open(cls, path: Path, hasher: Hasher, hasher_name: str) -> Segment:
        """Map a stored segment; raises IndexFormatError if it does not fit ``hasher``."""
        file = open_arrays(path, "segment")
        if file.meta.get("hasher") != hasher_name:
            raise IndexFormatError(
                f"{path.name} was hashed with {file.meta.get('hasher')}, the index uses "
                f"{hasher_name}"
            )
        settings, key_bits = hasher.settings, file.meta.get("key_bits")
        tables, words = settings.tables, settings.code_bits // 64
        n = file.arrays["ids"].size if "ids" in file.arrays else -1
        if not isinstance(key_bits, int) or not 0 <= key_bits <= MAX_KEY_BITS:
            raise IndexFormatError(f"{path.name} is damaged: key_bits {key_bits!r}")
        expected = {
            "ids": ((n,), "<i8"),
            "by_id": ((n,), "<u4"),
            "vectors": ((n, settings.dim), np.dtype(settings.vectors).str),
            "codes": ((tables, n, words), "<u8"),
            "offsets": ((tables, (1 << key_bits) + 1), "<u4"),
            "rows": ((tables, n if tables > 1 else 0), "<u4"),
        }
        found = {name: (array.shape, array.dtype.str) for name, array in file.arrays.items()}
        if found != expected:
            raise IndexFormatError(f"{path.name} holds arrays {found}, expected {expected}")
        return cls(key_bits, **file.arrays, file=file)


ARRAYS = ("ids", "by_id", "vectors", "codes", "offsets", "rows")
