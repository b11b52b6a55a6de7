"""Make the links of segments, compiled by Numba, and measure how far a search is to follow them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import search_exactly
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.links import LINKED_FROM, Links
from lookalike.lsh.search import default_candidates, search_segment
from lookalike.lsh.segment import Segment
from lookalike.lsh.state import Removed, State
from lookalike.lsh.walk import dot
from lookalike.threads import cores, for_all_parts

if TYPE_CHECKING:
    from lookalike.lsh.index import LSHIndex

NEAREST = 32
"""Neighbours of an item that may become links, and as many items that it is a neighbour of."""
LINKS = 24
"""Of an item."""
ROWS_AT_ONCE = 4096
BEAMS = (16, 20, 24, 32, 40, 48, 64, 96)
"""Tried until the links find as many of the nearest as a scan does, and ENOUGH."""
ENOUGH = 0.95
SCANNED = 800
"""Items that are scanned in the time in which one is followed (benchmarks/ann.py)."""
TESTED, WANTED = 512, 10
"""Searches that this is measured with, and the results of each."""


def link(index: LSHIndex, state: State, graph: NeighbourGraph | None) -> State:
    """As `LSHIndex.link`."""
    segments = list(state.segments)
    for i, segment in enumerate(segments):
        if segment.links is None and len(segment) >= LINKED_FROM and len(segment.vectors):
            segment.prove()
            graph = NeighbourGraph.build(index) if graph is None else graph
            made = Links(_links(segment, _neighbours(segment, graph)), 0)
            beam = _beam(state.fitted, segment.linked(made), state.removed[i])
            segments[i] = segment.linked(replace(made, beam=beam))
    return replace(state, segments=tuple(segments))


def _neighbours(segment: Segment, graph: NeighbourGraph) -> NDArray[np.uint32]:
    """The nearest of each item that lie in its own segment, best first: rows, (n, w) uint32, n
    where there is none.
    """
    n = len(segment)
    place = segment.find(graph.ids)
    place[place < 0] = n
    near = np.full((n + 1, min(NEAREST, graph.width)), n, np.uint32)
    for start in range(0, len(graph), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(graph)))
        near[place[rows]] = place[graph.lists(rows, NEAREST)[0]]
    return near[:n]


def _links(segment: Segment, near: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(n, LINKS) rows."""
    vectors, back = segment.scanned.vectors, _reversed(near, NEAREST)
    out = np.empty((len(near), LINKS), np.uint32)
    for_all_parts(
        lambda part: _choose(vectors, near, back, part.start, part.stop, out),
        len(near),
        ROWS_AT_ONCE,
        cores(),
    )
    return out


@compiled()
def _reversed(near: NDArray[np.uint32], most: int) -> NDArray[np.uint32]:
    """The items that each is near to, the nearest lists' heads first: (n, most), n: none."""
    n = near.shape[0]
    out = np.full((n, most), n, np.uint32)
    counts = np.zeros(n, np.int64)
    for j in range(near.shape[1]):
        for i in range(n):
            other = near[i, j]
            if other < n and counts[other] < most:
                out[other, counts[other]] = i
                counts[other] += 1
    return out


@compiled()
def _choose(
    vectors: NDArray[Any],
    near: NDArray[np.uint32],
    back: NDArray[np.uint32],
    start: int,
    stop: int,
    out: NDArray[np.uint32],
) -> None:
    """Write the links of the rows from ``start`` to ``stop``: the nearest of both lists first, but
    those that lie nearer to a link than to the item last. An item with fewer leads to itself.
    """
    n = near.shape[0]
    most = near.shape[1] + back.shape[1]
    others = np.empty(most, np.int64)
    cosines = np.empty(most, np.float32)
    is_link = np.empty(most, np.bool_)
    for row in range(start, stop):
        count = 0
        for j in range(most):
            other = near[row, j] if j < near.shape[1] else back[row, j - near.shape[1]]
            fresh = other < n and other != row
            for i in range(count):
                fresh = fresh and others[i] != other
            if fresh:
                others[count] = other
                cosines[count] = dot(vectors[row], vectors[other])
                count += 1
        order = np.argsort(-cosines[:count], kind="mergesort")
        is_link[:count] = False
        made = 0
        for place in order:
            leads = made < out.shape[1]
            for i in range(made):
                if leads and dot(vectors[out[row, i]], vectors[others[place]]) > cosines[place]:
                    leads = False
            if leads:
                out[row, made] = others[place]
                is_link[place] = True
                made += 1
        for place in order:
            if made < out.shape[1] and not is_link[place]:
                out[row, made] = others[place]
                made += 1
        out[row, made:] = row


def _beam(hasher: Hasher, segment: Segment, removed: Removed) -> int:
    """The narrowest with which a search finds as many of the nearest as by scanning; 0: none does
    so in less time. Where a scan finds too few, one that finds more in about its time.

    Measured with some of the items, which are left out of the segment for it.
    """
    n, links = len(segment), segment.links
    assert links is not None
    tested = np.random.default_rng(0).choice(n, min(TESTED, n // 16), replace=False)
    blocked = np.zeros(n, np.bool_)
    blocked[tested] = True
    rows = np.where(blocked[links.rows], np.arange(n, dtype=np.uint32)[:, np.newaxis], links.rows)
    if removed.number:
        blocked |= removed.marks
    queries = segment.vectors_of(tested)
    exact = search_exactly(segment, queries, WANTED, blocked).ids
    prepared = hasher.prepare(queries)

    def found(beam: int) -> int:
        ids = search_segment(
            hasher,
            segment.linked(Links(rows, beam)),
            prepared,
            WANTED,
            blocked=blocked,
            open_rows=n - int(np.count_nonzero(blocked)),
            candidates=None,
            rerank=None,
            beam=None,
            effort=WANTED,
            threads=cores(),
        ).ids
        return sum(len(np.intersect1d(*pair)) for pair in zip(exact, ids, strict=True))

    scanned = reached = found(0)
    goal = max(scanned, ENOUGH * exact.size)
    most = default_candidates(n, WANTED) / SCANNED * (1 if scanned == goal else 2)
    beams = [beam for beam in BEAMS if beam <= most]
    for beam in beams:
        reached = found(beam)
        if reached >= goal:
            return beam
    return beams[-1] if beams and reached >= scanned else 0
