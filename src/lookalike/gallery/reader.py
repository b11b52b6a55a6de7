"""Many small queries of one gallery: what was read once is kept until the next commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.filter import parse_filter
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.protocol import KEPT_ROWS, GallerySnapshot
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ORDERS, ImageRow
from lookalike.gallery.search import Found, NearOptions, expanded, measured, nearest_rows
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex
from lookalike.lsh.exact import Neighbors
from lookalike.lsh.expand import Expansion
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.links import LINKED_FROM
from lookalike.lsh.manifest import MANIFEST

KEPT_FILTERS = 16
SETTLED_SECONDS = 0.1
"""A file that changed this recently may change again within one tick of its time stamp."""


class Reader:
    """What a gallery holds, for any number of threads; made by `Gallery.reader`."""

    def __init__(self, files: GalleryFiles) -> None:
        self._files = files
        self._table = files.table
        self._manifest = files.index_folder / MANIFEST
        self._known: Snapshot | None = None
        self._opening = threading.Lock()

    def now(self) -> Snapshot:
        """The gallery as last committed: some microseconds while nothing changes.

        Raises:
            GalleryDamagedError: its files are missing or altered.
        """
        known, state = self._known, self._state()
        if known is not None and known.state == state and known.settled:
            return known
        with self._opening:
            known, state = self._known, self._state()
            if known is None or known.state != state or not known.settled:
                known = self._known = self._read(state)
            return known

    def unchanged(self) -> Snapshot | None:
        """What `now` gave last if that is still the gallery; None if `now` would have to read."""
        known = self._known
        return (
            known if known is not None and known.settled and known.state == self._state() else None
        )

    def _state(self) -> tuple[int, ...]:
        """Which files they are and when they changed, ns. Never opened here: closing the table's
        file would free the locks that SQLite holds on it for a writer in this process."""
        found: list[int] = []
        for path in (self._table, self._manifest, self._files.neighbours):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found += (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return tuple(found)

    def _read(self, state: tuple[int, ...]) -> Snapshot:
        changed = max(state[3::4], default=0) / 1e9
        settled = abs(time.time() - changed) > SETTLED_SECONDS
        self._files.check_table(large=self._known is None)
        with self._files.reading_all() as (store, index):
            pairs, default = store.pairs(), measured(made_with(store))
        graph = self._files.graph(index)
        return Snapshot(self._files, index, pairs, state, settled, graph, default)


class Snapshot(GallerySnapshot):
    """A committed state of index and table.

    Attributes:
        index: its vectors and codes.
        state, settled: of the files, for `Reader`.
        graph: the neighbours of each image; None: not kept.
        strangers: how many ids that searches found had no row in the table: those of a commit in
            progress, or of an update that was killed. They are passed over.
    """

    def __init__(
        self,
        files: GalleryFiles,
        index: LSHIndex,
        pairs: PairStatistics | None,
        state: tuple[int, ...],
        settled: bool,
        graph: NeighbourGraph | None = None,
        expansion: Expansion | None = None,
        store: Store | None = None,
    ) -> None:
        self.index = self.local_index = index
        self.code_bits = index.settings.code_bits
        self.pairs = pairs
        self.state = state
        times = state[3::4]
        self.changed = max(times) / 1e9 if times else None
        self.settled = settled
        self.graph = graph
        self.strangers = 0
        self._expansion = expansion
        self._store = store
        self._files = files
        self._rows = {}
        self._matching: dict[tuple[str | None, str], NDArray[np.int64]] = {}
        self._codes: dict[int, int] = {}
        self._noting = threading.Lock()

    # ---- the index -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.index)

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Ids of the ``k`` images nearest to an embedding (dim,), best first: (m,)."""
        found = self.near(query, k).ids
        return found[found >= 0]

    def near(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.int64] | None = None,
        exact: bool | None = False,
    ) -> Neighbors:
        """The ``k`` nearest of one query (dim,) or several (q, dim), as `LSHIndex.search`.

        So that a longer list begins as a shorter one does, unless links are followed, of which so
        many would take several times as long.
        """
        effort = Expansion().hits_for(k) if len(self.index) < LINKED_FROM else None
        with self._files.index_explained():
            return self.index.search(queries, k, allowed=allowed, exact=exact, effort=effort)

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]:
        """Bits in which the codes of ``ids`` differ from that of an embedding."""
        if not len(ids):
            return []
        kept = self._codes
        if len(kept) > KEPT_ROWS:
            self._codes = kept = {}
        if unknown := [number for number in ids if number not in kept]:
            kept.update(zip(unknown, _integers(self.index.codes(unknown)), strict=True))
        (own,) = _integers(self.index.code(query)[np.newaxis])
        return [(kept[number] ^ own).bit_count() for number in ids]

    def has(self, number: int) -> bool:
        """Whether an image of this id is in the index."""
        return bool(self.index.contains([number])[0])

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Unit embeddings, float32 (m, dim). KeyError for an id that is not in the index."""
        with self._files.index_explained():
            return self.index.vectors(ids)

    def sample(self, count: int) -> NDArray[np.float32]:
        """Unit embeddings of random images, as `LSHIndex.sample`."""
        with self._files.index_explained():
            return self.index.sample(count)

    # ---- the table -------------------------------------------------------------------------------

    def _reading(self) -> AbstractContextManager[Store]:
        return self._files.reading() if self._store is None else nullcontext(self._store)

    def read_rows(self, ids: list[int]) -> dict[int, ImageRow]:
        """From the table."""
        with self._reading() as store:
            return store.by_ids(ids)

    def page(
        self, pattern: str | None, offset: int, limit: int, order: str = "path"
    ) -> tuple[list[ImageRow], int]:
        """Some of the images that a filter fits (see `parse_filter`; None: all), in one of the
        ORDERS of rows, and how many there are.

        Raises:
            GalleryError: the filter is empty or cannot be understood.
        """
        ids = self.matching(pattern, order)
        rows = self.rows(ids[min(offset, len(ids)) : offset + limit].tolist())
        return list(rows.values()), len(ids)

    def matching(self, pattern: str | None, order: str = "path") -> NDArray[np.int64]:
        """Ids of the images that a filter fits (see `parse_filter`; None: all), in one of the
        ORDERS of rows.

        Raises:
            GalleryError: the filter is empty or cannot be understood.
        """
        known = self._matching.get((pattern, order))
        if known is None:
            chosen = parse_filter("*" if pattern is None else pattern)
            with self._reading() as store:
                if chosen.needs_row or order != "path":
                    rows = sorted(store.indexed(), key=ORDERS[order])
                    found = [row.id for row in rows if chosen.fits(row.path, row)]
                else:
                    found = [number for number, path in store.paths() if chosen.fits(path)]
            known = np.array(found, np.int64)
            with self._noting:
                while len(self._matching) >= KEPT_FILTERS:
                    self._matching.pop(next(iter(self._matching)))
                self._matching[pattern, order] = known
        return known

    # ---- search ----------------------------------------------------------------------------------

    def search(self, query: NDArray[np.float32], k: int, **how: Unpack[NearOptions]) -> list[Found]:
        """The ``k`` images most like an embedding, float32 (dim,), best first.

        Raises:
            GalleryError: ``expand``, and there is no neighbour graph.
        """
        threshold, pattern = how.get("threshold"), how.get("filter")
        search = expanded(
            self.index,
            self.graph,
            self._expansion,
            how.get("expand"),
            threshold,
            self._files.directory,
        )
        with self._files.index_explained():
            found, strangers = nearest_rows(
                search or self.near,
                self.rows,
                query,
                k,
                how.get("without"),
                allowed=None if pattern is None else self.matching(pattern),
                exact=how.get("exact", False),
            )
        self.strangers += strangers
        if threshold is not None:
            limit = smallest_cosine(threshold)
            found = [pair for pair in found if pair[1] >= limit]
        bits = self.bits(query, [row.id for row, _ in found])
        return [Found(*pair, differ) for pair, differ in zip(found, bits, strict=True)]


def _integers(codes: NDArray[np.uint64]) -> Iterator[int]:
    """Of which a few are compared faster than rows of an array."""
    return (int.from_bytes(code.tobytes()) for code in codes)
