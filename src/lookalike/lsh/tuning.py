"""Measure an index, and choose its settings by measuring."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh.build import default_key_bits
from lookalike.lsh.exact import search_exactly
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.search import Asked, default_candidates, default_rerank, search_segments
from lookalike.lsh.segment import AS_DEFAULT, Factors, Segment
from lookalike.lsh.settings import LSHSettings, SearchSettings, whole
from lookalike.lsh.state import Removed, State
from lookalike.threads import cores

if TYPE_CHECKING:
    from lookalike.lsh.exact import Neighbors
    from lookalike.lsh.index import LSHIndex

SAMPLE_QUERIES = 800
REBUILD_UP_TO = 500_000
ROUNDS = 3
TIE = np.float32(1e-6)
"""Cosines that differ by less may be equal but for rounding."""
BEAM_SHARES = (10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
"""Items whose links are followed, for each ten results, that are tried."""
MEASURED, FEW, MANY = 64, 10, 100
"""Items of a segment that it is searched for to measure it, and results of these searches."""
DEEPEST = 4096
"""Candidates that are re-ranked at most, where not all items are visited."""
ALONE = 0.25
"""Share of the items without an equal for them to say anything of other queries."""
FOUND, ENOUGH, MET = 0.93, 0.95, 0.975
"""Where less than the first is found, more is looked at until the second is found, among buckets
that hold the third."""
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """``recall``: mean share of the exact k nearest that were found, 0 to 1. ``seconds``: median
    time per query of a batch, with ``threads``; ``exact_seconds``: of the exact search (BLAS).
    """

    k: int
    queries: int
    recall: float
    seconds: float
    exact_seconds: float
    threads: int

    @property
    def queries_per_second(self) -> float:
        return 1 / self.seconds


@dataclass(frozen=True)
class Trial:
    """One setting that was measured on the tuning half of the queries.

    ``recall`` and its standard error
    ``uncertainty``; ``seconds`` per query, one thread. Whether a target is reached is judged by
    recall less uncertainty, since the fastest of many trials that seem to reach it tends to be one
    that was lucky.
    """

    tables: int
    key_bits: int
    search: SearchSettings
    recall: float
    uncertainty: float
    seconds: float

    def reaches(self, target: float) -> bool:
        return self.recall - self.uncertainty >= target or self.recall == 1


@dataclass(frozen=True)
class TuneReport:
    """What tuning chose, what to expect of it on queries it was not chosen with, what it tried."""

    settings: LSHSettings
    expected: Evaluation
    target_recall: float
    trials: tuple[Trial, ...]


def recalls(found: Floats, exact: Floats) -> NDArray[np.float64]:
    """Share of the k nearest that each search found, by their cosines and the ``exact`` ones, both
    (q, k), falling: (q,). Of items that are equally near, one is as good as another.
    """
    near: NDArray[np.float64] = (found >= exact[:, -1:] - TIE).mean(axis=1)
    return near


def recall_of(found: Floats, exact: Floats) -> float:
    """The mean of :func:`recalls`."""
    return float(recalls(found, exact).mean())


def evaluate(index: LSHIndex, queries: Floats, k: int, threads: int, rounds: int) -> Evaluation:
    """See ``LSHIndex.evaluate``."""
    whole("rounds", rounds)
    need_queries(queries)
    if not len(index):
        raise ValueError("the index is empty; add items before measuring")
    began = time.perf_counter()
    exact = index.search(queries, k, exact=True).cosines
    exact_seconds = (time.perf_counter() - began) / len(queries)
    found = index.search(queries, k, threads=threads).cosines
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        index.search(queries, k, threads=threads)
        times.append((time.perf_counter() - began) / len(queries))
    return Evaluation(
        k, len(queries), recall_of(found, exact), float(np.median(times)), exact_seconds, threads
    )


def tune(
    index: LSHIndex, target: float, k: int, queries: Floats | None
) -> tuple[TuneReport, LSHIndex]:
    """See ``LSHIndex.tune``; returns the report and an index with the chosen settings."""
    whole("k", k)
    if not 0 < target <= 1:
        raise ValueError(f"target_recall is {target}; it must be above 0 and at most 1")
    if len(index) < 2 * k:
        raise ValueError(f"the index holds {len(index)} items; tuning for k = {k} takes {2 * k}")
    if queries is not None:
        need_queries(queries)
    rng = np.random.default_rng(index.settings.seed)
    own = queries is None
    if queries is None:
        chosen = rng.choice(index.ids, min(SAMPLE_QUERIES, len(index)), replace=False)
        queries = index.vectors(chosen)
    else:
        queries = queries[rng.permutation(len(queries))[:SAMPLE_QUERIES]]
        chosen = np.full(len(queries), -1, np.int64)
    exact = without(index.search(queries, k + own, exact=True), chosen, k)
    half = max(1, len(queries) // 2)
    fit, check = slice(0, half), slice(half if half < len(queries) else 0, None)
    trials: list[Trial] = []
    best: tuple[float, LSHIndex] | None = None
    for settings in _structures(index):
        candidate = index.with_settings(settings)
        for trial in _search_settings(candidate, queries[fit], exact[fit], chosen[fit], target, k):
            trials.append(trial)
            if trial.reaches(target) and (best is None or trial.seconds < best[0]):
                candidate.settings = replace(settings, search=replace(trial.search, k=k))
                tuned = candidate.with_settings(candidate.settings)
                best = trial.seconds, tuned
    if best is None:
        reached = max(trial.recall for trial in trials)
        raise ValueError(
            f"recall {target} was not reached: {reached:.3f} at most; keep the vectors as float32, "
            f"or use more code_bits"
        )
    tuned = best[1]
    expected = evaluate(tuned, queries[check], k, 1, ROUNDS)
    if own:  # the query itself is always found; what counts are the others
        found = without(tuned.search(queries[check], k + 1), chosen[check], k)
        expected = replace(expected, recall=recall_of(found, exact[check]))
    return TuneReport(tuned.settings, expected, target, tuple(trials)), tuned


def factors(hasher: Hasher, segment: Segment) -> Factors:
    """How much more than by default a search must look at in a segment of more than MEASURED_FROM
    items to find ENOUGH of the nearest, by searches for some of them as if it did not hold them.

    What is nearest is what a scan of everything finds with a deep re-rank, in a fraction of the
    time of an exact search, or that where the defaults miss some of it: codes that do not show what
    is near may not show it to the deepest re-rank either. The bucket of each of these says what
    must be visited to meet it.
    """
    n, dim = len(segment), hasher.settings.dim
    deepest = min(DEEPEST, max(n // 16, 4 * default_rerank(n, MANY, dim)))
    rows = np.random.default_rng(0).choice(n, MEASURED, replace=False)
    blocked = np.zeros(n, np.bool_)
    queries = segment.vectors_of(rows)
    own = np.minimum(np.linalg.norm(queries, axis=1, keepdims=True), 1) - TIE

    def search(k: int, candidates: int, rerank: int, number: int = MEASURED) -> Neighbors:
        state = State(hasher, (segment,), (Removed(blocked, int(np.count_nonzero(blocked))),))
        asked = Asked(k, candidates, rerank, None, k)
        return search_segments(state, queries[:number], asked, None, cores())[0]

    blocked[rows] = True
    ids, cosines = search(MANY, n, deepest)
    equal = cosines >= own
    if equal.any():  # met in their own bucket, they would say nothing of what is near
        blocked[segment.find(ids[equal])] = True
        ids, cosines = search(MANY, n, deepest)
        alone = cosines[:, 0] < own[:, 0]
        if alone.mean() <= ALONE or 2 * np.count_nonzero(blocked) > n:
            return AS_DEFAULT
        queries, ids, cosines = queries[alone], ids[alone], cosines[alone]
    defaults = {k: (default_candidates(n, k), default_rerank(n, k, dim)) for k in (FEW, MANY)}
    if any(recall_of(search(k, *defaults[k]).cosines, cosines[:, :k]) < FOUND for k in defaults):
        ids, cosines = search_exactly(segment, queries, MANY, blocked)
    scores = hasher.bucket_scores(hasher.prepare(queries).mapped, segment.key_bits)
    order = np.argsort(-scores, axis=1)
    sizes = np.diff(segment.offsets[0].astype(np.int64))[order]
    visited = np.empty_like(sizes)
    np.put_along_axis(visited, order, np.cumsum(sizes, axis=1) - sizes, axis=1)
    rows = segment.find(ids.ravel()).reshape(ids.shape)
    bucket = np.searchsorted(segment.offsets[0], rows, side="right") - 1
    before = np.take_along_axis(visited, bucket, axis=1)
    wider, deeper = [1.0], [1.0]
    for k, (candidates, rerank) in defaults.items():
        found = recall_of(search(k, candidates, rerank).cosines, cosines[:, :k])
        visit, deep = candidates, 1.0
        if found < FOUND:
            visit = max(candidates, int(np.quantile(before[:, :k], MET, method="higher")) + 1)
            deep, number = deeper[-1] / 4, MEASURED
            # Beyond the deepest that most vectors need each step takes long, as do searches then.
            while found < (ENOUGH if number == MEASURED else FOUND) and deep * rerank < n:
                deep = max(1.0, 2 * deep)
                number = MEASURED if deep * rerank <= deepest else MEASURED // 4
                hits = search(k, visit, int(deep * rerank), number)
                found = recall_of(hits.cosines, cosines[:number, :k])
        wider.append(visit / candidates)
        deeper.append(max(1.0, deep))
    # As much for one result as for ten, where the nearest few are not met sooner.
    candidates, deeper[0] = default_candidates(n, 1), deeper[1]
    if (before[:, :3] < candidates).mean() < FOUND:
        wider[0] = wider[1] * default_candidates(n, FEW) / candidates
    # As far again, or nearly, below the least but one, for one may lie anywhere, as that is below
    # the middle: three in a thousand of queries like the items lie there, and each costs as much as
    # ten or a hundred.
    nearest = np.sort(cosines[:, 0])
    least = 1.75 * float(nearest[1]) - 0.75 * float(np.median(nearest))
    return Factors(tuple(wider), tuple(deeper), max(-1.0, least))


def need_queries(queries: Floats) -> None:
    """ValueError unless there are some."""
    if not len(queries):
        raise ValueError("there are no queries to measure with; give at least one")


def _structures(index: LSHIndex) -> Iterator[LSHSettings]:
    """Numbers of tables and key bits worth trying; only today's if rebuilding would take long."""
    settings = index.settings
    yield settings
    if len(index) > REBUILD_UP_TO or settings.vectors == "none":
        return
    bits = settings.key_bits
    if bits is None:
        bits = default_key_bits(len(index))
    for tables, key_bits in ((1, bits - 1), (1, bits + 1), (2, bits - 1)):
        if 0 <= key_bits <= 14 and 1 << key_bits <= len(index):
            yield replace(settings, tables=tables, key_bits=key_bits)


def _search_settings(
    index: LSHIndex, queries: Floats, exact: Floats, own: Ids, target: float, k: int
) -> Iterator[Trial]:
    """For growing numbers of candidates, the smallest depth that reaches the target, measured."""
    n = len(index)
    bits = max((segment.key_bits for segment in index.segments()), default=0)
    extra = int((own >= 0).any())

    def measure(
        candidates: int | None, rerank: int | None = None, beam: int | None = None
    ) -> Trial:
        began = time.perf_counter()
        how = SearchSettings(candidates, rerank, beam)
        found = index.search(
            queries, k + extra, candidates=candidates, rerank=rerank, beam=beam, threads=1
        )
        seconds = (time.perf_counter() - began) / len(queries)
        shares = recalls(without(found, own, k), exact)
        uncertainty = float(shares.std() / np.sqrt(len(shares)))
        tables, recall = index.settings.tables, float(shares.mean())
        return Trial(tables, bits, how, recall, uncertainty, seconds)

    index.search(queries[:1], k)  # compile, and touch the files
    if any(segment.links is not None and segment.links.beam for segment in index.segments()):
        for beam in sorted({k * share // 10 for share in BEAM_SHARES}):
            yield measure(None, beam=beam)
    candidates = max(k, default_candidates(n, k) // 8)
    reached = 0
    while reached < 3:
        candidates = min(candidates, n)
        high = DEEPEST if candidates < n else max(n, DEEPEST)
        deepest = measure(candidates, high)
        if deepest.reaches(target):
            reached += 1
            low = k
            while high > max(low + 1, 1.2 * low):  # bisection on a logarithmic scale
                middle = int((low * high) ** 0.5)
                if measure(candidates, middle).reaches(target):
                    high = middle
                else:
                    low = middle
            yield measure(candidates, high)
        else:
            yield deepest
        if candidates >= n:
            return
        candidates = int(candidates * 1.4) + 1


def without(found: Neighbors, own: Ids, k: int) -> Floats:
    """The cosines of the first ``k`` of each row that are not the row's own."""
    order = np.argsort(found.ids == own[:, np.newaxis], axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found.cosines, order, axis=1)
