"""Make links of segments and their codes, compiled by Numba, and measure what a search needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import Neighbors, search_exactly
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.hashing import LARGEST_ADDITION, Hasher
from lookalike.lsh.links import LINKED_FROM, LINKS, Links, record_bytes
from lookalike.lsh.search import Asked, default_candidates, default_rerank, search_segments
from lookalike.lsh.segment import AS_DEFAULT, Segment, lane
from lookalike.lsh.simd import CORRECTION_ONE
from lookalike.lsh.state import Removed, State
from lookalike.lsh.tuning import TIE, need_queries, recall_of
from lookalike.lsh.vectors import unit_rows, widened
from lookalike.lsh.walk import dot, prefetch_row
from lookalike.threads import cores, for_all_parts

if TYPE_CHECKING:
    from lookalike.lsh.index import LSHIndex

NEAREST = 50
"""Neighbours of an item that may become links, and as many items that it is a neighbour of."""
SPREAD = np.float32(1.21)
"""A link leads to another item if the squared distance from the item is more than so many times
that from the link: alpha^2 of Subramanya et al. 2019 (DiskANN)."""
ROWS_AT_ONCE = 4096
AHEAD = 2
"""Links whose ends are fetched from memory before they are encoded."""
SAMPLE = 1024
"""Items whose links the units of all are chosen by."""
HEADROOM, LEAST = 1.5, 1e-6
GATHER = np.uint64(0x0102040810204080)
"""A number of eight bytes, each 0 or 1, times this has them as the bits of its highest byte."""
ROUNDS = 64
"""Of making sure that all items are found."""
WIDENED = 2
"""Times as much as by default up to which a scan finds neighbours; links do in less time beyond."""
SHORT, BEAM, PASSES = (2048, 64), 96, 2
"""Candidates and re-ranked ones of the short scan, the beam of the walks, and passes of these, each
by links of what the last two have found."""
BEAMS = (16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
"""Tried until the links find ENOUGH of the nearest, and AS_MANY of those that a scan does."""
ENOUGH = 0.95
AS_MANY = 0.998
ENTRIES = (1, 2, 4, 8, 16, 32)
"""Tried likewise, times the square root of the items: where clusters lie apart, links do not lead
from one to another, and a search has to begin in the right one (benchmarks/cone.py)."""
SCANNED, SCORED = 120, 600
"""Items that are scanned by default in the time that one of a beam takes (benchmarks/ann.py), and
of those to begin at."""
ALWAYS, COMPARED = 18_000, 64
"""Items that are scanned in the time that a search takes whatever it visits, and that a candidate
takes to re-rank (benchmarks/cone.py)."""
ALONE = 0.25
"""Share of the items without an equal for links to be followed: equal ones lead to each other."""
TESTED, WANTED = 512, 10
"""Searches that this is measured with, and the results of each."""


def link(
    index: LSHIndex, state: State, graph: NeighbourGraph | None, queries: NDArray[np.float32] | None
) -> State:
    """As `LSHIndex.link`."""
    if queries is not None:
        need_queries(queries)
    segments = list(state.segments)
    if not segments or state.fitted.lengths is None:
        return state
    for i, segment in enumerate(segments):
        if len(segment) < LINKED_FROM or not len(segment.vectors):
            continue
        if segment.links is None:
            segment.prove()
            near = _found(state.fitted, segment) if graph is None else _neighbours(segment, graph)
            records, units = _records(state.fitted, segment, _links(segment, near))
        elif queries is not None:
            near, records, units = None, segment.links.records.copy(), segment.links.units
        else:
            continue
        how = _measured(state.fitted, segment, records, units, near, state.removed[i], queries)
        links = Links(records[:], units, *how)
        if links.beam and not _reach_all(state.fitted, segment, records, links):
            links = replace(links, beam=0)
        segments[i] = segment.linked(links)
    return replace(state, segments=tuple(segments))


def _found(hasher: Hasher, segment: Segment) -> NDArray[np.uint32]:
    """As `_neighbours`, found by a scan; where that must look at many more than by default, by
    links that are made of what a short one finds, and those with these.
    """
    wider, deeper = (segment.factors or AS_DEFAULT).of(NEAREST + 1)
    if wider <= WIDENED and deeper <= WIDENED:
        return _nearest(hasher, segment, Asked(NEAREST + 1, None, None, None, NEAREST + 1))
    near = _nearest(hasher, segment, Asked(NEAREST + 1, *SHORT, None, 1))
    for _ in range(PASSES):
        records, units = _records(hasher, segment, _links(segment, near))
        linked = segment.linked(Links(records, units, BEAM, ENTRIES[-2]))
        more = _nearest(hasher, linked, Asked(NEAREST + 1, None, None, BEAM, 1))
        near = np.concatenate([more, near[:, :NEAREST]], axis=1)
    return near


def _nearest(hasher: Hasher, segment: Segment, asked: Asked) -> NDArray[np.uint32]:
    """The others that searches for all items find, best first: rows, (n, asked.k - 1) uint32, n
    where there is none.
    """
    near = np.empty((len(segment), asked.k - 1), np.uint32)
    for some, hits in _searched(hasher, segment, np.arange(len(segment)), asked):
        rows = segment.find(hits.ids.ravel()).reshape(hits.ids.shape)
        others = rows != some[:, np.newaxis]
        others[others.all(axis=1), -1] = False  # so many are equal that it has not found itself
        near[some] = np.where(rows < 0, len(near), rows)[others].reshape(len(some), -1)
    return near


def _searched(
    hasher: Hasher, segment: Segment, some: NDArray[np.int64], asked: Asked
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Parts of the items ``some`` (m,), and what searches for them find."""
    state = State(hasher, (segment,), (Removed.none(),))
    for start in range(0, len(some), ROWS_AT_ONCE):
        part = some[start : start + ROWS_AT_ONCE]
        queries = unit_rows(segment.vectors_of(part), hasher.settings.dim)
        yield part, search_segments(state, queries, asked, None, cores())[0]


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


def _links(
    segment: Segment, near: NDArray[np.uint32], some: NDArray[np.int64] | None = None
) -> NDArray[np.uint32]:
    """Of ``some`` items (m,) or all: (m, LINKS) rows."""
    vectors, back = segment.scanned.vectors, _reversed(near, NEAREST)
    some = np.arange(len(near)) if some is None else some
    out = np.empty((len(some), LINKS), np.uint32)
    for_all_parts(
        lambda part: _choose(vectors, near, back, some[part], out[part]),
        len(some),
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
    some: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> None:
    """Write the links of ``some`` rows (m,): the nearest of both lists first, but those that lie
    much nearer to a link than to the item last. An item with fewer leads to itself.
    """
    n = near.shape[0]
    most = near.shape[1] + back.shape[1]
    others = np.empty(most, np.int64)
    cosines = np.empty(most, np.float32)
    is_link = np.empty(most, np.bool_)
    for at, row in enumerate(some):
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
            for i in range(made if leads else 0):
                between = 1 - dot(vectors[out[at, i]], vectors[others[place]])
                if SPREAD * between < 1 - cosines[place]:
                    leads = False
                    break
            if leads:
                out[at, made] = others[place]
                is_link[place] = True
                made += 1
        for place in order:
            if made < out.shape[1] and not is_link[place]:
                out[at, made] = others[place]
                made += 1
        out[at, made:] = row


class Codes(NamedTuple):
    """Codes (m, LINKS, bytes), corrections and additions (m, LINKS) of the links of m items."""

    codes: NDArray[np.uint8]
    corrections: NDArray[np.float32]
    additions: NDArray[np.float32]


def link_codes(
    hasher: Hasher, segment: Segment, some: NDArray[np.int64], rows: NDArray[np.uint32]
) -> Codes:
    """The codes of the links from the items ``some`` (m,) to ``rows`` (m, LINKS).

    Of a link from c to x, r = x - c, bit j of the code is [p_j . r > 0]. With signs s_j and the
    correction f = |r|^2 / sum_j |p_j . r| the cosine of a query q and x is about
    q . c + f sum_j (p_j . (q - mean)) s_j + a (exact for q - c along r), where the addition
    a = r . c + f sum_j (p_j . (mean - c)) s_j does not depend on the query.
    """
    ends = np.concatenate([some[:, np.newaxis], rows], axis=1)
    met, place = np.unique(ends, return_inverse=True)
    vectors = widened(segment.vectors[met])
    shape = rows.shape
    out = Codes(
        np.empty((*shape, hasher.settings.code_bits // 8), np.uint8),
        *np.empty((2, *shape), np.float32),
    )
    _encode(vectors, *hasher.on_code_planes(vectors), place.reshape(len(some), -1), *out)
    return out


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _encode(
    vectors: NDArray[np.float32],
    projected: NDArray[np.float32],
    of_mean: NDArray[np.float32],
    ends: NDArray[np.int64],
    codes: NDArray[np.uint8],
    corrections: NDArray[np.float32],
    additions: NDArray[np.float32],
) -> None:
    """See `link_codes`: ``ends`` (m, 1 + LINKS) are rows of ``vectors`` and of ``projected``."""
    above = np.empty(8 * codes.shape[2], np.uint8)
    words = above.view(np.uint64)
    for i in range(ends.shape[0]):
        c = ends[i, 0]
        for link in range(codes.shape[1]):
            x = ends[i, 1 + link]
            if link + AHEAD < codes.shape[1]:
                prefetch_row(vectors, ends[i, 1 + link + AHEAD])
                prefetch_row(projected, ends[i, 1 + link + AHEAD])
            square = along = np.float32(0)
            for j in range(vectors.shape[1]):
                r = vectors[x, j] - vectors[c, j]
                square += r * r
                along += r * vectors[c, j]
            total = rest = np.float32(0)
            for j in range(of_mean.shape[0]):
                r = projected[x, j] - projected[c, j]
                total += abs(r)
                to_mean = of_mean[j] - projected[c, j]
                rest += to_mean if r > 0 else -to_mean
                above[j] = r > 0
            for byte in range(codes.shape[2]):
                codes[i, link, byte] = words[byte] * GATHER >> np.uint64(56)
            corrections[i, link] = square / max(total, np.float32(1e-12))
            additions[i, link] = along + corrections[i, link] * rest


def _records(
    hasher: Hasher, segment: Segment, rows: NDArray[np.uint32]
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """As `Links` keeps the links to ``rows`` (n, LINKS); units that those of a sample fit."""
    n, code_bytes = len(rows), hasher.settings.code_bits // 8
    some = np.sort(np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False))
    sample = link_codes(hasher, segment, some, rows[some])
    unit = HEADROOM * max(float(sample.corrections.max()), LEAST)
    step = HEADROOM * max(float(np.abs(sample.additions).max()), LEAST) / LARGEST_ADDITION
    records = np.empty((n, record_bytes(code_bytes)), np.uint8)
    records.view(np.uint32)[:, -LINKS:] = rows
    _write(hasher, segment, np.arange(n), records, (unit, step))
    return records, (unit, step)


def _write(
    hasher: Hasher,
    segment: Segment,
    some: NDArray[np.int64],
    records: NDArray[np.uint8],
    units: tuple[float, float],
) -> None:
    """Write the codes of ``some`` records (m,), whose rows are there."""
    code_bytes = hasher.settings.code_bits // 8
    shorts = records.view(np.int16)[:, LINKS * code_bytes // 2 :]
    rows, lanes = records.view(np.uint32)[:, -LINKS:], lane(np.arange(LINKS))

    def encode(part: slice) -> None:
        here = some[part]
        made = link_codes(hasher, segment, here, rows[here])
        blocks = np.empty((len(here), code_bytes, LINKS), np.uint8)
        blocks[:, :, lanes] = made.codes.transpose(0, 2, 1)
        records[here, : LINKS * code_bytes] = blocks.reshape(len(here), -1)
        corrections = np.minimum(made.corrections / units[0], 1) * CORRECTION_ONE
        shorts[here, :LINKS] = corrections
        limits = -LARGEST_ADDITION, LARGEST_ADDITION
        shorts[here, LINKS : 2 * LINKS] = np.clip(np.rint(made.additions / units[1]), *limits)

    for_all_parts(encode, len(some), ROWS_AT_ONCE, cores())


def _reach_all(hasher: Hasher, segment: Segment, records: NDArray[np.uint8], links: Links) -> bool:
    """Link to items that a search for themselves does not find, from what it finds, in place of a
    link to what most others lead to, until all are found; False if after ROUNDS some are not.
    Changes the ``records``, of which the ``links`` are a view.

    Links that were made so stay: else the missed of a dense place take them from each other.
    """
    rows = records.view(np.uint32)[:, -LINKS:]
    ways, stays = np.bincount(rows.ravel(), minlength=len(rows)), np.zeros(rows.shape, np.bool_)
    some = everything = np.arange(len(segment))
    without: list[NDArray[np.int64]] = []  # one of the links that led to them
    for turn in range(ROUNDS):
        missed, found = _missed(hasher, segment, links, some)
        if len(missed):
            # Not always from the nearest, whose own links the search may not have reached.
            which = np.arange(len(missed))
            ends, first = np.unique(found[which, (which + turn) % WANTED], return_index=True)
            place = np.where(stays[ends], -1, ways[rows[ends]]).argmax(axis=1)
            free = ~stays[ends, place]
            ends, place, new = ends[free], place[free], missed[first[free]]
            without.append(rows[ends, place].astype(np.int64))
            np.subtract.at(ways, without[-1], 1)
            ways[new] += 1
            rows[ends, place], stays[ends, place] = new, True
            _write(hasher, segment, ends, records, links.units)
            some = missed
        elif without:
            some, without = np.unique(np.concatenate(without)), []
        elif some is everything:
            return True
        else:
            some = everything
    return False


def _missed(
    hasher: Hasher, segment: Segment, links: Links, some: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of ``some`` items (m,) searches for themselves by links do not find, (l,), and what
    they find instead, rows (l, WANTED). An equal one is the item itself.

    A wider beam follows the links of all that a narrow one does, so that what that finds, which
    takes less time, is found.
    """
    for beam in (*(narrow for narrow in BEAMS[::3] if narrow < links.beam), links.beam):
        linked = segment.linked(replace(links, beam=beam))
        asked = Asked(WANTED, None, None, beam, 1)
        missed, instead = [some[:0]], [np.empty((0, WANTED), np.int64)]
        for part, hits in _searched(hasher, linked, some, asked):
            lost = hits.cosines[:, 0] < 1 - TIE
            rows = segment.find(hits.ids[lost].ravel()).reshape(-1, WANTED)
            missed.append(part[lost])
            instead.append(np.where(rows < 0, rows[:, :1], rows))  # where so few were found
        some = np.concatenate(missed)
    return some, np.concatenate(instead)


def _measured(
    hasher: Hasher,
    segment: Segment,
    records: NDArray[np.uint8],
    units: tuple[float, float],
    near: NDArray[np.uint32] | None,
    removed: Removed,
    queries: NDArray[np.float32] | None,
) -> tuple[int, int]:
    """The beam, and the items to begin at (see `Links`), with which a search finds as many of the
    nearest as by scanning in the least time; a beam of 0: none does so in less.

    Measured with the ``queries``, or with some of the items, left out of the segment and of what is
    ``near`` to others for it.
    """
    n, by_items = len(segment), queries is None
    number = min(TESTED, n // 16) if by_items else 0
    tested = np.random.default_rng(0).choice(n, number, replace=False)
    blocked = np.zeros(n, np.bool_)
    blocked[tested] = True
    if removed.number:
        blocked |= removed.marks
    if queries is None:  # of unit length, as links are searched, or else cosines differ by rounding
        queries = unit_rows(segment.vectors_of(tested), hasher.settings.dim)
    queries = queries[:TESTED]
    exact = search_exactly(segment, queries, WANTED, blocked).cosines
    if near is not None and by_items:
        # Others are found from their equals, so that they would say little of other queries.
        alone = exact[:, 0] < 1 - TIE
        if np.count_nonzero(alone) <= ALONE * len(alone):
            return 0, 1
        queries, exact = queries[alone], exact[alone]
        rows = records.view(np.uint32)[:, -LINKS:]
        is_tested = np.zeros(n + 1, np.bool_)
        is_tested[tested] = True
        lead_there = np.flatnonzero(is_tested[rows].any(axis=1))
        kept = records[lead_there]
        others = np.where(is_tested[near] | is_tested[:n, np.newaxis], np.uint32(n), near)
        rows[lead_there] = _links(segment, others, lead_there)
        _write(hasher, segment, lead_there, records, units)
    closed = Removed(blocked, int(np.count_nonzero(blocked)))

    factors = (segment.factors or AS_DEFAULT)._replace(least=-1.0)

    def found(beam: int, entries: int = 1) -> float:
        links = Links(records[:], units, beam, entries)
        linked = replace(segment, links=links, factors=factors)
        asked = Asked(WANTED, None, None, None, WANTED)
        state = State(hasher, (linked,), (closed,))
        (hits,) = search_segments(state, queries, asked, None, cores())
        return recall_of(hits.cosines, exact)

    scanned = found(0)
    goal = max(AS_MANY * scanned, ENOUGH)
    visited = default_candidates(n, WANTED)
    compared = default_rerank(n, WANTED, hasher.settings.dim)
    wider, deeper = factors.of(WANTED)
    work = ALWAYS + wider * visited + COMPARED * deeper * compared
    most = visited / SCANNED * work / (ALWAYS + visited + COMPARED * compared)
    best, reached = (0, 1), AS_MANY * scanned
    for entries in ENTRIES:
        for beam in BEAMS:
            takes = beam + (entries - 1) * math.isqrt(n) / SCORED
            if takes > most:
                break
            if (share := found(beam, entries)) >= reached:
                best, reached = (beam, entries), share
            if share >= goal:
                most, reached = takes - 1, goal
                break
    if by_items:
        records[lead_there] = kept
    return best
