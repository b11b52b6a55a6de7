"""An immutable run of hashed vectors: codes in bucket order, ids and vectors."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, is_count, open_arrays, write_arrays
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.links import LINKS, Links, record_bytes
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.vectors import widened

CHECKED_ROWS = 2048
BLOCK = 32
AT_ONCE = 1024
"""Rows for each id that is looked up, up to which all ids are at once."""
UNIT = 0.01
Floats = NDArray[np.float32]


class Factors(NamedTuple):
    """How much more than by default a search must look at in a segment, see `tuning.factors`.

    ``candidates``, ``rerank``: by what the defaults for 1, 10 and 100 results are multiplied, at
    least 1; between these it grows evenly, on a logarithmic scale. ``least``: the cosine to the
    nearest item below which a query is of another kind than those that they were measured with.
    """

    candidates: tuple[float, ...] = (1.0, 1.0, 1.0)
    rerank: tuple[float, ...] = (1.0, 1.0, 1.0)
    least: float = -1.0

    def of(self, k: int) -> tuple[float, float]:
        """Those of ``k`` results."""
        at = np.log10(k)
        wider, deeper = (np.interp(at, (0, 1, 2), np.log(some)) for some in self[:2])
        return float(np.exp(wider)), float(np.exp(deeper))


AS_DEFAULT = Factors()


class Scanned(NamedTuple):
    """Of all tables in one: where each bucket starts (a row, or an index into ``rows``), its number
    of items, its first block; then codes, corrections, additions, rows, vectors, ids.
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
        links: see ``Links``; None for few items, and until they are made.
        factors: see ``Factors``; None until they are measured.
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
    links: Links | None = None
    factors: Factors | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __post_init__(self) -> None:
        # Stored arrays are read-only maps; if those in memory also are, one compiled kernel serves.
        for name in ARRAYS:
            getattr(self, name).flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled are the arrays, not the file."""
        arrays = (getattr(self, name) for name in ARRAYS)
        return type(self), (self.key_bits, *arrays, None, self.links, self.factors)

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

    @cached_property
    def entries(self) -> NDArray[np.uint8]:
        """About the square root of the items, times what `Links` say, evenly from bucket to bucket
        of the first table, in blocks that are made as the links of an item; rows beyond all fill
        the last.
        """
        times = 1 if self.links is None else self.links.entries
        blocks = -(-times * math.isqrt(len(self)) // LINKS)
        count, width = min(len(self), blocks * LINKS), self.codes.size // self.corrections.size
        rows = np.arange(count) * len(self) // count
        block, place = self._places(rows)
        at, lanes, here = *divmod(np.arange(count), LINKS), block * BLOCK + place
        records = np.zeros((blocks, record_bytes(width)), np.uint8)
        codes = records[:, : LINKS * width].reshape(blocks, width, LINKS)
        codes[at, :, lane(lanes)] = self.codes.reshape(-1, width, BLOCK)[block, :, lane(place)]
        shorts, longs = records.view(np.int16), records.view(np.uint32)[:, -LINKS:]
        shorts[at, LINKS * width // 2 + lanes] = self.corrections[here]
        shorts[at, LINKS * (width // 2 + 1) + lanes] = self.additions[here]
        longs[:] = len(self)
        longs[at, lanes] = rows
        records.flags.writeable = False  # as those of links: one compiled kernel serves both
        return records

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``ids``, -1 where an id is not here."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        try:
            if len(self) <= AT_ONCE * len(ids):
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
        block, place = self._places(rows)
        codes: NDArray[np.uint8] = self.codes.reshape(-1, width, BLOCK)[block, :, lane(place)]
        return codes.view(np.uint64)

    def _places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The block of each of ``rows`` (r,) in the first table, and its place there."""
        bucket = np.searchsorted(self.offsets[0], rows, side="right") - 1
        at = rows - self.offsets[0][bucket].astype(np.int64)
        return self.blocks[0][bucket].astype(np.int64) + at // BLOCK, at % BLOCK

    def is_stored_in(self, folder: Path, hasher_name: str, owner: str) -> bool:
        """Whether ``folder`` holds it as a file of this hasher and this index."""
        return self.file is not None and self.file.is_in(folder, owner, hasher=hasher_name)

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
            "vectors": ((0 if kept == "none" else n, settings.dim), vector_dtype(settings).str),
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
        return cls(key_bits, **arrays, file=file, links=None, factors=None)

    def linked(self, links: Links | None) -> Segment:
        """The same with these links."""
        return self if links is self.links else replace(self, links=links)

    def vectors_of(self, rows: NDArray[np.int64]) -> Floats:
        """The vectors of ``rows`` (r,): (r, dim).

        Raises:
            IndexFormatError: a stored one is not of unit length.
        """
        vectors = widened(self.vectors[rows])
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
            f"{self.name} is damaged: {what}; build the index again from its vectors"
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
        return "" if self.links is None else self.links.problem()


def lane(place: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the bytes of a block's codes lie in each of its rows, see ``simd.BLOCK``: (n,)."""
    return 2 * (place % 16) + place // 16


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
        for start in range(0, len(vectors), CHECKED_ROWS):
            some = slice(start, start + CHECKED_ROWS)
            rows = widened(vectors[some])
            np.einsum("ij,ij->i", rows, rows, out=squares[some])
        return np.abs(squares - 1) < 2 * UNIT


def vector_dtype(settings: LSHSettings) -> np.dtype[Any]:
    """How vectors are kept; those that are not are also hashed as float16."""
    return np.dtype("float32" if settings.vectors == "float32" else "float16")
