"""The LSH index: add, remove, search and store unit vectors under the cosine."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.lsh import storage
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.join import candidate_pairs, collision_probability
from lookalike.lsh.owner import is_owner, new_owner
from lookalike.lsh.segment import Segment
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.state import Removed, State, kept, live_ids
from lookalike.lsh.threads import cores
from lookalike.lsh.vectors import as_ids, unit_rows

if TYPE_CHECKING:
    from lookalike.lsh.tuning import Evaluation, TuneReport

__all__ = ["LSHIndex", "Neighbors"]

MERGE_FAN_IN = 4
REFIT_GROWTH = 8
REFIT_UNTIL = 32_768
Floats = NDArray[np.float32]


class Neighbors(NamedTuple):
    """What a search found, best first.

    ``ids`` int64, -1 where fewer than k items exist; ``cosines`` float32, -inf there. Shapes
    (q, k), or (k,) for a single query.
    """

    ids: NDArray[np.int64]
    cosines: Floats


class LSHIndex:
    """Approximate cosine search by locality-sensitive hashing.

    Many threads may search while one adds, removes or saves: each search works on the state that it
    began with.

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
        self._writing = threading.RLock()

    def __len__(self) -> int:
        state = self._state
        return sum(map(len, state.segments)) - sum(removed.number for removed in state.removed)

    @property
    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending, int64 (n,)."""
        return live_ids(self._state)

    @property
    def hasher(self) -> Hasher | None:
        """The hash functions as they are now; None before the first item."""
        return self._state.hasher

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which of ``ids`` (n,) are in the index: bool (n,)."""
        return self._locate(self._state, as_ids(ids))[0] >= 0

    def vectors(self, ids: ArrayLike) -> Floats:
        """The stored unit vectors of ``ids`` (n,): float32 (n, dim).

        Raises:
            KeyError: an id is unknown.
        """
        wanted, state = as_ids(ids), self._state
        where, rows = self._locate_all(state, wanted)
        out = np.empty((len(wanted), self.settings.dim), np.float32)
        for i in np.unique(where):
            out[where == i] = state.segments[i].vectors_of(rows[where == i])
        return out

    # ---- change ----------------------------------------------------------------------------------

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add a batch; its cost is that of hashing it, and now and then of merging segments.

        Args:
            ids: (n,) distinct integers from 0 to 2^63 - 1, none of them in the index.
            vectors: (n, dim); scaled to unit length.

        Raises:
            ValueError: bad vectors, or an id that is repeated or taken; the index is unchanged.
        """
        new_ids, rows = as_ids(ids), unit_rows(vectors, self.settings.dim)
        if len(new_ids) != len(rows):
            raise ValueError(f"{len(new_ids)} ids for {len(rows)} vectors")
        ascending = bool((np.diff(new_ids) > 0).all())
        if not ascending and len(np.unique(new_ids)) != len(new_ids):
            raise ValueError("ids repeat within the batch")
        if not len(new_ids):
            return
        with self._writing:
            taken = self.contains(new_ids)
            if taken.any():
                raise ValueError(
                    f"id {new_ids[np.argmax(taken)]} is in the index already; use replace"
                )
            self._append(new_ids, rows)

    def replace(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add a batch, dropping the old vectors of ids that are in the index already."""
        with self._writing:
            rows = unit_rows(vectors, self.settings.dim)
            known = as_ids(ids)
            self.remove(known[self.contains(known)])
            self.add(known, rows)

    def remove(self, ids: ArrayLike) -> None:
        """Remove a batch by marking its rows; compaction takes the space back later.

        Raises:
            KeyError: an id is not in the index; nothing is removed then.
        """
        with self._writing:
            state, wanted = self._state, np.unique(as_ids(ids))
            where, rows = self._locate_all(state, wanted)
            removed = list(state.removed)
            for i in np.unique(where):
                marks = np.zeros(len(state.segments[i]), np.bool_)
                if removed[i].number:
                    marks |= removed[i].marks
                marks[rows[where == i]] = True
                removed[i] = Removed(marks, int(np.count_nonzero(marks)))
            self._state = State(state.hasher, state.segments, tuple(removed))

    def compact(self, *, only_if_worth_it: bool = False) -> None:
        """Merge all segments into one and drop removed rows.

        ``only_if_worth_it``: leave it when less than a quarter of the rows would be saved or moved
        to the largest segment, so that small changes to a large index stay cheap.

        An index without vectors cannot give items other buckets: its segments of different key
        bits stay apart.
        """
        with self._writing:
            state = self._state
            sizes = [len(segment) for segment in state.segments]
            spare = sum(removed.number for removed in state.removed)
            work = sum(sizes) - max(sizes, default=0) + spare
            if work and not (only_if_worth_it and 4 * work < sum(sizes)):
                for run in reversed(self._runs(state)):
                    if len(run) > 1 or state.removed[run.start].number:
                        state = self._merge(state, run)
                self._state = state

    def _runs(self, state: State) -> list[range]:
        """All segments, or neighbours of equal key bits where keys cannot be made anew."""
        bits = [segment.key_bits for segment in state.segments]
        starts = [0]
        if self.settings.vectors == "none":
            starts += [i for i in range(1, len(bits)) if bits[i] != bits[i - 1]]
        return [range(*ends) for ends in zip(starts, [*starts[1:], len(bits)], strict=True)]

    def _append(self, ids: NDArray[np.int64], rows: Floats) -> None:
        state = self._state
        hasher = state.hasher or Hasher.fit(self.settings, rows)
        segment = Segment.build(hasher, ids, rows)
        state = State(hasher, (*state.segments, segment), (*state.removed, Removed.none()))
        total = sum(len(s) for s in state.segments)
        if (
            self.settings.learned
            and self.settings.vectors != "none"
            and hasher.fitted_on < REFIT_UNTIL
            and total >= REFIT_GROWTH * hasher.fitted_on
        ):
            state = self._merge(state, range(len(state.segments)), refit=True)
        while (run := _mergeable(state.segments, self.settings)) is not None:
            state = self._merge(state, run)
        self._state = state

    def _merge(self, state: State, run: range, *, refit: bool = False) -> State:
        """Replace the segments of ``run`` by one; a refit must cover all of them."""
        parts = [(state.segments[i], state.removed[i].marks) for i in run]
        for segment, _ in parts:
            segment.prove()
        hasher = state.fitted
        if sum(len(segment) for segment, _ in parts) == sum(state.removed[i].number for i in run):
            made = []
        elif refit:
            ids = np.concatenate([s.ids[kept(marks)] for s, marks in parts])
            rows = np.concatenate([s.vectors[kept(marks)] for s, marks in parts])
            hasher = Hasher.fit(hasher.settings, rows)
            made = [Segment.build(hasher, ids, rows)]
        else:
            made = [Segment.merge(hasher, parts)]
        before, after = slice(0, run.start), slice(run.stop, None)
        segments = (*state.segments[before], *made, *state.segments[after])
        nothing = (Removed.none(),) * len(made)
        removed = (*state.removed[before], *nothing, *state.removed[after])
        return State(hasher, segments, removed)

    @staticmethod
    def _locate(
        state: State, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment number (-1: nowhere) and row of each id."""
        where = np.full(len(ids), -1, np.int64)
        rows = np.full(len(ids), -1, np.int64)
        for i, (segment, removed) in enumerate(zip(state.segments, state.removed, strict=True)):
            found = segment.find(ids)
            hit = found >= 0
            if removed.number:
                hit &= ~removed.marks[found]
            where[hit], rows[hit] = i, found[hit]
        if (where < 0).any():
            for segment in state.segments:
                segment.prove_order()
        return where, rows

    def _locate_all(
        self, state: State, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As :meth:`_locate`; KeyError names the first id that is nowhere."""
        where, rows = self._locate(state, ids)
        if (where < 0).any():
            raise KeyError(f"id {ids[np.argmax(where < 0)]} is not in the index")
        return where, rows

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        allowed: ArrayLike | None = None,
        candidates: int | None = None,
        rerank: int | None = None,
        exact: bool = False,
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
            exact: compare with every item instead (the oracle).
            threads: for a batch of queries; None: all cores.

        Raises:
            ValueError: k < 1, wrong shape, a NaN or zero query.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        given = np.asarray(queries, dtype=np.float32)
        rows = unit_rows(np.atleast_2d(given), self.settings.dim)
        # Numba takes a third of a second to import.
        from lookalike.lsh import search

        state, defaults = self._state, self.settings.search
        if state.hasher is not None and state.segments:
            prepared = state.hasher.prepare(rows)
            among = None if allowed is None else self._locate(state, np.unique(as_ids(allowed)))
            for i, segment in enumerate(state.segments):
                blocked = self._blocked(state, i, among)
                if exact:
                    found = search.search_exactly(segment, rows, k, blocked.marks)
                else:
                    found = search.search_segment(
                        state.hasher,
                        segment,
                        prepared,
                        k,
                        blocked=blocked.marks,
                        open_rows=len(segment) - blocked.number,
                        candidates=candidates or defaults.candidates,
                        rerank=rerank or defaults.rerank,
                        threads=threads or (cores() if len(rows) > 1 else 1),
                    )
                if i == 0:
                    ids, cosines = found
                else:
                    both_ids = np.concatenate([ids, found[0]], axis=1)
                    both = np.concatenate([cosines, found[1]], axis=1)
                    ids, cosines = search.best_of(both_ids, both, k)
        else:
            ids = np.full((len(rows), k), -1, np.int64)
            cosines = np.full((len(rows), k), -np.inf, np.float32)
        return Neighbors(ids[0], cosines[0]) if given.ndim == 1 else Neighbors(ids, cosines)

    def range_search(
        self, query: ArrayLike, threshold: float, *, allowed: ArrayLike | None = None
    ) -> Neighbors:
        """All items with at least ``threshold`` cosine to one query (dim,) that the probes meet.

        Searches with growing k, candidates and re-rank depth until the last result is below the
        threshold or the index is exhausted.

        Returns:
            ids (m,) and cosines (m,), best first.
        """
        k, total = 64, max(1, len(self))
        while True:
            found = self.search(query, min(k, total), allowed=allowed, candidates=64 * k)
            near = found.cosines >= threshold
            if not near.all() or k >= total:
                return Neighbors(found.ids[near], found.cosines[near])
            k *= 4

    def evaluate(
        self, queries: ArrayLike, k: int = 10, *, threads: int = 1, rounds: int = 3
    ) -> Evaluation:
        """Recall against exact search, and queries per second, at the index's settings.

        Args:
            queries: (q, dim), not in the index.
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
        """A new index of the same items in memory, made with other settings."""
        index = type(self)(settings=settings, owner=self.owner)
        state = self._state
        if replace(settings, search=self.settings.search) == self.settings:
            index._state = state
            return index
        for segment in state.segments:
            segment.prove()
        ids = self.ids
        if len(ids):
            index._append(ids, self.vectors(ids))
        return index

    def hamming(self, query: ArrayLike, ids: ArrayLike) -> NDArray[np.int32]:
        """Bits in which the codes of items differ from that of one query (dim,): (m,) int32.

        Raises:
            KeyError: an id of ``ids`` (m,) is unknown.
        """
        from lookalike.lsh.coding import hamming_rows

        wanted, state = as_ids(ids), self._state
        where, rows = self._locate_all(state, wanted)
        out = np.empty(len(wanted), np.int32)
        row = unit_rows(np.atleast_2d(np.asarray(query, np.float32)), self.settings.dim)
        for i in np.unique(where):
            code = state.fitted.query_codes(row).view(np.uint64)[0]
            codes = state.segments[i].codes_of(rows[where == i], self.settings.code_bits // 8)
            out[where == i] = hamming_rows(codes, code)
        return out

    def join(self, threshold: float, *, recall: float = 0.99) -> tuple[NDArray[np.int64], Floats]:
        """Pairs of items with at least ``threshold`` cosine, without visiting all pairs.

        Args:
            threshold: smallest cosine, above -1, at most 1.
            recall: chance that a pair at the threshold is found; closer pairs are surer.

        Returns:
            ids (m, 2) int64, first < second, and cosines (m,) float32. Of items with equal codes
            only neighbours in a chain are paired; as a graph they are connected all the same.

        Raises:
            ValueError: threshold or recall out of range.
        """
        if not -1 < threshold <= 1 or not 0 < recall < 1:
            raise ValueError(f"threshold {threshold} or recall {recall} is out of range")
        state = self._state
        live = [
            (segment, np.arange(len(segment))[kept(removed.marks)])
            for segment, removed in zip(state.segments, state.removed, strict=True)
        ]
        if state.hasher is None or sum(len(rows) for _, rows in live) < 2:
            return np.empty((0, 2), np.int64), np.empty(0, np.float32)
        ids = np.concatenate([segment.ids[rows] for segment, rows in live])
        width = self.settings.code_bits // 8
        codes = np.concatenate([segment.codes_of(rows, width) for segment, rows in live])
        spread = state.hasher.spread(self.vectors(ids[:: max(1, len(ids) // 1000)]))
        agreement = collision_probability(1 - (1 - threshold) / spread)
        pairs = ids[candidate_pairs(codes, agreement, recall, self.settings.seed)]
        kept_ids, kept_cosines = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
        for start in range(0, len(pairs), 8192):
            some = pairs[start : start + 8192]
            both = self.vectors(some.ravel()).reshape(len(some), 2, -1)
            cosines = np.einsum("ij,ij->i", both[:, 0], both[:, 1])
            near = cosines >= threshold
            kept_ids.append(np.sort(some[near], axis=1))
            kept_cosines.append(cosines[near])
        return np.concatenate(kept_ids), np.concatenate(kept_cosines)

    @staticmethod
    def _blocked(
        state: State, i: int, among: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    ) -> Removed:
        """The rows of a segment that do not count: removed, or not ``among`` those of `_locate`."""
        if among is None:
            return state.removed[i]
        blocked = np.ones(len(state.segments[i]), np.bool_)
        where, rows = among
        blocked[rows[where == i]] = False
        return Removed(blocked, int(np.count_nonzero(blocked)))

    # ---- storage ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write what ``folder`` does not hold yet, then commit by replacing the manifest.

        Interrupted anywhere, the folder still holds the state saved before. Not for two writers.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with self._writing:
            self._state = storage.write(folder, self.settings, self.owner, self._state)

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
        index._state = state
        return index

    def damaged(self) -> list[str]:
        """Read every stored byte and name what does not match its checksum or cannot be; [] if all
        is well.
        """
        return storage.damaged(self._state)

    @staticmethod
    def stored_settings(folder: str | Path) -> LSHSettings | None:
        """The settings of the index in ``folder``, None if they cannot be read."""
        return storage.stored_settings(Path(folder))

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
        if owner is None:
            owner = storage.stored_owner(folder)
        index = cls(settings=settings, owner=owner)
        for ids, vectors in storage.whole_items(folder, settings.dim, owner):
            new = np.flatnonzero(~index.contains(ids))
            if len(new):
                index._append(ids[new], vectors[new].astype(np.float32))  # as stored, to the bit
        return index

    def segments(self) -> tuple[Segment, ...]:
        """The segments as they are now, for statistics."""
        return self._state.segments


def _mergeable(segments: tuple[Segment, ...], settings: LSHSettings) -> range | None:
    """A run of MERGE_FAN_IN or more neighbouring segments of like size at the end, if any.

    Sizes grow from new to old by tiers of the fan-in, so an item is merged at most
    log(n) / log(fan-in) times.
    """
    sizes = [len(segment) for segment in segments]
    start, total = len(sizes) - 1, sizes[-1]
    while start > 0 and sizes[start - 1] <= max(total, MERGE_FAN_IN * max(sizes[start:])):
        start -= 1
        total += sizes[start]
    if settings.vectors == "none" and len({s.key_bits for s in segments[start:]}) > 1:
        return None
    return range(start, len(sizes)) if len(sizes) - start >= MERGE_FAN_IN else None
