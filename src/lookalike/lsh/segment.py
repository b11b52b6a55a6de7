"""An immutable run of hashed vectors: codes in bucket order, ids and vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, open_arrays, write_arrays
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.threads import cores, for_all_parts

__all__ = ["Segment", "default_key_bits", "gather"]

BUILD_ROWS = 2048
BUILD_BUCKETS = 512
BLOCK = 32
BUCKET = 64
Floats = NDArray[np.float32]


def default_key_bits(n: int) -> int:
    """About 2 sqrt(n) buckets, but of at least 64 items on average."""
    buckets = min(2 * math.sqrt(n), n / BUCKET)
    return max(0, round(math.log2(buckets))) if buckets > 1 else 0


class Items(NamedTuple):
    """Hashed items before they are packed: ids (n,), codes (n, bytes), corrections (n,), keys
    (tables, n).
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    keys: NDArray[np.uint32]


class Scanned(NamedTuple):
    """Of all tables in one: where each bucket starts (a row, or an index into ``rows``), its number
    of items, its first block; then codes, corrections, rows, vectors and ids of a segment.
    """

    starts: NDArray[np.uint32]
    sizes: NDArray[np.uint32]
    blocks: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    rows: NDArray[np.uint32]
    vectors: NDArray[Any]
    ids: NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Items in *row* order, that is, in bucket order of the first table.

    Attributes:
        key_bits: base-2 logarithm of the number of buckets per table.
        ids: (n,) int64.
        by_id: (n,) uint32 rows in order of their ids, for look-ups by bisection.
        vectors: (n, dim) float16 or float32, unit length; (0, dim) if none are kept.
        codes: uint8, flat, in blocks of 32 (see ``coding.pack_blocks``), table after table, each
            bucket from a block of its own.
        corrections: (blocks * 32,) int16, see ``Hasher.codes``.
        offsets: (tables, buckets + 1) uint32: where each bucket begins in its table.
        blocks: (tables, buckets + 1) uint32: its first block, counted over all tables.
        rows: (tables, n) uint32, position in a table -> row; (1, 0) for a single table.
        file: where it is stored, if it is.
    """

    key_bits: int
    ids: NDArray[np.int64]
    by_id: NDArray[np.uint32]
    vectors: NDArray[Any]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    offsets: NDArray[np.uint32]
    blocks: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    file: ArrayFile | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __post_init__(self) -> None:
        # Stored arrays are read-only maps; if those in memory are, too, one compiled kernel serves.
        for name in ARRAYS:
            getattr(self, name).flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled are the arrays, not the file."""
        return type(self), (self.key_bits, *(getattr(self, name) for name in ARRAYS))

    @cached_property
    def scanned(self) -> Scanned:
        """The arrays as ``kernels.search_range`` takes them."""
        tables, n = len(self.offsets), len(self)
        starts = self.offsets[:, :-1] + n * np.arange(tables)[:, np.newaxis]
        halves = self.vectors.dtype == np.float16
        return Scanned(
            starts.astype(np.uint32).ravel(),
            np.diff(self.offsets, axis=1).astype(np.uint32).ravel(),
            self.blocks[:, :-1].ravel(),
            self.codes,
            self.corrections,
            self.rows.ravel(),
            self.vectors.view(np.uint16) if halves else self.vectors,
            self.ids,
        )

    @classmethod
    def build(cls, hasher: Hasher, ids: NDArray[np.int64], vectors: NDArray[Any]) -> Segment:
        """Hash ``vectors`` (n, dim), unit rows, and sort them into buckets.

        The result depends on the set of items alone, not on their order.
        """
        from lookalike.lsh.coding import round_to_half

        settings, n = hasher.settings, len(ids)
        order = _order(ids)
        keys = np.empty((settings.tables, n), np.uint32)
        codes = np.empty((n, settings.code_bits // 8), np.uint8)
        corrections = np.empty(n, np.int16)
        kept = np.empty((0 if settings.vectors == "none" else n, settings.dim), _dtype(settings))
        key_bits = _choose_key_bits(hasher, n)

        def hash_part(part: slice) -> None:
            # Hash what is stored, so that hashing it again later gives the same bits.
            chosen = order[part]
            if vectors.dtype == np.float32 and kept.dtype == np.float16:
                rows = np.empty((len(chosen), settings.dim), np.float32)
                halves = kept[part] if len(kept) else np.empty(rows.shape, np.float16)
                round_to_half(vectors, chosen, halves.view(np.uint16), rows)
            else:
                rows = vectors[chosen].astype(np.float32, copy=False)
                if len(kept):
                    kept[part] = rows
            keys[:, part], codes[part], corrections[part] = hasher.hash(rows, key_bits)

        for_all_parts(hash_part, n, BUILD_ROWS, cores())
        items = Items(ids[order], codes, corrections, keys)
        return cls._assemble(key_bits, items, lambda chosen: kept[chosen] if len(kept) else kept)

    @classmethod
    def merge(cls, hasher: Hasher, parts: Sequence[tuple[Segment, NDArray[np.bool_]]]) -> Segment:
        """One segment of all items that are not removed; equal to building it from their vectors.

        Args:
            parts: segments hashed by ``hasher``, and which rows of each are removed, (n,) or (0,).

        Raises:
            ValueError: they keep no vectors and differ in their key bits, so that keys are unknown.
        """
        kept = [
            (segment, np.flatnonzero(~marks) if marks.size else np.arange(len(segment)))
            for segment, marks in parts
        ]
        items = [segment.items(hasher, rows) for segment, rows in kept]
        ids = np.concatenate([part.ids for part in items])
        codes = np.concatenate([part.codes for part in items])
        corrections = np.concatenate([part.corrections for part in items])
        keys = np.concatenate([part.keys for part in items], axis=1)
        del items
        n = len(ids)
        sizes = {segment.key_bits for segment, _ in parts}
        key_bits = _choose_key_bits(hasher, n)
        if hasher.settings.vectors == "none" and sizes != {key_bits}:
            if len(sizes) > 1:
                raise ValueError("segments without vectors and with different key bits stay apart")
            (key_bits,) = sizes
        elif sizes != {key_bits}:
            first = 0
            for segment, rows in kept:
                segment._rekey(hasher, key_bits, rows, keys[:, first : first + len(rows)])
                first += len(rows)
        order = np.argsort(ids, kind="stable")
        together = Items(ids[order], codes[order], corrections[order], keys[:, order])
        return cls._assemble(key_bits, together, lambda chosen: gather(kept, order[chosen]))

    def _rekey(
        self, hasher: Hasher, key_bits: int, rows: NDArray[np.int64], out: NDArray[np.uint32]
    ) -> None:
        """The keys of ``rows`` (n,) with another number of bits: out (tables, n)."""

        def key_part(part: slice) -> None:
            out[:, part] = hasher.keys(self.vectors[rows[part]].astype(np.float32), key_bits)

        for_all_parts(key_part, len(rows), BUILD_ROWS, cores())

    def items(self, hasher: Hasher, rows: NDArray[np.int64]) -> Items:
        """The items of ``rows`` (n,) as they were before they were packed."""
        keys = np.empty((len(self.offsets), len(self)), np.uint32)
        for t, offsets in enumerate(self.offsets):
            in_order = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint32), np.diff(offsets))
            keys[t, self.rows[t] if self.rows.size else slice(None)] = in_order
        codes = self.codes_of(rows, hasher.settings.code_bits // 8).view(np.uint8)
        corrections = np.empty(len(rows), np.int16)
        starts, bucket = self.offsets[0], keys[0, rows]
        at = rows - starts[bucket].astype(np.int64)
        corrections = self.corrections[self.blocks[0][bucket].astype(np.int64) * BLOCK + at]
        return Items(self.ids[rows], codes, corrections, keys[:, rows])

    @classmethod
    def _assemble(
        cls, key_bits: int, items: Items, take: Callable[[NDArray[np.int64]], NDArray[Any]]
    ) -> Segment:
        """Sort hashed items into buckets and pack their codes.

        ``take`` gives the vectors of the items at given positions, so that they, the bulk, are
        copied once.
        """
        from lookalike.lsh.coding import pack_blocks

        tables, n = items.keys.shape
        width = items.codes.shape[1]
        row_order = np.argsort(items.keys[0], kind="stable")
        keys = items.keys[:, row_order]
        codes, corrections = items.codes[row_order], items.corrections[row_order]
        offsets = np.zeros((tables, (1 << key_bits) + 1), np.uint32)
        blocks = np.zeros_like(offsets)
        before = 0
        for t in range(tables):
            counts = np.bincount(keys[t], minlength=1 << key_bits)
            offsets[t, 1:] = np.cumsum(counts)
            blocks[t, 0] = before
            blocks[t, 1:] = before + np.cumsum(-(-counts // BLOCK))
            before = int(blocks[t, -1])
        flat_codes = np.zeros(before * width * BLOCK, np.uint8)
        flat_corrections = np.zeros(before * BLOCK, np.int16)
        rows = np.empty((1, 0) if tables == 1 else (tables, n), np.uint32)
        by_id = np.empty(n, np.uint32)
        by_id[row_order] = np.arange(n, dtype=np.uint32)
        for t in range(tables):
            # By id within a bucket in every table: an order that the bucket alone tells.
            by_key = np.argsort(items.keys[t], kind="stable") if t else row_order
            positions = by_id[by_key].astype(np.int64)
            if tables > 1:
                rows[t] = positions

            def pack(some: slice, t: int = t, positions: NDArray[np.int64] = positions) -> None:
                edges = slice(some.start, some.stop + 1)
                pack_blocks(
                    codes,
                    corrections,
                    positions,
                    offsets[t, edges],
                    blocks[t, edges],
                    flat_codes,
                    flat_corrections,
                )

            for_all_parts(pack, 1 << key_bits, BUILD_BUCKETS, cores())
        return cls(
            key_bits,
            items.ids[row_order],
            by_id,
            take(row_order),
            flat_codes,
            flat_corrections,
            offsets,
            blocks,
            rows,
        )

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``ids``, -1 where an id is not here."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        low, high = np.zeros(len(ids), np.int64), np.full(len(ids), len(self), np.int64)
        while (low < high).any():  # bisection that reads only what it compares
            middle = (low + high) // 2
            below = (low < high) & (self.ids[self.by_id[np.minimum(middle, len(self) - 1)]] < ids)
            low = np.where(below, middle + 1, low)
            high = np.where(below | (low >= high), high, middle)
        rows = self.by_id[np.minimum(low, len(self) - 1)].astype(np.int64)
        return np.where(self.ids[rows] == ids, rows, -1)

    def codes_of(self, rows: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
        """The packed codes of ``rows``: (r, width / 8) words."""
        from lookalike.lsh.coding import gather_codes

        out = np.empty((len(rows), width), np.uint8)
        gather_codes(rows, self.offsets[0], self.blocks[0], self.codes, out)
        return out.view(np.uint64)

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
        if not isinstance(key_bits, int) or not 0 <= key_bits <= hasher.max_key_bits:
            raise IndexFormatError(f"{path.name} is damaged: key_bits {key_bits!r}")
        found = {name: (array.shape, array.dtype.str) for name, array in file.arrays.items()}
        n = file.arrays["ids"].size if "ids" in found else -1
        blocks = file.arrays["corrections"].size // BLOCK if "corrections" in found else -1
        tables, kept = settings.tables, settings.vectors
        shape = tables, (1 << key_bits) + 1
        expected = {
            "ids": ((n,), "<i8"),
            "by_id": ((n,), "<u4"),
            "vectors": ((0 if kept == "none" else n, settings.dim), _dtype(settings).str),
            "codes": ((blocks * BLOCK * settings.code_bits // 8,), "|u1"),
            "corrections": ((blocks * BLOCK,), "<i2"),
            "offsets": (shape, "<u4"),
            "blocks": (shape, "<u4"),
            "rows": ((tables, n) if tables > 1 else (1, 0), "<u4"),
        }
        if found != expected:
            raise IndexFormatError(f"{path.name} holds arrays {found}, expected {expected}")
        return cls(key_bits, **file.arrays, file=file)


ARRAYS = ("ids", "by_id", "vectors", "codes", "corrections", "offsets", "blocks", "rows")


def _dtype(settings: LSHSettings) -> np.dtype[Any]:
    """How vectors are kept; those that are not are hashed as float16, too."""
    return np.dtype("float32" if settings.vectors == "float32" else "float16")


def gather(
    parts: Sequence[tuple[Segment, NDArray[np.int64]]], order: NDArray[np.int64]
) -> NDArray[Any]:
    """The vectors of rows of several segments, counted one after the other, in ``order`` (n,)."""
    like = parts[0][0].vectors
    if not len(like):
        return like
    out = np.empty((len(order), like.shape[1]), like.dtype)
    ends = np.cumsum([len(rows) for _, rows in parts])
    for start in range(0, len(order), BUILD_ROWS):
        some = order[start : start + BUILD_ROWS]
        part_of = np.searchsorted(ends, some, side="right")
        for i in np.unique(part_of):
            segment, rows = parts[i]
            here = part_of == i
            first = ends[i] - len(rows)
            out[start : start + BUILD_ROWS][here] = segment.vectors[rows[some[here] - first]]
    return out


def _order(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by rising id, which they mostly are already."""
    if (ids[1:] > ids[:-1]).all():
        return np.arange(len(ids))
    return np.argsort(ids, kind="stable")


def _choose_key_bits(hasher: Hasher, n: int) -> int:
    asked = hasher.settings.key_bits
    return min(default_key_bits(n) if asked is None else asked, hasher.max_key_bits)
