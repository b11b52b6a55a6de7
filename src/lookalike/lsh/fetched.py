"""A search in buckets that lie elsewhere: fetch what is probed, then run the same kernels.

What it finds is what `LSHIndex` finds with all items in one segment, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import kernels
from lookalike.lsh.coding import pack_blocks
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.search import EXACT_ROWS, Plan, estimate
from lookalike.lsh.segment import BLOCK, Scanned

__all__ = ["Bucket", "Buckets", "FetchedSearch"]

DENSER = 1.5
"""How many times fuller than the average the buckets around a query are taken to be at first."""
NOTHING_BLOCKED = np.empty(0, np.bool_)
Ids = NDArray[np.int64]


class Bucket(NamedTuple):
    """The items of a bucket, in any order: ids (m,); codes (m, bytes); corrections (m,), all 32767
    for Hamming ranking.
    """

    ids: Ids
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]


class Buckets(Protocol):
    """Where the items lie."""

    def fetch(self, buckets: Ids) -> Sequence[Bucket]:
        """The items of buckets (b,), each numbered table * 2^key_bits + key, in this order."""
        ...

    def vectors(self, ids: Ids) -> tuple[Ids, NDArray[Any]]:
        """Those of ``ids`` that exist, (m,), and their vectors as stored, float16 or float32
        (m, dim)."""
        ...


class _Met(NamedTuple):
    """The probed buckets: where each ends (b,) in the positions (p,), which hold rows; and of the
    items met, which are the rows: ids, ascending.
    """

    ends: Ids
    rows: Ids
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    ids: Ids


class FetchedSearch:
    """Searches one collection of buckets. Any number of threads may use one.

    Args:
        hasher: of the collection.
        key_bits: base-2 logarithm of the number of buckets per table.
        source: of the buckets.
    """

    def __init__(self, hasher: Hasher, key_bits: int, source: Buckets) -> None:
        self._hasher = hasher
        self._key_bits = key_bits
        self._source = source
        self._total = hasher.settings.tables << key_bits
        self._density = 0.0  # items of a probed bucket, as it was lately

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        items: int,
        allowed: Ids | None = None,
        candidates: int | None = None,
        rerank: int | None = None,
    ) -> tuple[Ids, NDArray[np.float32]]:
        """The ``k`` nearest items: ids (k,), -1 where fewer exist, and cosines (k,), -inf there.

        Args:
            query: (dim,), of unit length.
            items: how many the collection holds.
            allowed: ids to choose from, (m,), ascending.
            candidates, rerank: see ``SearchSettings``.
        """
        settings = self._hasher.settings
        keeps_vectors = settings.vectors != "none"
        if not items or (allowed is not None and not len(allowed)):
            return np.full(k, -1, np.int64), np.full(k, -np.inf, np.float32)
        # Few enough to compare all; but a filter that names all items is none.
        few = min(max(EXACT_ROWS, rerank or 0), items - 1)
        if allowed is not None and len(allowed) <= few and keeps_vectors:
            return self._best(query, allowed, k)
        prepared = self._hasher.prepare(query[np.newaxis])
        scores = self._hasher.bucket_scores(prepared.mapped, self._key_bits)[0]
        plan = Plan.make(
            settings, items, items if allowed is None else len(allowed), k, candidates, rerank
        )
        chosen, met, blocked = self._probe(scores, plan, allowed, items)
        if not len(met.ids):  # somebody took all of them away meanwhile
            return np.full(k, -1, np.int64), np.full(k, -np.inf, np.float32)
        out = (1, plan.depth if keeps_vectors else k)
        ids, found = np.empty(out, np.int64), np.empty(out, np.float32)
        kernels.search_range(
            prepared.queries,
            np.ascontiguousarray(prepared.margins),
            scores[chosen][np.newaxis],
            _scanned(met, settings.code_bits // 8, settings.dim),
            blocked,
            settings.tables,
            plan.scale,
            max(1, len(met.rows)),
            plan.depth,
            0,
            ids,
            found,
        )
        if keeps_vectors:
            return self._best(query, ids[ids >= 0], k)
        return ids[0], estimate(self._hasher, prepared.queries, prepared.margins, found)[0]

    def _probe(
        self, scores: NDArray[np.float32], plan: Plan, allowed: Ids | None, items: int
    ) -> tuple[Ids, _Met, NDArray[np.bool_]]:
        """Fetch buckets in order of falling score as ``kernels.search_range`` chooses them: until
        ``plan.budget`` items were met, and more if too few of them count.

        Returns:
            the buckets that hold items, (b,); what they hold; and which of the ids do not count.
        """
        order, fetched = np.empty(0, np.int64), list[Bucket]()
        sizes = np.empty(0, np.int64)
        allowance = plan.budget
        while True:
            while (held := int(sizes.sum())) < allowance and len(order) < self._total:
                number = self._next_number(len(order), held, allowance, items)
                order = _nearest(scores, number)
                fetched += self._source.fetch(order[len(fetched) :])
                sizes = np.array([len(bucket.ids) for bucket in fetched], np.int64)
            enough = int(np.searchsorted(np.cumsum(sizes), allowance)) + 1
            held_in = np.flatnonzero(sizes[:enough])
            met = _together([fetched[i] for i in held_in.tolist()], plan.code_bytes)
            blocked = NOTHING_BLOCKED if allowed is None else ~np.isin(met.ids, allowed)
            counting = len(met.ids) - int(np.count_nonzero(blocked))
            if counting >= plan.wanted or len(met.rows) < allowance:
                self._density = held / max(1, len(order))
                return order[held_in], met, blocked
            allowance *= 4

    def _next_number(self, known: int, held: int, allowance: int, items: int) -> int:
        """Of how many buckets to know the content, to have met about ``allowance`` items."""
        average = items * self._hasher.settings.tables / self._total
        density = held / known if held else self._density or DENSER * average
        missing = math.ceil((allowance - held) / max(density, 1e-3))
        return min(self._total, known + max(missing + missing // 8, 2, known // 4))

    def _best(
        self, query: NDArray[np.float32], ids: Ids, k: int
    ) -> tuple[Ids, NDArray[np.float32]]:
        """The ``k`` nearest of ``ids`` by the cosine of their vectors."""
        best, best_ids = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
        if len(ids):
            ids, vectors = self._source.vectors(ids)
            bits = vectors.view(np.uint16) if vectors.dtype == np.float16 else vectors
            kernels.rerank(query, bits, ids, np.arange(len(ids)), len(ids), best, best_ids)
        return best_ids, best


def _nearest(scores: NDArray[np.float32], number: int) -> Ids:
    """The ``number`` buckets of highest score, best first."""
    chosen, spare = np.empty(len(scores), np.int64), np.empty(len(scores), np.int64)
    ones = np.ones(len(scores), np.uint32)
    return chosen[: kernels.choose_buckets(scores, ones, number, chosen, spare)]


def _together(buckets: Sequence[Bucket], code_bytes: int) -> _Met:
    """Buckets one after the other, each by rising id."""
    if not buckets:
        nothing = np.empty(0, np.int64)
        codes = np.empty((0, code_bytes), np.uint8)
        return _Met(nothing, nothing, codes, np.empty(0, np.int16), nothing)
    ids = np.concatenate([bucket.ids for bucket in buckets])
    sizes = [len(bucket.ids) for bucket in buckets]
    order = np.lexsort((ids, np.repeat(np.arange(len(buckets)), sizes)))
    codes = np.concatenate([bucket.codes for bucket in buckets])[order]
    corrections = np.concatenate([bucket.corrections for bucket in buckets])[order]
    unique, rows = np.unique(ids[order], return_inverse=True)
    return _Met(np.cumsum(sizes), rows, codes, corrections, unique)


def _scanned(met: _Met, code_bytes: int, dim: int) -> Scanned:
    """The probed buckets as the kernels take a segment, without vectors."""
    edges = np.concatenate([[0], met.ends]).astype(np.uint32)
    sizes = np.diff(edges)
    blocks = np.concatenate([[0], np.cumsum(-(-sizes.astype(np.int64) // BLOCK))])
    codes = np.zeros(int(blocks[-1]) * BLOCK * code_bytes, np.uint8)
    corrections = np.zeros(int(blocks[-1]) * BLOCK, np.int16)
    firsts = blocks.astype(np.uint32)
    positions = np.arange(len(met.rows))
    pack_blocks(met.codes, met.corrections, positions, edges, firsts, codes, corrections)
    rows, none = met.rows.astype(np.uint32), np.empty((0, dim), np.float32)
    return Scanned(edges[:-1], sizes, firsts[:-1], codes, corrections, rows, none, met.ids)
