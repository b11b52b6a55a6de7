"""Make links of segments and their codes, compiled by Numba, and measure what a search needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.compiled import compiled
from lookalike.lsh.exact import search_exactly
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.hashing import LARGEST_ADDITION, Hasher
from lookalike.lsh.links import LINKED_FROM, LINKS, Links, record_bytes
from lookalike.lsh.search import Asked, default_candidates, default_rerank, search_segments
from lookalike.lsh.segment import AS_DEFAULT, Segment, lane
from lookalike.lsh.simd import CORRECTION_ONE
from lookalike.lsh.state import Removed, State
from lookalike.lsh.tuning import TIE, need_queries, recall_of
from lookalike.lsh.vectors import unit_rows, widened
from lookalike.lsh.walk import dot
from lookalike.threads import cores, for_all_parts

if TYPE_CHECKING:
    from lookalike.lsh.index import LSHIndex

NEAREST = 50
"""Neighbours of an item that may become links, and as many items that it is a neighbour of."""
SPREAD = np.float32(1.21)
"""A link leads to another item if the squared distance from the item is more than so many times
that from the link: alpha^2 of Subramanya et al. 2019 (DiskANN)."""
ROWS_AT_ONCE = 4096
SAMPLE = 1024
"""Items whose links the units of all are chosen by."""
HEADROOM, LEAST = 1.5, 1e-6
ROUNDS = 64
"""Of making sure that all items are found."""
BEAMS = (16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
"""Tried until the links find ENOUGH of the nearest, and AS_MANY of those that a scan does."""
ENOUGH = 0.95
AS_MANY = 0.998
SCANNED = 120
"""Items that are scanned by default in the time that one of a beam takes (benchmarks/ann.py)."""
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
            graph = NeighbourGraph.build(index) if graph is None else graph
            rows = _links(segment, _neighbours(segment, graph))
            records, units = _records(state.fitted, segment, rows)
        elif queries is not None:
            records, units = segment.links.records.copy(), segment.links.units
        else:
            continue
        beam = _measured(state.fitted, segment, records, units, state.removed[i], queries)
        if beam and not _reach_all(state.fitted, segment, records, units, beam):
            beam = 0
        links = Links(records, units, beam)
        segments[i] = segment.linked(links)
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
    those that lie much nearer to a link than to the item last. An item with fewer leads to itself.
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
            for i in range(made if leads else 0):
                between = 1 - dot(vectors[out[row, i]], vectors[others[place]])
                if SPREAD * between < 1 - cosines[place]:
                    leads = False
                    break
            if leads:
                out[row, made] = others[place]
                is_link[place] = True
                made += 1
        for place in order:
            if made < out.shape[1] and not is_link[place]:
                out[row, made] = others[place]
                made += 1
        out[row, made:] = row


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
    for i in range(ends.shape[0]):
        c = ends[i, 0]
        for link in range(codes.shape[1]):
            x = ends[i, 1 + link]
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
            for byte in range(codes.shape[2]):
                bits = np.uint8(0)
                for j in range(8):
                    r = projected[x, 8 * byte + j] - projected[c, 8 * byte + j]
                    bits |= np.uint8(r > 0) << np.uint8(j)
                codes[i, link, byte] = bits
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


def _reach_all(
    hasher: Hasher,
    segment: Segment,
    records: NDArray[np.uint8],
    units: tuple[float, float],
    beam: int,
) -> bool:
    """Link to items that a search for themselves does not find, from what it finds, in place of a
    link to what most others lead to, until all are found; False if after ROUNDS some are not.

    Links that were made so stay: else the missed of a dense place take them from each other.
    """
    rows = records.view(np.uint32)[:, -LINKS:]
    links = Links(records[:], units, beam)
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
            _write(hasher, segment, ends, records, units)
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
        state = State(hasher, (segment.linked(replace(links, beam=beam)),), (Removed.none(),))
        asked = Asked(WANTED, None, None, beam, 1)
        missed, instead = [some[:0]], [np.empty((0, WANTED), np.int64)]
        for start in range(0, len(some), ROWS_AT_ONCE):
            part = some[start : start + ROWS_AT_ONCE]
            queries = unit_rows(segment.vectors_of(part), hasher.settings.dim)
            (hits,) = search_segments(state, queries, asked, None, cores())
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
    removed: Removed,
    queries: NDArray[np.float32] | None,
) -> int:
    """The narrowest beam with which a search finds as many of the nearest as by scanning; 0: none
    does so in less time.

    Measured with the ``queries``, or with some of the items, left out of the segment for it.
    """
    n, by_items = len(segment), queries is None
    number = min(TESTED, n // 16) if by_items else 0
    tested = np.random.default_rng(0).choice(n, number, replace=False)
    blocked = np.zeros(n, np.bool_)
    blocked[tested] = True
    if removed.number:
        blocked |= removed.marks
    queries = segment.vectors_of(tested) if queries is None else queries[:TESTED]
    exact = search_exactly(segment, queries, WANTED, blocked).cosines
    if by_items:
        # Others are found from their equals, so that they would say little of other queries.
        alone = exact[:, 0] < np.minimum(np.linalg.norm(queries, axis=1), 1) - TIE
        if np.count_nonzero(alone) <= ALONE * len(alone):
            return 0
        queries, exact = queries[alone], exact[alone]
        rows = records.view(np.uint32)[:, -LINKS:]
        leads_there = np.isin(rows, tested)
        left_out = rows[leads_there]
        rows[leads_there] = np.nonzero(leads_there)[0]
    closed = Removed(blocked, int(np.count_nonzero(blocked)))

    factors = (segment.factors or AS_DEFAULT)._replace(least=-1.0)

    def found(beam: int) -> float:
        linked = replace(segment, links=Links(records[:], units, beam), factors=factors)
        asked = Asked(WANTED, None, None, None, WANTED)
        state = State(hasher, (linked,), (closed,))
        (hits,) = search_segments(state, queries, asked, None, cores())
        return recall_of(hits.cosines, exact)

    scanned = reached = found(0)
    goal = max(AS_MANY * scanned, ENOUGH)
    visited = default_candidates(n, WANTED)
    compared = default_rerank(n, WANTED, hasher.settings.dim)
    wider, deeper = factors.of(WANTED)
    work = ALWAYS + wider * visited + COMPARED * deeper * compared
    most = visited / SCANNED * work / (ALWAYS + visited + COMPARED * compared)
    beams = [beam for beam in BEAMS if beam <= most]
    best = 0
    for best in beams:
        reached = found(best)
        if reached >= goal:
            break
    if by_items:
        rows[leads_there] = left_out
    return best if reached >= AS_MANY * scanned else 0
