"""An immutable run of hashed vectors: codes in bucket order, ids and vectors."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, is_count, open_arrays, write_arrays
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.settings import LSHSettings
from lookalike.threads import cores, for_all_parts

__all__ = ["ARRAYS", "Segment", "are_unit", "default_key_bits", "gather"]

BUILD_ROWS = 2048
BUILD_BUCKETS = 512
BLOCK = 32
BUCKET = 64
FEW = 64
"""Ids that are looked up one by one."""
UNIT = 0.01
Floats = NDArray[np.float32]


def default_key_bits(n: int) -> int:
    """About 2 sqrt(n) buckets, but of at least 64 items on average."""
    buckets = min(2 * math.sqrt(n), n / BUCKET)
    return max(0, round(math.log2(buckets))) if buckets > 1 else 0


class Items(NamedTuple):
    """Hashed items before they are packed: ids (n,), codes (n, bytes), corrections (n,), additions
    (n,) or (0,), keys (tables, n).
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    additions: NDArray[np.int16]
    keys: NDArray[np.uint32]


class Scanned(NamedTuple):
    """Of all tables in one: where each bucket starts (a row, or an index into ``rows``), its number
    of items, its first block; then codes, corrections, additions, rows, vectors and ids of a
    segment.
    """

    starts: NDArray[np.uint32]
    sizes: NDArray[np.uint32]
    blocks: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    additions: NDArray[np.int16]
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
        corrections, additions: (blocks * 32,) int16, see ``Hasher.codes``; additions may be (0,).
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
    additions: NDArray[np.int16]
    offsets: NDArray[np.uint32]
    blocks: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    file: ArrayFile | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __post_init__(self) -> None:
        # Stored arrays are read-only maps; if those in memory also are, one compiled kernel serves.
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
            # Without any, the kernel multiplies whatever it reads by zero.
            self.additions if self.additions.size else self.corrections,
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
        additions = np.empty(n if hasher.lengths else 0, np.int16)
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
            hashed = hasher.hash(rows, key_bits)
            keys[:, part], codes[part], corrections[part] = hashed[:3]
            additions[part if additions.size else slice(0)] = hashed.additions

        for_all_parts(hash_part, n, BUILD_ROWS, cores())
        items = Items(ids[order], codes, corrections, additions, keys)
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
        additions = np.concatenate([part.additions for part in items])
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
        if additions.size:
            additions = additions[order]
        together = Items(ids[order], codes[order], corrections[order], additions, keys[:, order])
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
        starts, bucket = self.offsets[0], keys[0, rows]
        at = rows - starts[bucket].astype(np.int64)
        at += self.blocks[0][bucket].astype(np.int64) * BLOCK
        additions = self.additions[at] if self.additions.size else self.additions
        return Items(self.ids[rows], codes, self.corrections[at], additions, keys[:, rows])

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
        additions = items.additions[row_order] if items.additions.size else items.additions
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
        flat_additions = np.zeros(before * BLOCK if additions.size else 0, np.int16)
        rows = np.empty((1, 0) if tables == 1 else (tables, n), np.uint32)
        by_id = np.empty(n, np.uint32)
        by_id[row_order] = np.arange(n, dtype=np.uint32)
        for t in range(tables):
            # By id within a bucket in every table: an order that follows from the bucket alone.
            by_key = np.argsort(items.keys[t], kind="stable") if t else row_order
            positions = by_id[by_key].astype(np.int64)
            if tables > 1:
                rows[t] = positions

            def pack(some: slice, t: int = t, positions: NDArray[np.int64] = positions) -> None:
                edges = slice(some.start, some.stop + 1)
                pack_blocks(
                    codes,
                    corrections,
                    additions,
                    positions,
                    offsets[t, edges],
                    blocks[t, edges],
                    flat_codes,
                    flat_corrections,
                    flat_additions,
                )

            for_all_parts(pack, 1 << key_bits, BUILD_BUCKETS, cores())
        return cls(
            key_bits,
            items.ids[row_order],
            by_id,
            take(row_order),
            flat_codes,
            flat_corrections,
            flat_additions,
            offsets,
            blocks,
            rows,
        )

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``ids``, -1 where an id is not here."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        try:
            if len(ids) > FEW:
                at = np.searchsorted(self.ids, ids, sorter=self.by_id)
            else:  # reads only what it compares, where a sorter is read whole
                places = [bisect_left(self.by_id, id_, key=self.ids.item) for id_ in ids.tolist()]
                at = np.array(places, np.int64)
            rows = self.by_id[np.minimum(at, len(self) - 1)].astype(np.int64)
            return np.where(self.ids[rows] == ids, rows, -1)
        except (IndexError, ValueError):  # it names a row that is not there
            raise self.damaged("by_id") from None

    def codes_of(self, rows: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
        """The packed codes of ``rows``: (r, width / 8) words."""
        bucket = np.searchsorted(self.offsets[0], rows, side="right") - 1
        at = rows - self.offsets[0][bucket].astype(np.int64)
        block = self.blocks[0][bucket].astype(np.int64) + at // BLOCK
        lane = 2 * (at % BLOCK % 16) + at % BLOCK // 16
        codes: NDArray[np.uint8] = self.codes.reshape(-1, width, BLOCK)[block, :, lane]
        return codes.view(np.uint64)

    def is_stored_in(self, folder: Path, hasher_name: str, owner: str) -> bool:
        """Whether ``folder`` holds it as a file of this hasher and this index."""
        if self.file is None or not (folder / self.file.path.name).exists():
            return False
        return (self.file.meta.get("hasher"), self.file.owner) == (hasher_name, owner)

    def save(self, folder: Path, hasher_name: str, owner: str) -> Path:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        meta = {"key_bits": self.key_bits, "hasher": hasher_name, "owner": owner}
        return write_arrays(folder, "segment", meta, arrays)

    @classmethod
    def open(cls, path: Path, hasher: Hasher, hasher_name: str, owner: str | None) -> Segment:
        """Map a stored segment; raises IndexFormatError if it does not fit ``hasher`` and
        ``owner``.
        """
        file = open_arrays(path, "segment")
        file.check_owner(owner)
        if file.meta.get("hasher") != hasher_name:
            raise IndexFormatError(
                f"{path.name} was hashed with {file.meta.get('hasher')}, the index uses "
                f"{hasher_name}"
            )
        settings, key_bits = hasher.settings, file.meta.get("key_bits")
        if not is_count(key_bits) or key_bits > hasher.max_key_bits:
            raise IndexFormatError(f"{path.name} is damaged: key_bits {key_bits!r}")
        stored = dict(file.arrays)
        if hasher.lengths is None:  # as before format 4
            stored.setdefault("additions", np.empty(0, np.int16))
        found = {name: (array.shape, array.dtype.str) for name, array in stored.items()}
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
            "additions": ((blocks * BLOCK if hasher.lengths else 0,), "<i2"),
            "offsets": (shape, "<u4"),
            "blocks": (shape, "<u4"),
            "rows": ((tables, n) if tables > 1 else (1, 0), "<u4"),
        }
        if found != expected:
            raise IndexFormatError(f"{path.name} holds arrays {found}, expected {expected}")
        # Copies: the bounds that the kernels use stay those that were proven.
        arrays = stored | {name: np.array(stored[name]) for name in ("offsets", "blocks")}
        if not _fit(arrays["offsets"], arrays["blocks"], n, blocks):
            raise IndexFormatError(f"{path.name} is damaged: its buckets contradict its items")
        return cls(key_bits, **arrays, file=file)

    def vectors_of(self, rows: NDArray[np.int64]) -> Floats:
        """The vectors of ``rows`` (r,): (r, dim).

        Raises:
            IndexFormatError: a stored one is not of unit length.
        """
        vectors = self.vectors[rows].astype(np.float32)
        if self.file is not None and not are_unit(vectors).all():
            raise self.damaged("vectors")
        return vectors

    def prove(self) -> None:
        """Compare all stored bytes with their checksums, once; for what new files are made of.

        Raises:
            IndexFormatError: they do not match, or contradict each other.
        """
        if self.file is not None and self._problem:
            raise self.damaged(self._problem)

    def prove_order(self) -> None:
        """Make sure, once, that an id that `find` does not find is not here.

        Raises:
            IndexFormatError: the stored order of the ids is not their order.
        """
        if self.file is not None and not self._in_order:
            raise self.damaged("by_id is not the order of ids")

    @cached_property
    def _problem(self) -> str:
        return self.problem()

    @cached_property
    def _in_order(self) -> bool:
        if not len(self):
            return True
        if int(self.by_id.max()) >= len(self):
            return False
        ids = self.ids[self.by_id]
        return bool(ids[0] >= 0 and (ids[1:] > ids[:-1]).all())

    def damaged(self, what: str) -> IndexFormatError:
        """The error for damage that is found while the segment is used."""
        return IndexFormatError(
            f"{self.name} is damaged: {what}; find out what is left of it, and rebuild it, with: "
            f"lookalike verify --repair"
        )

    @property
    def name(self) -> str:
        """Of its file."""
        return "a segment in memory" if self.file is None else self.file.path.name

    def problem(self, *, vectors: bool = True) -> str:
        """Which arrays do not match their checksums, or contradict each other; "" if none do.

        Args:
            vectors: also whether they have unit length, which takes longer than all the rest.
        """
        if self.file is not None and (names := self.file.damaged()):
            return ", ".join(names)
        n = len(self)
        if not self._in_order:
            return "by_id is not the order of ids"
        for rows in self.rows if n and self.rows.size else ():
            if int(rows.max()) >= n or not (np.bincount(rows, minlength=n) == 1).all():
                return "rows are not those of its items"
        if vectors and not are_unit(self.vectors).all():
            return "vectors are not of unit length"
        return ""


ARRAYS = (
    *("ids", "by_id", "vectors", "codes", "corrections", "additions"),
    *("offsets", "blocks", "rows"),
)


def _fit(offsets: NDArray[np.uint32], blocks: NDArray[np.uint32], n: int, total: int) -> bool:
    """Whether the buckets of every table cover its ``n`` items, and their blocks follow each other
    up to the last of ``total``.
    """
    sizes = np.diff(offsets.astype(np.int64), axis=1)
    numbers = np.diff(blocks.astype(np.int64), axis=1)
    ends = blocks[:, -1].tolist()
    return bool(
        (offsets[:, 0] == 0).all()
        and (offsets[:, -1] == n).all()
        and (sizes >= 0).all()
        and (numbers == -(-sizes // BLOCK)).all()
        and blocks[:, 0].tolist() == [0, *ends[:-1]]
        and ends[-1] == total
    )


def are_unit(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of (n, dim) stored vectors have unit length, but for rounding to float16."""
    squares = np.empty(len(vectors), np.float32)
    with np.errstate(all="ignore"):  # a damaged file may hold anything
        for start in range(0, len(vectors), BUILD_ROWS):
            some = slice(start, start + BUILD_ROWS)
            rows = vectors[some].astype(np.float32)
            np.einsum("ij,ij->i", rows, rows, out=squares[some])
        return np.abs(squares - 1) < 2 * UNIT


def _dtype(settings: LSHSettings) -> np.dtype[Any]:
    """How vectors are kept; those that are not are also hashed as float16."""
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
