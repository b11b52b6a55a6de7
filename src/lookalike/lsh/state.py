"""A snapshot of an index, immutable, so that searches need no lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.segment import Segment

__all__ = ["Removed", "State", "kept", "live_ids"]


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

    @classmethod
    def of(
        cls, hasher: Hasher | None, segments: Sequence[Segment], removed: Sequence[Removed]
    ) -> State:
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
            f"the ids of the index are damaged: {number} {what}; rebuild it with: lookalike verify "
            f"--repair"
        )
    return ids


def kept(marks: NDArray[np.bool_]) -> Any:
    """What to index a segment's arrays with to leave out the removed rows."""
    return ~marks if marks.size else slice(None)
