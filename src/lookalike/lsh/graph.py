"""The neighbour graph: the nearest others of every item of an index, kept in a file beside it.

Made by the index's own search in batches, and brought up to date by searching for what is new and
for what has lost a neighbour. Items are named by their ids, whose vectors never change, so that a
graph that lags behind its index is still true of every item that both hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, open_arrays, write_arrays

if TYPE_CHECKING:
    from lookalike.lsh.index import LSHIndex

NEIGHBOURS = 50
"""Kept of every item, where there are so many others."""
EXACT_UP_TO = 4096
"""Items that are all compared with each other, which takes no longer than hashing."""
QUERIES_AT_ONCE = 4096
WIDER = 4
"""New items are searched for so many times deeper, for an item need not be among the nearest of one
that is among its own."""
ROWS_AT_ONCE = 16_384
REBUILD_SHARE = 0.25
"""Of lists searched since all were, from which on all are searched again."""
VERIFY_ON_OPEN = 64 << 20
LIMIT = 1.02
"""Of a cosine of vectors that were rounded to float16."""
KIND = "neighbours"
LAYOUT = {"ids": (1, "<i8"), "near": (2, "<u4"), "cosines": (2, "<f2")}


@dataclass(frozen=True, eq=False)
class NeighbourGraph:
    """The ``w`` nearest others of each of ``n`` items, w = min(NEIGHBOURS, n - 1).

    Attributes:
        ids: (n,) int64, ascending.
        near: (n, w) uint32, rows of ``ids``, best first.
        cosines: (n, w) float16 of those pairs.
        searched: lists that were searched since all were; others were only added to.
        file: what it was opened from.
    """

    ids: NDArray[np.int64]
    near: NDArray[np.uint32]
    cosines: NDArray[np.float16]
    searched: int = 0
    file: ArrayFile | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Neighbours of each item."""
        return int(self.near.shape[1])

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where items are, -1 for those that are not in the graph: int64 (m,)."""
        return _places(self.ids, ids)

    def lists(
        self, rows: NDArray[np.int64], depth: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.float16]]:
        """Neighbours and cosines of ``rows`` (m,), each (m, depth) or as many as there are.

        Raises:
            IndexFormatError: they cannot be, which only damage to a large file makes.
        """
        near, cosines = self.near[rows, :depth], self.cosines[rows, :depth]
        if not ((near < len(self)).all() and (np.abs(cosines) < LIMIT).all()):
            raise self.damaged()
        return near, cosines

    def damaged(self) -> IndexFormatError:
        """The error for damage that is found while it is used."""
        name = self.file.path.name if self.file is not None else "in memory"
        return IndexFormatError(f"the neighbour graph {name} is damaged")

    # ---- making ----------------------------------------------------------------------------------

    @classmethod
    def build(cls, index: LSHIndex) -> Self:
        """Of all items of an index with vectors: the nearest others that its search finds."""
        ids = index.ids
        width = min(NEIGHBOURS, max(0, len(ids) - 1))
        return cls(ids, *_search(index, ids, np.arange(len(ids)), width))

    def updated(self, index: LSHIndex) -> Self:
        """The graph of the index as it is now; this one if no item was added or removed.

        New items are searched for, and items that have lost a neighbour; new items are entered into
        the lists of those that they found and to which they are nearer than the last there. All
        lists are searched again once REBUILD_SHARE of them were.
        """
        ids = index.ids
        if np.array_equal(ids, self.ids):
            return self
        width = min(NEIGHBOURS, max(0, len(ids) - 1))
        place = _places(ids, self.ids)  # of old rows among the new ones
        stays = place >= 0
        if self.width != width or not stays.any():
            return self.build(index)
        kept, old = place[stays], place[self.near[stays]]
        is_new = np.ones(len(ids), np.bool_)
        is_new[kept] = False
        new = np.flatnonzero(is_new)
        lost = (old < 0).any(axis=1)
        again = np.concatenate([new, kept[lost]])
        searched = self.searched + len(again)
        if searched > REBUILD_SHARE * len(ids):
            return self.build(index)
        near = np.empty((len(ids), width), np.uint32)
        cosines = np.empty((len(ids), width), np.float16)
        near[kept], cosines[kept] = np.maximum(old, 0), self.cosines[stays]
        found, scores = _search(index, ids, again, min(WIDER * width, len(ids) - 1))
        near[again], cosines[again] = found[:, :width], scores[:, :width]
        whole = np.zeros(len(ids), np.bool_)
        whole[kept[~lost]] = True
        _enter(near, cosines, new, found[: len(new)], scores[: len(new)], whole)
        return type(self)(ids, near, cosines, searched)

    # ---- what it shows ---------------------------------------------------------------------------

    def peaks(self, depth: int = 20, least: float = -1.0) -> NDArray[np.int64]:
        """The row that each item's theme gathers around: int64 (n,).

        Each item points to the first of its ``depth`` nearest that lies denser, by the mean cosine
        to those, and so on to a peak, the most central item of a theme (Rodriguez and Laio,
        "Clustering by fast search and find of density peaks", 2014).

        Args:
            least: smallest cosine at which an item points to another.
        """
        rows = np.arange(len(self))
        if not self.width:
            return rows
        near, cosines = self.lists(rows, depth)
        density = cosines.mean(axis=1, dtype=np.float64)
        denser = (density[near] > density[:, np.newaxis]) & (cosines >= least)
        first = near[rows, denser.argmax(axis=1)]
        target = np.where(denser.any(axis=1), first, rows)
        while not np.array_equal(further := target[target], target):
            target = further
        return target

    def closeness(self, depth: int = 10) -> NDArray[np.float64]:
        """Mean cosine of each item to its ``depth`` nearest, low where it is alone: (n,)."""
        _, cosines = self.lists(np.arange(len(self)), depth)
        return np.asarray(cosines.mean(axis=1, dtype=np.float64))

    # ---- storage ---------------------------------------------------------------------------------

    def save(self, path: Path, owner: str) -> None:
        """Write the file ``path`` of the index ``owner``; interrupted, the old one is there."""
        arrays = {name: getattr(self, name) for name in LAYOUT}
        meta = {"owner": owner, "searched": self.searched}
        write_arrays(path.parent, KIND, meta, arrays, fixed_name=path.name)

    @classmethod
    def open(cls, path: Path, owner: str) -> Self:
        """Map a file; up to 64 MiB are checked whole, of larger ones what is used.

        Raises:
            IndexFormatError: it is missing, damaged, or of another index than ``owner``.
        """
        file = open_arrays(path, KIND)
        file.check_owner(owner)
        found = {name: (array.ndim, array.dtype.str) for name, array in file.arrays.items()}
        searched = file.meta.get("searched")
        if found != LAYOUT or type(searched) is not int or searched < 0:
            raise IndexFormatError(f"{path.name} is damaged: it is not a neighbour graph")
        graph = cls(**file.arrays, searched=searched, file=file)
        if not len(graph) == len(graph.near) == len(graph.cosines):
            raise IndexFormatError(f"{path.name} is damaged: its arrays differ in length")
        if not graph.width == graph.cosines.shape[1] <= min(NEIGHBOURS, max(0, len(graph) - 1)):
            raise IndexFormatError(f"{path.name} is damaged: it has {graph.width} neighbours each")
        if file.bytes <= VERIFY_ON_OPEN and (problem := graph.problem()):
            raise IndexFormatError(f"{path.name} is damaged: {problem}")
        return graph

    def problem(self) -> str | None:
        """What is wrong with it, after reading every byte; None if nothing is."""
        if self.file is not None and (names := self.file.damaged()):
            return f"{' and '.join(names)} do not match their checksums"
        if len(self) and not (self.ids[0] >= 0 and (np.diff(self.ids) > 0).all()):
            return "its ids do not ascend"
        for start in range(0, len(self), ROWS_AT_ONCE):
            near = self.near[start : start + ROWS_AT_ONCE]
            cosines = self.cosines[start : start + ROWS_AT_ONCE]
            own = np.arange(start, start + len(near))[:, np.newaxis]
            if not ((near < len(self)) & (near != own)).all():
                return "a neighbour is not another item"
            if not (np.abs(cosines) < LIMIT).all() or not (np.diff(cosines, axis=1) <= 0).all():
                return "its cosines do not fall from at most 1"
        return None


def _places(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of ``wanted`` is among ascending ``ids``, -1 if it is not: int64 (m,)."""
    if not len(ids):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)


def _search(
    index: LSHIndex, ids: NDArray[np.int64], rows: NDArray[np.int64], width: int
) -> tuple[NDArray[np.uint32], NDArray[np.float16]]:
    """The nearest others of the items in ``rows`` (m,) of ``ids``, all items: (m, width) twice."""
    near = np.empty((len(rows), width), np.uint32)
    cosines = np.empty((len(rows), width), np.float16)
    for start in range(0, len(rows) if width else 0, QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        wanted = ids[rows[part]]
        exact = len(ids) <= EXACT_UP_TO
        found = index.search(index.vectors(wanted), width + 1, exact=exact)
        others = found.ids != wanted[:, np.newaxis]
        others[others.all(axis=1), -1] = False  # so many are equal that it has not found itself
        near[part] = _places(ids, found.ids[others]).reshape(-1, width)
        cosines[part] = found.cosines[others].reshape(-1, width)
    return near, cosines


def _enter(
    near: NDArray[np.uint32],
    cosines: NDArray[np.float16],
    new: NDArray[np.int64],
    found: NDArray[np.uint32],
    scores: NDArray[np.float16],
    whole: NDArray[np.bool_],
) -> None:
    """Enter the rows ``new`` (m,) into the lists of what was ``found`` for them (m, more), with
    its cosines, where those lists are ``whole`` (n,).
    """
    width = near.shape[1]
    who, scores = np.repeat(new, found.shape[1]), scores.ravel()
    where = found.ravel().astype(np.int64)
    gains = whole[where] & (scores > cosines[where, -1])
    order = np.argsort(where[gains], kind="stable")
    where, who, scores = where[gains][order], who[gains][order], scores[gains][order]
    rows, starts = np.unique(where, return_index=True)
    ends = np.append(starts[1:], len(where))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        part = slice(starts[start], ends[start : start + ROWS_AT_ONCE][-1])
        all_rows = np.concatenate([np.repeat(some, width), where[part]])
        all_near = np.concatenate([near[some].ravel(), who[part].astype(np.uint32)])
        all_cosines = np.concatenate([cosines[some].ravel(), scores[part]])
        best = np.lexsort((all_near, -all_cosines, all_rows))
        firsts = np.flatnonzero(np.diff(all_rows[best], prepend=-1))
        chosen = best[firsts[:, np.newaxis] + np.arange(width)]
        near[some], cosines[some] = all_near[chosen], all_cosines[chosen]
