"""A segment of new vectors, or of what other segments hold: hashed, sorted into buckets, packed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.hashing import Hasher
from lookalike.lsh.segment import BLOCK, Segment, vector_dtype
from lookalike.threads import cores, for_all_parts

ROWS_AT_ONCE = 2048
BUCKETS_AT_ONCE = 512
BUCKET = 64


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


def build(hasher: Hasher, ids: NDArray[np.int64], vectors: NDArray[Any]) -> Segment:
    """Hash ``vectors`` (n, dim), unit rows, and sort them into buckets.

    The result depends on the set of items alone, not on their order.
    """
    from lookalike.lsh.coding import round_to_half, scale

    settings, n = hasher.settings, len(ids)
    order = _order(ids)
    keys = np.empty((settings.tables, n), np.uint32)
    codes = np.empty((n, settings.code_bits // 8), np.uint8)
    corrections = np.empty(n, np.int16)
    additions = np.empty(n if hasher.lengths else 0, np.int16)
    kept = np.empty((0 if settings.vectors == "none" else n, settings.dim), vector_dtype(settings))
    key_bits = _choose_key_bits(hasher, n)

    def hash_part(part: slice) -> None:
        # Hash what is stored as a query of it is, scaled again after it was rounded, so that both
        # give the same bits, now and later.
        chosen = order[part]
        if vectors.dtype == np.float32 and kept.dtype == np.float16:
            rows = np.empty((len(chosen), settings.dim), np.float32)
            halves = kept[part] if len(kept) else np.empty(rows.shape, np.float16)
            round_to_half(vectors, chosen, halves.view(np.uint16), rows)
        else:
            rows = vectors[chosen].astype(np.float32, copy=False)
            if len(kept):
                kept[part] = rows
            scale(rows)
        hashed = hasher.hash(rows, key_bits)
        keys[:, part], codes[part], corrections[part] = hashed[:3]
        additions[part if additions.size else slice(0)] = hashed.additions

    for_all_parts(hash_part, n, ROWS_AT_ONCE, cores())
    items = Items(ids[order], codes, corrections, additions, keys)
    return _assemble(key_bits, items, lambda chosen: kept[chosen] if len(kept) else kept)


def merge(hasher: Hasher, parts: Sequence[tuple[Segment, NDArray[np.bool_]]]) -> Segment:
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
    items = [_items(segment, hasher, rows) for segment, rows in kept]
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
            _rekey(segment, hasher, key_bits, rows, keys[:, first : first + len(rows)])
            first += len(rows)
    order = np.argsort(ids, kind="stable")
    if additions.size:
        additions = additions[order]
    together = Items(ids[order], codes[order], corrections[order], additions, keys[:, order])
    return _assemble(key_bits, together, lambda chosen: gather(kept, order[chosen]))


def _rekey(
    segment: Segment,
    hasher: Hasher,
    key_bits: int,
    rows: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> None:
    """The keys of ``rows`` (n,) with another number of bits: out (tables, n)."""
    from lookalike.lsh.coding import scale

    def key_part(part: slice) -> None:
        vectors = segment.vectors[rows[part]].astype(np.float32, copy=False)
        scale(vectors)
        out[:, part] = hasher.keys(vectors, key_bits)

    for_all_parts(key_part, len(rows), ROWS_AT_ONCE, cores())


def _items(segment: Segment, hasher: Hasher, rows: NDArray[np.int64]) -> Items:
    """The items of ``rows`` (n,) as they were before they were packed."""
    keys = np.empty((len(segment.offsets), len(segment)), np.uint32)
    for t, offsets in enumerate(segment.offsets):
        in_order = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint32), np.diff(offsets))
        keys[t, segment.rows[t] if segment.rows.size else slice(None)] = in_order
    codes = segment.codes_of(rows, hasher.settings.code_bits // 8).view(np.uint8)
    starts, bucket = segment.offsets[0], keys[0, rows]
    at = rows - starts[bucket].astype(np.int64)
    at += segment.blocks[0][bucket].astype(np.int64) * BLOCK
    additions = segment.additions[at] if segment.additions.size else segment.additions
    return Items(segment.ids[rows], codes, segment.corrections[at], additions, keys[:, rows])


def _assemble(
    key_bits: int, items: Items, take: Callable[[NDArray[np.int64]], NDArray[Any]]
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

        for_all_parts(pack, 1 << key_bits, BUCKETS_AT_ONCE, cores())
    return Segment(
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


def gather(
    parts: Sequence[tuple[Segment, NDArray[np.int64]]], order: NDArray[np.int64]
) -> NDArray[Any]:
    """The vectors of rows of several segments, counted one after the other, in ``order`` (n,)."""
    like = parts[0][0].vectors
    if not len(like):
        return like
    out = np.empty((len(order), like.shape[1]), like.dtype)
    ends = np.cumsum([len(rows) for _, rows in parts])
    for start in range(0, len(order), ROWS_AT_ONCE):
        some = order[start : start + ROWS_AT_ONCE]
        part_of = np.searchsorted(ends, some, side="right")
        for i in np.unique(part_of):
            segment, rows = parts[i]
            here = part_of == i
            first = ends[i] - len(rows)
            out[start : start + ROWS_AT_ONCE][here] = segment.vectors[rows[some[here] - first]]
    return out


def _order(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by rising id, which they mostly are already."""
    if (ids[1:] > ids[:-1]).all():
        return np.arange(len(ids))
    return np.argsort(ids, kind="stable")


def _choose_key_bits(hasher: Hasher, n: int) -> int:
    asked = hasher.settings.key_bits
    return min(default_key_bits(n) if asked is None else asked, hasher.max_key_bits)
