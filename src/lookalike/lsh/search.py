"""Queries against the segments of an index, in as many threads as asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import kernels, lookup
from lookalike.lsh.exact import NOT_UNIT, Neighbors, search_exactly
from lookalike.lsh.hashing import NO_PROJECTION, Hasher, Prepared
from lookalike.lsh.segment import AS_DEFAULT, Factors, Segment
from lookalike.lsh.settings import LSHSettings, depth, grown, width
from lookalike.lsh.simd import SCORES
from lookalike.lsh.vectors import FLOAT32, unit_rows
from lookalike.threads import for_all_parts

if TYPE_CHECKING:
    from lookalike.lsh.state import Places, Removed, State

QUERIES_AT_ONCE = 512
HAMMING_SCALE = 7
FEW_DIMENSIONS = 1 << 19
EXACT_ROWS = 1024
MOST_WALKED = 256
"""Results for which links are followed; more need most of the items that a scan meets anyway."""
MOST_OPEN = 0.9
"""Share of the items that must count for links to be followed: they lead through all."""
LONG_WAY = 256
"""The beam where links have led to nothing near: most such queries were held up on their way."""
DEEPER, DEEPEST = 64, 8192
"""Times as many candidates, and most, that are re-ranked where a query lies elsewhere."""
Floats = NDArray[np.float32]
MOST_KEPT = 64
"""Searches of one state that are kept, each for other results or settings."""
DEFAULTS = None, None, None
INT64 = np.dtype(np.int64)
UNKNOWN: Floats = np.empty((0, 0), np.float32)


def default_candidates(n: int, k: int) -> int:
    """Items to visit in a segment of ``n`` for ``k`` results, at least 4,096.

    Measured (benchmarks/ann.py, growth.py) to find about 0.95 of the exact neighbours on image
    features; the number needed grows with the square root of n.
    """
    return max(4096, int(width(k) * math.sqrt(n)))


def default_rerank(n: int, k: int, dim: int) -> int:
    """Candidates whose exact cosine is computed for ``k`` results from ``n`` items, likewise.

    Few dimensions hold many items that no code distinguishes, and cost little to compare.
    """
    return int(max(96, 2 * k, depth(k) * max(36, 0.12 * math.sqrt(n)), FEW_DIMENSIONS / dim**2))


class Asked(NamedTuple):
    """What a search wants of each segment: results; the three of ``SearchSettings``; and for how
    many results the size sets what is not given, see `LSHIndex.search`.
    """

    k: int
    candidates: int | None
    rerank: int | None
    beam: int | None
    effort: int


class Plan(NamedTuple):
    """What a search looks at, as the kernel takes it: tables, the step of a score per equal bit (0:
    asymmetric ranking), items to visit, candidates to re-rank, results wanted.
    """

    tables: int
    scale: int
    budget: int
    depth: int
    wanted: int

    @classmethod
    def make(
        cls,
        settings: LSHSettings,
        n: int,
        open_rows: int,
        asked: Asked,
        factors: Factors = AS_DEFAULT,
    ) -> Self:
        """For ``n`` items, ``open_rows`` >= 1 of which count; factors: of the defaults."""
        k, candidates, rerank, _, effort = asked
        wider, deeper = factors.of(effort)
        if candidates is None:
            candidates = math.ceil(default_candidates(n, effort) * wider)
        if rerank is None:
            rerank = math.ceil(default_rerank(n, effort, settings.dim) * deeper)
        # A filter thins the buckets out: visit as many of the items that count.
        budget = min(n, math.ceil(candidates * n / open_rows)) * settings.tables
        scale = _hamming_scale(settings.code_bits) if settings.ranking == "hamming" else 0
        return cls(settings.tables, scale, budget, min(n, max(k, rerank)), min(k, open_rows))


def beam_for(linked: int, n: int, open_rows: int, asked: Asked) -> int:
    """How many of the items that links lead to a search looks at, in a segment of ``n`` of which
    ``open_rows`` count, whose links were ``linked`` with a beam for ten results; 0: it does not
    follow them, because there are none, something else is asked for, or too few count.
    """
    k, candidates, rerank, beam, effort = asked
    few = effort <= MOST_WALKED and open_rows >= MOST_OPEN * n
    if not linked or not few or (candidates, rerank) != (None, None):
        return 0
    if beam is None:
        beam = grown(linked, max(effort - 10, 0))
        beam = 0 if beam < k else beam  # a long tail is what a scan finds
    return max(k, beam) if beam else 0


Prepare = Callable[[], Prepared] | None
Search = Callable[[Floats, Prepare, Neighbors], None]
"""Finds the k nearest items to ``queries`` that the buckets of a segment hold which are probed.

Args:
    queries: (q, dim) unit rows, q >= 1; prepare: returns what ``Hasher.prepare`` makes of them, or
        None where the hasher has a ``Projection``: then they may have any length but zero.
    out: receives ids (q, k), -1 where fewer exist, and cosines (q, k), -inf there; by id where
        equal.

Raises:
    IndexFormatError: a hit has an id or a vector that only a damaged file holds.
    ValueError: without ``prepare``, the query is not finite, or too short or long for float32.
"""


ForOneQuery = Callable[[object], Neighbors | None]
"""Searches for one query, (dim,) or (1, dim) float32 of any length; None: `search_segments` has to,
because it is given otherwise, or found nothing near."""


def search_segments(
    state: State, queries: Floats, asked: Asked, among: Places | None, threads: int
) -> list[Neighbors]:
    """What each segment of a state holds of unit rows ``queries`` (q, dim), among some items; see
    `Search`. What is asked may be a plain tuple, which takes less time to make.
    """
    if not queries.flags.carray:  # read-only or strided ones would be compiled for, for seconds
        queries = queries.copy()
    searches = state.searches.get(asked) if among is None else None
    if searches is None:
        blocked = [state.blocked(i, among) for i in range(len(state.segments))]
        both = zip(state.segments, blocked, strict=True)
        searches = [searching(state.fitted, *segment, Asked(*asked)) for segment in both]
        if among is None and len(state.searches) < MOST_KEPT:
            state.searches[asked] = searches
    shape = len(queries), asked[0]
    found = [Neighbors(np.empty(shape, INT64), np.empty(shape, FLOAT32)) for _ in searches]
    if shape[0] == 1 and state.fitted.is_short:
        for search, out in zip(searches, found, strict=True):
            search(queries, None, out)
    else:
        _search_parts(state.fitted, queries, searches, found, threads)
    if among is None and asked[1:4] == DEFAULTS:
        k, effort = asked[0], asked[4]
        for beam in (LONG_WAY, None):
            elsewhere = _elsewhere(found, state.least)
            if not elsewhere:
                break
            again = Asked(k, None, None, beam, effort)
            if beam is None:
                deep = DEEPER * default_rerank(len(state), effort, state.fitted.settings.dim)
                deep = min(deep, max(DEEPEST, effort))
                again = again._replace(candidates=len(state), rerank=deep)
            elif not any(segment.links and segment.links.beam for segment in state.segments):
                continue
            better = search_segments(state, queries[elsewhere], again, None, threads)
            for (ids, cosines), its in zip(found, better, strict=True):
                ids[elsewhere], cosines[elsewhere] = its
    return found


def for_one_query(state: State, asked: Asked) -> ForOneQuery | None:
    """`search_segments` for one query, which checks and packs once what does not change; None where
    it takes more: several segments, or a hasher without a ``Projection``.
    """
    if len(state.segments) != 1 or not state.fitted.is_short or len(state.ready) >= MOST_KEPT:
        return None
    search = searching(state.fitted, state.segments[0], state.removed[0], Asked(*asked))
    shape, several = (1, asked[0]), (1, state.fitted.settings.dim)
    least = state.least if asked[1:4] == DEFAULTS else -np.inf

    def run(query: object) -> Neighbors | None:
        if type(query) is not np.ndarray or query.dtype is not FLOAT32:
            return None
        rows = query if query.ndim > 1 else query[np.newaxis]
        if rows.shape != several or not rows.flags.carray:
            return None
        found = Neighbors(np.empty(shape, INT64), np.empty(shape, np.float32))
        try:
            search(rows, None, found)
        except ValueError:  # which the longer way names
            return None
        if found.cosines.item(0) < least:
            return None
        return found if rows is query else Neighbors(found.ids[0], found.cosines[0])

    return run


def _elsewhere(found: list[Neighbors], least: float) -> list[int]:
    """The queries whose nearest item has less than that cosine."""
    if len(found[0].ids) == 1:
        return [] if any(part.cosines.item(0) >= least for part in found) else [0]
    nearest = np.max([part.cosines[:, 0] for part in found], axis=0)
    chosen: list[int] = np.flatnonzero(nearest < least).tolist()
    return chosen


def _search_parts(
    hasher: Hasher,
    queries: Floats,
    searches: list[Search],
    found: list[Neighbors],
    threads: int,
) -> None:
    """Queries are prepared in the threads that search them."""

    def run(some: slice) -> None:
        prepare = cache(partial(hasher.prepare, queries[some]))
        for search, (ids, cosines) in zip(searches, found, strict=True):
            search(queries[some], prepare, Neighbors(ids[some], cosines[some]))

    size = min(QUERIES_AT_ONCE, max(1, -(-len(queries) // threads)))
    for_all_parts(run, len(queries), size, threads)


def searching(hasher: Hasher, segment: Segment, removed: Removed, asked: Asked) -> Search:
    """How a segment some of whose rows do not count is searched, the same for all queries."""
    blocked, open_rows = removed.marks, len(segment) - removed.number
    keeps_vectors = len(segment.vectors) > 0

    def compare(queries: Floats, _: Prepare, out: Neighbors) -> None:
        rows = unit_rows(queries, hasher.settings.dim)
        out.ids[:], out.cosines[:] = search_exactly(segment, rows, asked.k, blocked)

    def nothing(_queries: Floats, _: Prepare, out: Neighbors) -> None:
        out.ids[:], out.cosines[:] = -1, -np.inf

    few = max(EXACT_ROWS, asked.rerank or 0)
    if keeps_vectors and open_rows <= few and open_rows < len(segment):
        return compare
    if not open_rows:
        return nothing
    factors = segment.factors or AS_DEFAULT
    plan = Plan.make(hasher.settings, len(segment), open_rows, asked, factors)
    short, bits = hasher.is_short, segment.key_bits
    projection = tuple(hasher.projection(bits)) if short else NO_PROJECTION
    same = tuple(hasher.scoring), tuple(segment.scanned), blocked, *plan

    def scan(queries: Floats, prepare: Prepare, out: Neighbors) -> None:
        margins = mapped = UNKNOWN
        prepared = prepare() if prepare else None
        if prepared:
            margins = np.ascontiguousarray(prepared.margins)
            mapped = prepared.mapped if short else hasher.bucket_scores(prepared.mapped, bits)
            mapped = np.ascontiguousarray(mapped)
        status = kernels.search_range(queries, projection, margins, mapped, *same, *out)
        if status < 0:
            raise _error(segment, status)
        if prepared and not keeps_vectors:
            out.cosines[:] = estimate(hasher, prepared, out.cosines)

    linked = 0 if segment.links is None else segment.links.beam
    beam = beam_for(linked, len(segment), open_rows, asked)
    if not beam or segment.links is None:
        return scan
    scanned = segment.scanned
    along = scanned.vectors, scanned.ids, segment.links.records, *segment.links.units
    to_codes = tuple(hasher.projection(None)) if short else NO_PROJECTION
    fast = short and len(hasher.signs) > 0
    its = tuple(hasher.scoring), segment.entries, along, blocked, plan.wanted, beam

    def follow(queries: Floats, prepare: Prepare, out: Neighbors) -> None:
        margins = UNKNOWN
        if prepare and not fast:
            margins = np.ascontiguousarray(prepare().margins)
        status = kernels.walk_range(queries, to_codes, margins, *its, *out)
        if status < 0:
            raise _error(segment, status)
        if status:  # links lead some queries to too few
            some = out.ids[:, plan.wanted - 1] < 0
            again = Neighbors(out.ids[some], out.cosines[some])
            scan(queries[some], prepare and partial(hasher.prepare, queries[some]), again)
            out.ids[some], out.cosines[some] = again

    return follow


def _error(segment: Segment, status: int) -> Exception:
    if status == kernels.BAD_QUERY:
        return ValueError("the query has no direction in float32")
    return segment.damaged("ids" if status == kernels.BAD_ID else NOT_UNIT)


def _hamming_scale(bits: int) -> int:
    """The largest step per equal bit with which all scores stay below SCORES."""
    return max(1, min(HAMMING_SCALE, (SCORES - 1) // 2 // bits))


def estimate(hasher: Hasher, prepared: Prepared, scores: Floats) -> Floats:
    """Cosines from the codes alone, where no vectors are kept; -inf stays."""
    queries, margins, _ = prepared
    scores = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float32)
    known = np.where(np.isfinite(scores), scores, np.float32(0))
    if hasher.settings.ranking == "hamming":
        bits = hasher.settings.code_bits
        centred = known - SCORES // 2
        agreement = 0.5 + (centred + 1) / (2 * bits * _hamming_scale(bits))
        estimate = np.cos(np.pi * (1 - np.clip(agreement, 0, 1)))
    else:
        spans = 2 * np.abs(margins).reshape(len(margins), -1, 4).sum(axis=2)
        widest = np.maximum(spans.max(axis=1, keepdims=True), np.float32(1e-30))  # as `make_table`
        scale = lookup.table_limit(spans.shape[1]) / widest
        shared = (queries @ hasher.mean)[:, np.newaxis]
        base = np.full_like(scale, SCORES // 2)
        unit = hasher.correction_unit
        if hasher.lengths is not None:
            scale = np.minimum(scale, np.float32(0.999 * unit / hasher.addition_unit))
            tops = np.array([lookup.most_in_common(query, *hasher.scoring) for query in queries])
            base = lookup.TOP - tops[:, np.newaxis] / unit * scale
            shared += (1 - float(hasher.mean @ hasher.mean) - hasher.middle) / 2
        estimate = (known - base) * (unit / scale) + shared
    estimate = np.clip(estimate, -1, 1)
    return np.where(np.isfinite(scores), estimate, -np.inf).astype(np.float32)
