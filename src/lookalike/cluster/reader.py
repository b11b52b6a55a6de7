"""Many small questions to a gallery in shards, for the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.answers import Facts, ShardedTable, find
from lookalike.cluster.shards import Shards
from lookalike.gallery.searching import Found
from lookalike.gallery.store import ImageRow
from lookalike.gallery.threshold import smallest_cosine
from lookalike.lsh.search import best_of

__all__ = ["ShardedReader", "ShardedSnapshot"]

FRESH_SECONDS = 1.0
"""For which a snapshot is taken for the gallery as it is."""
KEPT_ROWS = 100_000


class ShardedReader:
    """See `lookalike.gallery.protocol.GalleryReader`."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._known: ShardedSnapshot | None = None
        self._until = 0.0
        self._looking = threading.Lock()

    def now(self) -> ShardedSnapshot:
        """The gallery as it was within the last second."""
        with self._looking:
            known = self.unchanged()
            if known is None:
                state = (self._shards.deployment.id, self._shards.ask("facts"))
                known = self._known
                if known is None or known.state != state:
                    known = self._known = ShardedSnapshot(self._shards, state)
                self._until = time.monotonic() + FRESH_SECONDS
            return known

    def unchanged(self) -> ShardedSnapshot | None:
        """What `now` gave last, for a second."""
        return self._known if time.monotonic() < self._until else None


class ShardedSnapshot:
    """See `lookalike.gallery.protocol.GallerySnapshot`."""

    local_index = None
    changed = None

    def __init__(self, shards: Shards, state: tuple[str, list[dict[str, Any]]]) -> None:
        self.state = state
        self._shards = shards
        self._table = ShardedTable(shards)
        self._facts = Facts(state[1])
        self._kept: dict[int, ImageRow] = {}
        self.pairs = self._facts.pairs
        self.code_bits = self._facts.code_bits

    def __len__(self) -> int:
        return self._facts.images

    @cached_property
    def _levels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self.pairs is not None
        return np.array(self.pairs.levels), np.array(self.pairs.cosines)

    def rarities(self, cosines: Sequence[float]) -> list[float | None]:
        if self.pairs is None:
            return [None] * len(cosines)
        levels, values = self._levels
        return [*np.interp(cosines, values, levels).tolist()]

    def has(self, number: int) -> bool:
        return self.row(number) is not None

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return self._table.vectors(ids)

    def row(self, number: int) -> ImageRow | None:
        return self.rows([number]).get(number)

    def rows(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        wanted, kept = list(ids), self._kept
        unknown = [number for number in wanted if number not in kept]
        if unknown:
            found = self._table.by_ids(unknown).values()
            self._keep(row for row in found if row.skipped is None)
            kept = self._kept
        return {number: kept[number] for number in wanted if number in kept}

    def _keep(self, rows: Iterable[ImageRow]) -> None:
        if len(self._kept) > KEPT_ROWS:
            self._kept = {}
        self._kept.update((row.id, row) for row in rows)

    def has_rows(self, ids: Iterable[int]) -> bool:
        return all(number in self._kept for number in ids)

    def page(self, pattern: str | None, offset: int, limit: int) -> tuple[list[ImageRow], int]:
        answers = self._shards.ask("page", pattern, offset + limit)
        rows = [ImageRow(*values) for some, _ in answers for values in some]
        rows.sort(key=lambda row: row.path)
        chosen = rows[offset : offset + limit]
        self._keep(chosen)
        return chosen, sum(count for _, count in answers)

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        answers = self._shards.ask("nearest", query[np.newaxis], k)
        ids = np.concatenate([ids for ids, _ in answers], axis=1)
        cosines = np.concatenate([cosines for _, cosines in answers], axis=1)
        found: NDArray[np.int64] = best_of(ids, cosines, k)[0][0]
        return found[found >= 0]

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]:
        found = dict[int, int]()
        for some in self._shards.ask("hamming", query, list(ids)):
            found |= some
        return [found[number] for number in ids]

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        without: bytes | None = None,
        filter: str | None = None,
        threshold: float | None = None,
        own: int | None = None,
    ) -> list[Found]:
        found = find(self._shards, query, k, ((), without), filter)
        self._keep(item.row for item in found)
        limit = None if threshold is None else smallest_cosine(threshold)
        return [item for item in found if limit is None or item.cosine >= limit]

    def search_in_memory(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        without: bytes | None = None,
        threshold: float | None = None,
        own: int | None = None,
    ) -> None:
        """None: it has to ask."""
