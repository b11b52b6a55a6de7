"""Search in a collection: the same kernels and answers as those of a local index."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.cluster.collection.collection import Collection
from lookalike.lsh.fetched import Bucket, FetchedSearch
from lookalike.lsh.index import Neighbors
from lookalike.lsh.search import best_of
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.vectors import as_ids, unit_rows

__all__ = ["ClusterIndex"]

ATTEMPTS = 4
EXACT_ROWS_AT_ONCE = 4096
NO_CORRECTION = 32767
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class ClusterIndex:
    """`LSHIndex`, as far as it is read, of a collection. Any number of threads may use one."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        source = _Source(collection)
        self._source = source
        self._fetched = FetchedSearch(collection.hasher, collection.key_bits, source)

    @property
    def settings(self) -> LSHSettings:
        return self.collection.settings

    def __len__(self) -> int:
        return len(self.collection)

    @property
    def ids(self) -> Ids:
        """All ids, ascending (n,)."""
        return self.collection.ids()

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        allowed: ArrayLike | None = None,
        candidates: int | None = None,
        rerank: int | None = None,
        exact: bool = False,
    ) -> Neighbors:
        """As `LSHIndex.search`.

        A search during which the collection changed is repeated; after some attempts, it is as if
        each bucket had been read at its own moment. Ids whose removal has begun are never among
        the answers; those that are just being added may be, and have no record yet.

        Raises:
            ReplacedError: the collection was loaded anew; see `Collection.reopened`.
            ValueError: as there.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        given = np.asarray(queries, dtype=np.float32)
        rows = unit_rows(np.atleast_2d(given), self.settings.dim)
        for _ in range(ATTEMPTS):
            among = None if allowed is None else self._existing(allowed)
            snapshot = self.collection.snapshot
            if exact:
                found = self._search_exactly(rows, k, among)
            else:
                found = self._search(rows, k, snapshot.images, among, candidates, rerank)
            self.collection.refresh()
            if self.collection.snapshot.same_as(snapshot):
                break
        gone = np.isin(found.ids, self.collection.snapshot.removing)
        if gone.any():
            cosines = np.where(gone, -np.inf, found.cosines).astype(np.float32)
            found = Neighbors(*best_of(np.where(gone, -1, found.ids), cosines, k))
        return Neighbors(found.ids[0], found.cosines[0]) if given.ndim == 1 else found

    def _search(
        self,
        rows: Floats,
        k: int,
        images: int,
        allowed: Ids | None,
        candidates: int | None,
        rerank: int | None,
    ) -> Neighbors:
        ids = np.full((len(rows), k), -1, np.int64)
        cosines = np.full((len(rows), k), -np.inf, np.float32)
        defaults = self.settings.search
        for i, row in enumerate(rows):
            ids[i], cosines[i] = self._fetched.search(
                row,
                k,
                items=images,
                allowed=allowed,
                candidates=candidates or defaults.candidates,
                rerank=rerank or defaults.rerank,
            )
        return Neighbors(ids, cosines)

    def _search_exactly(self, rows: Floats, k: int, allowed: Ids | None) -> Neighbors:
        """Compare with every vector."""
        if self.settings.vectors == "none":
            raise ValueError("this collection keeps no vectors, so an exact search is impossible")
        everything = self.collection.ids() if allowed is None else allowed
        ids = np.full((len(rows), k), -1, np.int64)
        cosines = np.full((len(rows), k), -np.inf, np.float32)
        for start in range(0, len(everything), EXACT_ROWS_AT_ONCE):
            there, vectors = self._source.vectors(everything[start : start + EXACT_ROWS_AT_ONCE])
            found = np.minimum(rows @ vectors.astype(np.float32).T, np.float32(1))
            here = np.broadcast_to(there, found.shape)
            both_ids = np.concatenate([ids, here], axis=1)
            ids, cosines = best_of(both_ids, np.concatenate([cosines, found], axis=1), k)
        return Neighbors(ids, cosines)

    def _existing(self, allowed: ArrayLike) -> Ids:
        """Those ids that are in the collection, ascending: others would thin its buckets out."""
        ids = np.unique(as_ids(allowed))
        return ids[self.collection.contains(ids)]

    def hamming(self, query: ArrayLike, ids: ArrayLike) -> NDArray[np.int32]:
        """Bits in which the codes of items differ from that of one query (dim,): (m,) int32, -1
        for ids without a record, which may have been removed since they were found.
        """
        from lookalike.lsh.coding import hamming_rows

        wanted = as_ids(ids)
        row = unit_rows(np.atleast_2d(np.asarray(query, np.float32)), self.settings.dim)
        code = self.collection.hasher.query_codes(row).view(np.uint64)[0]
        out = np.full(len(wanted), -1, np.int32)
        records = self.collection.records(wanted.tolist())
        if records:
            codes = np.stack([record.code for record in records.values()]).view(np.uint64)
            distances = dict(zip(records, hamming_rows(codes, code).tolist(), strict=True))
            out[:] = [distances.get(number, -1) for number in wanted.tolist()]
        return out

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which of ``ids`` (n,) are in the collection."""
        return self.collection.contains(ids)

    def vectors(self, ids: ArrayLike) -> Floats:
        """As `Collection.vectors`."""
        return self.collection.vectors(ids)


class _Source:
    """The buckets and vectors of a collection, as `FetchedSearch` asks for them."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def fetch(self, buckets: Ids) -> list[Bucket]:
        ids, entries, sizes = self._collection.codes.fetch(self._collection.connection.run, buckets)
        width = self._collection.settings.code_bits // 8
        codes = entries[:, :width]
        if entries.shape[1] > width:
            corrections = np.ascontiguousarray(entries[:, width:]).view("<i2")[:, 0]
        else:
            corrections = np.full(len(ids), NO_CORRECTION, np.int16)
        edges = np.concatenate([[0], np.cumsum(sizes)])
        removing = self._collection.snapshot.removing
        if len(removing):
            kept = ~np.isin(ids, removing)
            edges = np.concatenate([[0], np.cumsum(kept)])[edges]
            ids, codes, corrections = ids[kept], codes[kept], corrections[kept]
        spans = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        return [Bucket(ids[a:b], codes[a:b], corrections[a:b]) for a, b in spans]

    def vectors(self, ids: Ids) -> tuple[Ids, NDArray[np.float16]]:
        return self._collection.stored_vectors(
            ids[~np.isin(ids, self._collection.snapshot.removing)]
        )
