"""The LSH index: add, remove, search and store unit vectors under the cosine."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.lsh import storage
from lookalike.lsh.arrayfile import is_owner, new_owner
from lookalike.lsh.exact import Neighbors, best_of_all, search_exactly
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.join import Joined, all_pairs, groups
from lookalike.lsh.segment import Segment
from lookalike.lsh.settings import LSHSettings, whole
from lookalike.lsh.state import State, live_ids
from lookalike.lsh.vectors import UNIT, as_batch, as_floats, as_ids, as_query, unit_rows
from lookalike.threads import cores

if TYPE_CHECKING:
    from lookalike.lsh.graph import NeighbourGraph
    from lookalike.lsh.tuning import Evaluation, TuneReport

Floats = NDArray[np.float32]
GIVEN = ("k", "candidates", "rerank", "beam", "effort", "threads")
UNKNOWN = None, None
FEW = 1000
"""Results for which the items need not be counted."""
EXACT_AT_ONCE = 20_000
"""Items that are compared one by one in less time than compiled code takes to load."""


@cache
def _compiled() -> Any:
    """Numba takes a third of a second to import."""
    from lookalike.lsh import search

    return search


class LSHIndex:
    """Approximate cosine search by locality-sensitive hashing.

    Many threads may search while one adds, removes or saves: each search works on the state that it
    began with. Pickling an index that is as it was opened or saved pickles its folder, which the
    other process opens; any other is pickled with its arrays.

    Args:
        dim: length of the vectors, when everything else is to be the default.
        settings: or all settings.
        owner: id of the index, 32 lowercase hexadecimal digits, kept in each of its files so that
            those of two indexes are never mixed; None: a random one.
    """

    def __init__(
        self,
        dim: int | None = None,
        *,
        settings: LSHSettings | None = None,
        owner: str | None = None,
    ) -> None:
        if (dim is None) == (settings is None):
            raise ValueError("give either dim or settings")
        if owner is not None and not is_owner(owner):
            raise ValueError(f"owner is {owner!r}; it must be 32 lowercase hexadecimal digits")
        self.owner = owner or new_owner()
        self.settings = settings or LSHSettings(dim=dim or 0)
        self._state = State(None, (), ())
        self._stored: tuple[Path, State, LSHSettings] | None = None  # what is in which folder
        self._writing = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """For pickling, as by multiprocessing: where the index is saved, or else its arrays."""
        with self._writing:
            if self._stored is not None and self.is_saved:
                return {"folder": self._stored[0], "owner": self.owner}
            return {"settings": self.settings, "owner": self.owner, "state": self._state}

    def __setstate__(self, values: dict[str, Any]) -> None:
        if "folder" in values:
            self.__dict__ = type(self).open(values["folder"], values["owner"]).__dict__
        else:
            made = type(self)(settings=values["settings"], owner=values["owner"])
            self.__dict__ = made.__dict__
            self._state = values["state"]

    def __len__(self) -> int:
        return len(self._state)

    def __repr__(self) -> str:
        made = self.settings
        return f"<LSHIndex: {len(self):,} vectors of dimension {made.dim}, {made.code_bits} bits>"

    @property
    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending, int64 (n,)."""
        return live_ids(self._state)

    @property
    def is_saved(self) -> bool:
        """Whether it is as it was when it was opened or saved last."""
        if self._stored is None:
            return False
        _, state, settings = self._stored
        return state is self._state and settings == self.settings

    @property
    def hasher(self) -> Hasher | None:
        """The hash functions as they are now; None before the first item."""
        return self._state.hasher

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which of ``ids`` (n,) are in the index: bool (n,)."""
        return self._state.locate(as_ids(ids))[0] >= 0

    def sample(self, count: int) -> Floats:
        """The vectors of ``count`` random items, or of all, the same each time: (n, dim)."""
        whole("count", count)
        ids = self.ids
        rng = np.random.default_rng(0)
        return self.vectors(np.sort(rng.choice(ids, min(count, len(ids)), replace=False)))

    def vectors(self, ids: ArrayLike) -> Floats:
        """The stored unit vectors of ``ids`` (n,): float32 (n, dim).

        Raises:
            KeyError: an id is unknown.
            ValueError: the index keeps no vectors.
        """
        self._need_vectors("there are none to return")
        return self._state.vectors(as_ids(ids), self.settings.dim)

    # ---- change ----------------------------------------------------------------------------------

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add a batch; its cost is that of hashing it, and now and then of merging segments.

        Args:
            ids: (n,) distinct integers from 0 to 2^63 - 1, none of them in the index.
            vectors: (n, dim); scaled to unit length.

        Raises:
            ValueError: bad vectors, or an id that is repeated or taken; the index is unchanged.
        """
        new_ids, rows = as_batch(ids, vectors, self.settings.dim)
        if not len(new_ids):
            return
        with self._writing:
            taken = self.contains(new_ids)
            if taken.any():
                raise ValueError(
                    f"id {new_ids[np.argmax(taken)]} is in the index already; use replace"
                )
            self._state = self._state.added(self.settings, new_ids, rows)

    def add_stored(self, ids: ArrayLike, vectors: NDArray[np.float16]) -> None:
        """As `add`, of unit vectors that an index has stored as float16, which are kept as they
        are: scaling them would round them once more."""
        new = as_ids(ids)
        with self._writing:
            if self.contains(new).any() or len(np.unique(new)) != len(new):
                raise ValueError("ids repeat, or are in the index already")
            if len(new):
                self._state = self._state.added(self.settings, new, vectors.astype(np.float32))

    def replace(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add a batch, dropping the old vectors of ids that are in the index already.

        A search meanwhile finds the old vectors or the new ones.

        Raises:
            ValueError: as `add`, but for ids that are taken; the index is unchanged.
        """
        new_ids, rows = as_batch(ids, vectors, self.settings.dim)
        if not len(new_ids):
            return
        with self._writing:
            state = self._state.without(new_ids[self.contains(new_ids)])
            self._state = state.added(self.settings, new_ids, rows)

    def remove(self, ids: ArrayLike) -> None:
        """Remove a batch by marking its rows; compaction takes the space back later.

        Raises:
            KeyError: an id is not in the index; nothing is removed then.
        """
        with self._writing:
            self._state = self._state.without(np.unique(as_ids(ids)))

    def compact(self, *, only_if_worth_it: bool = False) -> None:
        """Merge all segments into one and drop removed rows.

        ``only_if_worth_it``: leave it when less than a quarter of the rows would be saved or moved
        to the largest segment, so that small changes to a large index stay cheap.

        An index without vectors cannot give items other buckets: its segments of different key
        bits stay apart.
        """
        with self._writing:
            self._state = self._state.compacted(self.settings, only_if_worth_it=only_if_worth_it)

    def link(
        self, graph: NeighbourGraph | None = None, *, queries: ArrayLike | None = None
    ) -> None:
        """Link near items of every large segment that has no links yet, which searches then follow
        instead of scanning buckets; they find as many, or else links are not followed.

        Segments that `add` and `compact` make later have none until this is called again. It takes
        as long as searching for every item a few times.

        Args:
            graph: the neighbours of the items, if they are known.
            queries: (q, dim) typical ones to measure with, also segments that have links; None:
                items, which say little of queries that lie elsewhere, as texts do among images.

        Raises:
            ValueError: bad queries.
        """
        from lookalike.lsh.linking import link

        rows = None if queries is None else unit_rows(queries, self.settings.dim)
        with self._writing:
            self._state = link(self, self._state, graph, rows)

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        allowed: ArrayLike | None = None,
        candidates: int | None = None,
        rerank: int | None = None,
        beam: int | None = None,
        effort: int | None = None,
        exact: bool | None = False,
        threads: int | None = None,
    ) -> Neighbors:
        """The ``k`` nearest items of each query by cosine.

        Buckets are probed in order of expected collision until ``candidates`` items were met and
        ``k`` were found, or no bucket is left; so k items come back whenever k exist.

        Args:
            queries: (dim,) or (q, dim), any length but zero.
            allowed: ids to choose from, (m,); applied before the cut to k.
            candidates: items to meet before probing stops, per segment; None: the index's
                setting, or from its size.
            rerank: candidates whose exact cosine is computed; None: likewise.
            beam: nearest items that following links keeps, where there are links and neither of the
                others is given; None: the index's setting, or as many as `link` found necessary.
            effort: results for which the size sets all, where more are wanted; None: k.
            exact: compare with every item instead (the oracle). None: if there are so few that it
                takes less time than loading compiled code, for a process that searches once.
            threads: for a batch of queries; None: all cores.

        Raises:
            ValueError: k, candidates, rerank, beam, effort or threads below 1 or not whole, wrong
                shape, a NaN or zero query.
        """
        given = k, candidates, rerank, beam, effort, threads
        if exact is False and allowed is None:
            try:
                settings, for_one_query = self._state.ready.get(given, UNKNOWN)
            except TypeError:  # something that is not a number, which is named below
                settings = None
            if settings is self.settings and (one := for_one_query(queries)):
                return one  # type: ignore[no-any-return]
        for name, value in zip(GIVEN, given, strict=True):
            whole(name, value, optional=name != "k")
        vectors = as_floats(queries)
        rows = unit_rows(vectors[np.newaxis] if vectors.ndim == 1 else vectors, self.settings.dim)
        state = self._state
        among = None if allowed is None else state.locate(np.unique(as_ids(allowed)))
        most = k if k <= FEW else min(k, max(1, len(state)))
        defaults = self.settings.search.scaled(effort or k)
        if exact is None:
            exact = self.settings.vectors != "none" and len(state) <= EXACT_AT_ONCE
        if beam is None:
            beam, candidates = defaults.beam, candidates or defaults.candidates
            rerank = rerank or defaults.rerank
        if exact or not state.segments:
            parts = [
                search_exactly(segment, rows, most, state.blocked(i, among).marks)
                for i, segment in enumerate(state.segments)
            ]
        else:
            asked = most, candidates, rerank, beam, effort or most
            threads = threads or (cores() if len(rows) > 1 else 1)
            search = _compiled()
            alone = len(rows) == 1 and among is None and most == k
            if alone and (one := search.for_one_query(state, asked)):
                state.ready[given] = self.settings, one
                if found := one(np.ascontiguousarray(vectors)):
                    return found  # type: ignore[no-any-return]
            parts = search.search_segments(state, rows, asked, among, threads)
        ids, cosines = best_of_all(parts, len(rows), k)
        return Neighbors(ids[0], cosines[0]) if vectors.ndim == 1 else Neighbors(ids, cosines)

    def range_search(
        self, query: ArrayLike, threshold: float, *, allowed: ArrayLike | None = None
    ) -> Neighbors:
        """All items with at least ``threshold`` cosine to one query (dim,) that the probes meet.

        Searches with growing k, candidates and re-rank depth until the last result is below the
        threshold or the index is exhausted.

        Args:
            threshold: any number; below -1: all items. What rounding may move, by 1e-6, reaches it.

        Returns:
            ids (m,) and cosines (m,), best first.

        Raises:
            ValueError: the threshold is NaN, or the query's shape is not (dim,).
        """
        if np.isnan(threshold):
            raise ValueError("threshold is nan; it must be a number")
        row = as_query(query, self.settings.dim)
        k, total = 64, max(1, len(self))
        while True:
            found = self.search(row, min(k, total), allowed=allowed, candidates=64 * k)
            near = (found.ids >= 0) & (found.cosines >= threshold - UNIT)
            if not near.all() or k >= total:
                return Neighbors(found.ids[near], found.cosines[near])
            k *= 4

    def evaluate(
        self, queries: ArrayLike, k: int = 10, *, threads: int = 1, rounds: int = 3
    ) -> Evaluation:
        """Recall against exact search, and queries per second, at the index's settings.

        Args:
            queries: (q, dim), not in the index.

        Raises:
            ValueError: bad queries or none, a number below 1, or an empty index.
        """
        from lookalike.lsh.tuning import evaluate

        return evaluate(self, unit_rows(queries, self.settings.dim), k, threads, rounds)

    def tune(
        self, target_recall: float = 0.95, k: int = 10, *, queries: ArrayLike | None = None
    ) -> TuneReport:
        """Choose key bits, tables, candidates and re-rank depth by measuring, in seconds.

        The fastest settings found to reach ``target_recall`` are adopted; save to keep them.

        Args:
            target_recall: share of the exact k nearest to find, above 0, at most 1.
            queries: (q, dim) typical ones; None: items of the index, each searched for the others.

        Raises:
            ValueError: fewer than 2 k items, or a target that even a search of everything misses.
        """
        from lookalike.lsh.tuning import tune

        with self._writing:
            rows = None if queries is None else unit_rows(queries, self.settings.dim)
            report, tuned = tune(self, target_recall, k, rows)
            self._state, self.settings = tuned._state, tuned.settings
        return report

    def with_settings(self, settings: LSHSettings) -> Self:
        """A new index of the same items in memory, made with other settings.

        Raises:
            ValueError: settings for vectors of another length.
        """
        if settings.dim != self.settings.dim:
            raise ValueError(
                f"the settings are for dim {settings.dim}; this index has dim {self.settings.dim}"
            )
        index = type(self)(settings=settings, owner=self.owner)
        state = self._state
        if replace(settings, search=self.settings.search) == self.settings:
            index._state = state
            return index
        for segment in state.segments:
            segment.prove()
        ids = self.ids
        if len(ids):
            index._state = index._state.added(settings, ids, self.vectors(ids))
        return index

    def hamming(self, query: ArrayLike, ids: ArrayLike) -> NDArray[np.int32]:
        """Bits in which the codes of items differ from that of one query (dim,): (m,) int32.

        Raises:
            KeyError: an id of ``ids`` (m,) is unknown.
            ValueError: the query's shape is not (dim,).
        """
        codes = self.codes(ids)
        if not len(codes):
            return np.empty(0, np.int32)
        differing = np.bitwise_count(codes ^ self.code(query))
        return np.asarray(differing.sum(axis=1), np.int32)

    def codes(self, ids: ArrayLike) -> NDArray[np.uint64]:
        """The codes of items ``ids`` (m,) as words, uint64 (m, code_bits / 64).

        Raises:
            KeyError: an id is unknown.
        """
        return self._state.codes(as_ids(ids), self.settings.code_bits // 8)

    def code(self, query: ArrayLike) -> NDArray[np.uint64]:
        """The code of one query (dim,), as words.

        Raises:
            ValueError: the query's shape is not (dim,), or the index never held an item, from which
                its hash functions come.
        """
        row = unit_rows(as_query(query, self.settings.dim)[np.newaxis], self.settings.dim)
        if self.hasher is None:
            raise ValueError("the index has no hash functions before its first item; add one")
        return np.asarray(self.hasher.query_codes(row)[0].view(np.uint64))

    def join(
        self, threshold: float, *, recall: float = 0.99, limit: int = 10_000_000
    ) -> tuple[NDArray[np.int64], Floats]:
        """Pairs of items with at least ``threshold`` cosine, without visiting all pairs.

        n items that are all alike have n (n - 1) / 2 pairs; `groups` needs no list of them.

        Args:
            threshold: smallest cosine, above -1, at most 1, as for `range_search`.
            recall: chance that a pair at the threshold is found; closer pairs are surer.
            limit: most pairs to return; each takes 20 bytes, and 40 while they are sorted.

        Returns:
            ids (m, 2) int64, first < second, ascending, and cosines (m,) float32. Of items with
            equal codes only neighbours in a chain are paired; as a graph they are connected all
            the same.

        Raises:
            ValueError: threshold, recall or limit out of range, more than ``limit`` pairs, or an
                index without vectors.
        """
        whole("limit", limit)
        return all_pairs(self._joined(threshold, recall), limit)

    def groups(self, threshold: float, *, recall: float = 0.99) -> list[NDArray[np.int64]]:
        """Items that pairs with at least ``threshold`` cosine connect, directly or in a chain.

        Memory grows with the number of items, not of pairs.

        Args:
            threshold, recall: as for `join`.

        Returns:
            the ids of each group of two or more, ascending (m,) int64; by their first id.

        Raises:
            ValueError: threshold or recall out of range, or an index without vectors.
        """
        return groups(self._joined(threshold, recall))

    def _joined(self, threshold: float, recall: float) -> Joined:
        self._need_vectors("pairs cannot be compared")
        return Joined.of(self._state, self.settings, threshold, recall)

    def _need_vectors(self, what: str) -> None:
        if self.settings.vectors == "none":
            raise ValueError(f"this index keeps no vectors, so {what}")

    # ---- storage ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write what ``folder`` does not hold yet, then commit by replacing the manifest.

        Interrupted anywhere, the folder still holds the state saved before. Not for two writers.
        """
        folder = Path(folder)
        # Not the whole way to a folder that was there: on a disk that was unmounted it would be
        # below the mount point.
        was_there = self._stored is not None and self._stored[0] == folder.absolute()
        folder.mkdir(parents=not was_there, exist_ok=True)
        with self._writing:
            self._state = storage.write(folder, self.settings, self.owner, self._state)
            self._stored = folder.absolute(), self._state, self.settings

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Another name of `open`."""
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path, owner: str | None = None) -> Self:
        """Open a saved index by mapping its files; cheap whatever its size.

        Files are checked whole when they hold at most 64 MiB together; :meth:`damaged` always does.

        Args:
            owner: id that the index must have; None: whatever it has. An index saved before there
                were ids (manifest of format 2) gets a random one, which its next save writes.

        Raises:
            IndexFormatError: a file is missing, damaged, or of another version or index.
        """
        settings, stored, state = storage.read(Path(folder), owner)
        index = cls(settings=settings, owner=stored)
        index._state = State.of(state.hasher, state.segments, state.removed)
        if stored is not None:  # a pickled index is opened again by its id
            index._stored = Path(folder).absolute(), index._state, settings
        return index

    def damaged(self) -> list[str]:
        """Read every stored byte and name what does not match its checksum or cannot be; [] if all
        is well.
        """
        return storage.damaged(self._state)

    @classmethod
    def salvage(cls, folder: str | Path, settings: LSHSettings, owner: str | None = None) -> Self:
        """Rebuild a damaged index from the ids and vectors that are still whole in ``folder``.

        Items that had been removed may come back, since the marks may be lost; the caller removes
        what it does not know.

        Args:
            owner: id of the index, which it keeps; only its own files are used. None: the id that
                the manifest has, or else the one that all files have; files of several indexes
                without a manifest give nothing.
        """
        folder = Path(folder)
        owner = owner or storage.stored_owner(folder)
        index = cls(settings=settings, owner=owner)
        index._state = storage.salvage(folder, settings, owner)
        return index

    def segments(self) -> tuple[Segment, ...]:
        """The segments as they are now, for statistics."""
        return self._state.segments
