"""Queries against the segments of an index, in as many threads as asked for."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import kernels, lookup
from lookalike.lsh.exact import NOT_UNIT, Neighbors, search_exactly
from lookalike.lsh.hashing import Hasher, Prepared
from lookalike.lsh.probing import project
from lookalike.lsh.segment import Segment
from lookalike.lsh.simd import SCORES
from lookalike.threads import for_all_parts

if TYPE_CHECKING:
    from lookalike.lsh.state import Places, Removed, State

QUERIES_AT_ONCE = 128
HAMMING_SCALE = 7
FEW_DIMENSIONS = 1 << 19
EXACT_ROWS = 1024
MOST_WALKED = 256
"""Results for which links are followed; more need most of the items that a scan meets anyway."""
MOST_OPEN = 0.9
"""Share of the items that must count for links to be followed: they lead through all."""
LINKS_SAVE = 64
"""By what the number of items to visit is divided with links."""
Floats = NDArray[np.float32]


def default_candidates(n: int, k: int) -> int:
    """Items to visit in a segment of ``n`` for ``k`` results, at least 4,096.

    Measured (benchmarks/ann.py, growth.py) to find about 0.95 of the exact neighbours on image
    features; the number needed grows with the square root of n.
    """
    return max(4096, int((15 + 17 * math.log10(k)) * math.sqrt(n)))


def default_rerank(n: int, k: int, dim: int) -> int:
    """Candidates whose exact cosine is computed for ``k`` results from ``n`` items, likewise.

    Few dimensions hold many items that no code distinguishes, and cost little to compare.
    """
    return int(max(96, 2 * k, k**0.55 * max(36, 0.12 * math.sqrt(n)), FEW_DIMENSIONS / dim**2))


class Plan(NamedTuple):
    """What a search looks at, as the kernels take it: tables, the step of a score per equal bit (0:
    asymmetric ranking), items to visit, candidates to re-rank, results wanted, and items whose
    links are followed at a time.
    """

    tables: int
    scale: int
    budget: int
    depth: int
    wanted: int
    beam: int

    @classmethod
    @lru_cache(maxsize=1024)
    def make(
        cls,
        dim: int,
        tables: int,
        code_bits: int,
        ranking: str,
        n: int,
        open_rows: int,
        k: int,
        candidates: int | None,
        rerank: int | None,
        effort: int,
        beam: int | None = None,
        linked: int = 0,
    ) -> Self:
        """For ``n`` items, ``open_rows`` >= 1 of which count; ``effort``: see `LSHIndex.search`;
        ``linked``: the beam of the links, 0 where there are none. The same for most searches of an
        index, and so kept.

        Links are followed where nothing else is asked for, and nearly all items count.
        """
        few = effort <= MOST_WALKED and open_rows >= MOST_OPEN * n
        if not linked or not few or (candidates, rerank) != (None, None):
            beam = 0
        elif beam is None:
            beam = linked * max(effort, 10) // 10
            beam = 0 if beam < k else beam  # a long tail is what a scan finds
        if beam:
            beam = max(k, beam)
            candidates = default_candidates(n, effort) // LINKS_SAVE
            rerank = effort
        budget = default_candidates(n, effort) if candidates is None else candidates
        # A filter thins the buckets out: visit as many of the items that count.
        budget = min(n, math.ceil(budget * n / open_rows)) * tables
        depth = default_rerank(n, effort, dim) if rerank is None else rerank
        depth = min(n, max(k, depth))
        scale = _hamming_scale(code_bits) if ranking == "hamming" else 0
        return cls(tables, scale, budget, depth, min(k, open_rows), beam)


def search_segments(
    state: State,
    queries: Floats,
    k: int,
    *,
    among: Places | None,
    candidates: int | None,
    rerank: int | None,
    beam: int | None,
    effort: int,
    threads: int,
) -> list[Neighbors]:
    """What each segment of a state holds of unit rows ``queries`` (q, dim), among some items.

    For the rest, and what is raised, see `search_segment`.
    """
    hasher = state.fitted
    if not queries.flags.carray:  # read-only or strided ones would be compiled for, for seconds
        queries = queries.copy()
    blocked = [state.blocked(i, among) for i in range(len(state.segments))]
    shape = len(queries), k
    found = [Neighbors(np.empty(shape, np.int64), np.empty(shape, np.float32)) for _ in blocked]
    asked = candidates, rerank, beam, effort
    if len(queries) == 1 and hasher.has_projection:
        for segment, removed, out in zip(state.segments, blocked, found, strict=True):
            search_segment(hasher, segment, queries, None, out, removed, *asked)
        return found

    def run(some: slice) -> None:
        part = queries[some]
        prepared = hasher.prepare(part)
        for segment, removed, (ids, cosines) in zip(state.segments, blocked, found, strict=True):
            out = Neighbors(ids[some], cosines[some])
            search_segment(hasher, segment, part, prepared, out, removed, *asked)

    size = min(QUERIES_AT_ONCE, max(1, -(-len(queries) // threads)))
    for_all_parts(run, len(queries), size, threads)
    return found


def search_segment(
    hasher: Hasher,
    segment: Segment,
    queries: Floats,
    prepared: Prepared | None,
    out: Neighbors,
    removed: Removed,
    candidates: int | None,
    rerank: int | None,
    beam: int | None,
    effort: int,
) -> None:
    """Find the k nearest items that the probed buckets hold.

    Args:
        queries: (q, dim) unit rows, q >= 1; prepared: what ``Hasher.prepare`` makes of them, or
            None for one query of a hasher with a ``Projection``.
        out: receives ids (q, k), -1 where fewer exist, and cosines (q, k), -inf there; by id where
            equal.
        removed: rows that do not count.
        candidates, rerank, beam: see ``SearchSettings``.

    Raises:
        IndexFormatError: a hit has an id or a vector that only a damaged file holds.
    """
    (ids, cosines), settings, links = out, hasher.settings, segment.links
    n, k, keeps_vectors = len(segment), ids.shape[1], len(segment.vectors) > 0
    blocked, open_rows = removed.marks, n - removed.number
    if keeps_vectors and open_rows <= max(EXACT_ROWS, rerank or 0) and open_rows < n:
        ids[:], cosines[:] = search_exactly(segment, queries, k, blocked)
        return
    if not open_rows:
        ids[:], cosines[:] = -1, -np.inf
        return
    shape = settings.dim, settings.tables, settings.code_bits, settings.ranking
    linked = links.beam if links is not None else 0
    plan = Plan.make(*shape, n, open_rows, k, candidates, rerank, effort, beam, linked)
    if prepared is None:
        projection = hasher.projection(segment.key_bits)
        margins = np.empty((1, settings.code_bits), np.float32)
        scores = np.empty((1, projection.anchors.shape[1]), np.float32)
        project(queries[0], projection, margins[0], scores[0])
    else:
        scores = hasher.bucket_scores(prepared.mapped, segment.key_bits)
        margins = np.ascontiguousarray(prepared.margins)
    same = hasher.scoring, segment.scanned, blocked, *plan
    status = kernels.search_range(queries, margins, scores, *same, ids, cosines)
    if status < 0:
        raise segment.damaged("ids" if status == kernels.BAD_ID else NOT_UNIT)
    if prepared is not None and not keeps_vectors:
        cosines[:] = estimate(hasher, prepared, cosines)


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
        scale = lookup.table_limit(spans.shape[1]) / spans.max(axis=1, keepdims=True)
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
