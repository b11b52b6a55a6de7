"""A snapshot of an index, immutable, so that searches need no lock; and the next ones after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.build import build, merge
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.segment import Segment
from lookalike.lsh.settings import LSHSettings

MERGE_FAN_IN = 4
MEASURED_FROM = 4096
"""Items beyond which a segment is measured; fewer are all visited."""
REFIT_GROWTH = 8
REFIT_UNTIL = 32_768
Floats = NDArray[np.float32]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Segment number (-1: nowhere) and row of each of some ids, (n,) twice."""


class Removed(NamedTuple):
    """Which rows of a segment are removed, (n,) or (0,) for none, and how many."""

    marks: NDArray[np.bool_]
    number: int

    @classmethod
    def none(cls) -> Removed:
        return cls(np.empty(0, np.bool_), 0)


@dataclass(frozen=True)
class State:
    """An immutable snapshot: searches take it once and are untouched by later changes.

    No segment is without items that count: see :meth:`of`.
    """

    hasher: Hasher | None
    segments: tuple[Segment, ...]
    removed: tuple[Removed, ...]  # per segment

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without the searches."""
        return type(self), (self.hasher, self.segments, self.removed)

    @cached_property
    def searches(self) -> dict[Any, Any]:
        """For ``search.search_segments`` to keep its own in: of what is asked, and the segments."""
        return {}

    @cached_property
    def ready(self) -> dict[Any, tuple[Any, Any]]:
        """For `LSHIndex.search` to keep searches for one query in: of what is given, the settings
        that they are of, and a ``search.ForOneQuery``."""
        return {}

    @cached_property
    def least(self) -> float:
        """The cosine to the nearest item below which a query lies elsewhere than the items: of the
        largest segment; -1 where that is unknown, or many items are removed since."""
        sizes = [len(segment) for segment in self.segments]
        if not sizes or 10 * len(self) < 9 * sum(sizes):
            return -1.0
        factors = self.segments[int(np.argmax(sizes))].factors
        return -1.0 if factors is None else factors.least

    @classmethod
    def of(
        cls, hasher: Hasher | None, segments: Sequence[Segment], removed: Sequence[Removed]
    ) -> Self:
        """A state of these segments but those whose rows are all removed."""
        both = zip(segments, removed, strict=True)
        live = [(segment, gone) for segment, gone in both if gone.number < len(segment)]
        return cls(hasher, tuple(part for part, _ in live), tuple(gone for _, gone in live))

    @property
    def fitted(self) -> Hasher:
        """The hasher of a state that has segments."""
        if self.hasher is None:
            raise AssertionError("segments exist only with a hasher")
        return self.hasher

    def __len__(self) -> int:
        return sum(map(len, self.segments)) - sum(removed.number for removed in self.removed)

    # ---- where items are -------------------------------------------------------------------------

    def locate(self, ids: NDArray[np.int64]) -> Places:
        """Where each of ``ids`` (n,) is."""
        where = rows = np.full(len(ids), -1, np.int64)
        for i, (segment, removed) in enumerate(zip(self.segments, self.removed, strict=True)):
            found = segment.find(ids)
            if removed.number:
                found = np.where(removed.marks[found], -1, found)
            if i == 0:  # often the only one
                where, rows = np.minimum(found, 0), found
            else:
                hit = found >= 0
                where[hit], rows[hit] = i, found[hit]
        if where.min(initial=0) < 0:
            for segment in self.segments:
                segment.prove_order()
        return where, rows

    def locate_all(self, ids: NDArray[np.int64]) -> Places:
        """As `locate`; KeyError names the first id that is nowhere."""
        where, rows = self.locate(ids)
        if where.min(initial=0) < 0:
            raise KeyError(f"id {ids[np.argmax(where < 0)]} is not in the index")
        return where, rows

    def vectors(self, ids: NDArray[np.int64], dim: int) -> Floats:
        """The unit vectors of ``ids`` (n,): (n, dim). KeyError: one is nowhere."""
        out = np.empty((len(ids), dim), np.float32)
        for segment, at, rows in self._by_segment(ids):
            out[at] = segment.vectors_of(rows)
        return out

    def codes(self, ids: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
        """The codes, ``width`` bytes each, of ``ids`` (n,): (n, width / 8) words. KeyError: one is
        nowhere."""
        out = np.empty((len(ids), width // 8), np.uint64)
        for segment, at, rows in self._by_segment(ids):
            out[at] = segment.codes_of(rows, width)
        return out

    def _by_segment(
        self, ids: NDArray[np.int64]
    ) -> Iterator[tuple[Segment, slice | NDArray[np.bool_], NDArray[np.int64]]]:
        """Each segment that holds some of ``ids`` (n,): which of them, and in which rows. KeyError:
        one is nowhere."""
        where, rows = self.locate_all(ids)
        if len(self.segments) == 1:
            yield self.segments[0], slice(None), rows
            return
        for i in set(where.tolist()):
            yield self.segments[i], where == i, rows[where == i]

    def blocked(self, i: int, among: Places | None) -> Removed:
        """The rows of segment ``i`` that do not count: removed, or not ``among`` some items."""
        if among is None:
            return self.removed[i]
        blocked = np.ones(len(self.segments[i]), np.bool_)
        where, rows = among
        blocked[rows[where == i]] = False
        return Removed(blocked, int(np.count_nonzero(blocked)))

    # ---- the state after a change ----------------------------------------------------------------

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Without ``ids`` (n,), distinct; KeyError if one is not in it."""
        if not len(ids):
            return self
        where, rows = self.locate_all(ids)
        removed = list(self.removed)
        for i in np.unique(where):
            marks = np.zeros(len(self.segments[i]), np.bool_)
            if removed[i].number:
                marks |= removed[i].marks
            marks[rows[where == i]] = True
            removed[i] = Removed(marks, int(np.count_nonzero(marks)))
        return self.of(self.hasher, self.segments, removed)

    def added(self, settings: LSHSettings, ids: NDArray[np.int64], rows: Floats) -> Self:
        """With a batch, n >= 1 ids (n,) and unit rows (n, dim); merges segments now and then."""
        hasher = self.hasher or Hasher.fit(settings, rows)
        segment = build(hasher, ids, rows)
        state = type(self)(hasher, (*self.segments, segment), (*self.removed, Removed.none()))
        total = sum(len(s) for s in state.segments)
        if (
            settings.learned
            and settings.vectors != "none"
            and hasher.fitted_on < REFIT_UNTIL
            and total >= REFIT_GROWTH * hasher.fitted_on
        ):
            state = state._merged(range(len(state.segments)), refit=True)
        while (run := state._mergeable(settings)) is not None:
            state = state._merged(run)
        return state._measured(settings)

    def compacted(self, settings: LSHSettings, *, only_if_worth_it: bool) -> Self:
        """As `LSHIndex.compact`."""
        state = self
        sizes = [len(segment) for segment in state.segments]
        spare = sum(removed.number for removed in state.removed)
        work = sum(sizes) - max(sizes, default=0) + spare
        if work and not (only_if_worth_it and 4 * work < sum(sizes)):
            for run in reversed(state._runs(settings)):
                if len(run) > 1 or state.removed[run.start].number:
                    state = state._merged(run)
        return state._measured(settings)

    def _measured(self, settings: LSHSettings) -> Self:
        """With the factors of what was made last."""
        if settings.vectors == "none" or settings.tables > 1:
            return self
        from lookalike.lsh.tuning import factors

        segments = tuple(
            segment
            if segment.factors is not None or len(segment) <= MEASURED_FROM
            else replace(segment, factors=factors(self.fitted, segment))
            for segment in self.segments
        )
        return replace(self, segments=segments)

    def _runs(self, settings: LSHSettings) -> list[range]:
        """All segments, or neighbours of equal key bits where keys cannot be recomputed."""
        bits = [segment.key_bits for segment in self.segments]
        starts = [0]
        if settings.vectors == "none":
            starts += [i for i in range(1, len(bits)) if bits[i] != bits[i - 1]]
        return [range(*ends) for ends in zip(starts, [*starts[1:], len(bits)], strict=True)]

    def _mergeable(self, settings: LSHSettings) -> range | None:
        """A run of MERGE_FAN_IN or more neighbouring segments of like size at the end, if any.

        Sizes grow from new to old by tiers of the fan-in, so an item is merged at most
        log(n) / log(fan-in) times.
        """
        segments = self.segments
        sizes = [len(segment) for segment in segments]
        start, total = len(sizes) - 1, sizes[-1]
        while start > 0 and sizes[start - 1] <= max(total, MERGE_FAN_IN * max(sizes[start:])):
            start -= 1
            total += sizes[start]
        if settings.vectors == "none" and len({s.key_bits for s in segments[start:]}) > 1:
            return None
        return range(start, len(sizes)) if len(sizes) - start >= MERGE_FAN_IN else None

    def _merged(self, run: range, *, refit: bool = False) -> Self:
        """With one segment in place of those of ``run``; a refit must cover all of them."""
        parts = [(self.segments[i], self.removed[i].marks) for i in run]
        for segment, _ in parts:
            segment.prove()
        hasher = self.fitted
        if refit:
            ids = np.concatenate([s.ids[kept(marks)] for s, marks in parts])
            rows = np.concatenate([s.vectors[kept(marks)] for s, marks in parts])
            hasher = Hasher.fit(hasher.settings, rows)
            made = build(hasher, ids, rows)
        else:
            made = merge(hasher, parts)
        before, after = slice(0, run.start), slice(run.stop, None)
        segments = (*self.segments[before], made, *self.segments[after])
        removed = (*self.removed[before], Removed.none(), *self.removed[after])
        return type(self)(hasher, segments, removed)


def live_ids(state: State) -> NDArray[np.int64]:
    """The ids of all items that are not removed, ascending, int64 (n,).

    Raises:
        IndexFormatError: one is negative or there twice, which only damage makes.
    """
    both = zip(state.segments, state.removed, strict=True)
    parts = [segment.ids[kept(removed.marks)] for segment, removed in both]
    ids = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    wrong = ids[:1][ids[:1] < 0], ids[1:][ids[1:] == ids[:-1]]
    if any(part.size for part in wrong):
        number = int(np.concatenate(wrong)[0])
        what = "is negative" if number < 0 else "is in two places"
        raise IndexFormatError(
            f"the ids of the index are damaged: {number} {what}; build the index again "
            f"from its vectors"
        )
    return ids


def kept(marks: NDArray[np.bool_]) -> Any:
    """What to index a segment's arrays with to leave out the removed rows."""
    return ~marks if marks.size else slice(None)
