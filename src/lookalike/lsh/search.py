"""One query against the segments of an index: probe, rank by Hamming, re-rank by cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import kernels
from lookalike.lsh.segment import Segment

__all__ = ["default_candidates", "search_one"]

Floats = NDArray[np.float32]
Met = tuple[NDArray[np.uint32], NDArray[np.uint16]]  # rows of a segment, bits that differ


def default_candidates(n: int) -> int:
    """Items to meet in a segment of ``n`` before probing stops: all up to 8,192, then n / 8."""
    return max(8192, n // 8)


def search_one(
    segments: Sequence[tuple[Segment, NDArray[np.bool_]]],
    query: Floats,
    key_margins: Floats,
    code: NDArray[np.uint64],
    k: int,
    candidates: int | None,
    depth: int,
) -> tuple[NDArray[np.int64], Floats, NDArray[np.uint16]]:
    """Ids, cosines and differing bits of the (at most) ``k`` nearest items, best first.

    Args:
        segments: with the rows of each to pass over, bool (n,) or (0,).
        query: (dim,), unit length.
        key_margins: (tables, MAX_KEY_BITS), see ``Hasher.project``.
        code: (words,).
        candidates: items to meet per segment and table; 0: from its size; None: all, exactly.
        depth: how many of the nearest by Hamming are ranked by cosine.
    """
    if candidates is None:
        met = [_everything(segment, code, blocked) for segment, blocked in segments]
    else:
        met = []
        for segment, blocked in segments:
            margins = np.ascontiguousarray(key_margins[:, : segment.key_bits])
            met.append(_probe(segment, margins, code, blocked, candidates, k, depth))
        met = _nearest_by_bits(met, depth)
    ids, cosines, bits = (
        [np.empty(0, np.int64)],
        [np.empty(0, np.float32)],
        [np.empty(0, np.uint16)],
    )
    for (segment, _), (rows, differ) in zip(segments, met, strict=True):
        halves = segment.vectors.dtype == np.float16
        stored = segment.vectors.view(np.uint16) if halves else segment.vectors
        ids.append(segment.ids[rows])
        cosines.append(kernels.rerank(query, stored, rows))
        bits.append(differ)
    return _best(np.concatenate(ids), np.concatenate(cosines), np.concatenate(bits), k)


def _probe(
    segment: Segment,
    margins: Floats,
    code: NDArray[np.uint64],
    blocked: NDArray[np.bool_],
    candidates: int,
    k: int,
    depth: int,
) -> Met:
    """The ``depth`` rows nearest to ``code`` among the buckets worth visiting."""
    n, tables = len(segment), len(segment.codes)
    budget = (candidates or default_candidates(n)) * tables
    limit = max(16, 4 * tables * (1 << segment.key_bits) * budget // max(1, n * tables))
    while True:
        in_tables, keys, _ = kernels.probe_order(margins, limit)
        rows, bits, met = kernels.scan(
            code,
            segment.codes,
            segment.offsets,
            segment.rows,
            blocked,
            in_tables,
            keys,
            budget,
            k,
            depth,
        )
        exhausted = len(keys) == tables << segment.key_bits
        if exhausted or (met >= budget and len(rows) >= k):
            return rows, bits
        limit *= 4


def _everything(segment: Segment, code: NDArray[np.uint64], blocked: NDArray[np.bool_]) -> Met:
    rows = np.arange(len(segment), dtype=np.uint32)
    bits = kernels.hamming(segment.codes[0], code)
    if blocked.size:
        rows = rows[~blocked]
    return rows, bits[rows]


def _nearest_by_bits(met: list[Met], depth: int) -> list[Met]:
    """Of the candidates of all segments, the ``depth`` nearest by Hamming, earlier ones on ties."""
    if not met:
        return met
    bits = np.concatenate([part[1] for part in met])
    if len(bits) <= depth:
        return met
    keep = np.zeros(len(bits), np.bool_)
    keep[np.argsort(bits, kind="stable")[:depth]] = True
    marks = np.split(keep, np.cumsum([len(part[1]) for part in met])[:-1])
    return [(rows[m], near[m]) for (rows, near), m in zip(met, marks, strict=True)]


def _best(
    ids: NDArray[np.int64], cosines: Floats, bits: NDArray[np.uint16], k: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.uint16]]:
    if len(ids) > k:
        cut = np.partition(cosines, len(ids) - k)[len(ids) - k]
        keep = np.flatnonzero(cosines >= cut)
        ids, cosines, bits = ids[keep], cosines[keep], bits[keep]
    order = np.lexsort((ids, -cosines))[:k]
    return ids[order], np.clip(cosines[order], -1, 1), bits[order]
