"""Facts about an index: how full its buckets are, how much it finds, how fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex
from lookalike.lsh.segment import Segment

K = 10
QUERIES = 300
ROUNDS = 3


def identity(index: LSHIndex) -> tuple[object, ...]:
    """Equal for two openings of a gallery's index between which no item came or went and no setting
    changed: a segment's name identifies its content, and items are only ever removed from one."""
    names = [segment.file and segment.file.path.name for segment in index.segments()]
    return index.settings, len(index), *names


def bucket_sizes(segments: Sequence[Segment]) -> NDArray[np.int64]:
    """Items in each bucket of all tables and segments, int64 (buckets,)."""
    sizes = [np.diff(segment.offsets.astype(np.int64)).ravel() for segment in segments]
    return np.concatenate(sizes) if sizes else np.empty(0, np.int64)


def histogram(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """How many buckets hold 1, 2 to 3, 4 to 7 and so on; the largest; the share of empty ones."""
    counts = np.bincount(np.frexp(sizes[sizes > 0])[1] - 1).tolist()  # by the power of two
    buckets = [
        {"size_from": 1 << i, "size_to": (2 << i) - 1, "count": count}
        for i, count in enumerate(counts)
    ]
    empty = float((sizes == 0).mean()) if len(sizes) else 0.0
    largest = int(sizes.max(initial=0))
    return {"buckets": buckets, "largest_bucket": largest, "empty_share": round(empty, 4)}


def measure(index: LSHIndex) -> dict[str, Any]:
    """Recall of the K nearest, and microseconds a search, at the index's settings and at others.

    Images of the index are searched for, each of which is left out of its own hits. One thread;
    takes seconds. ``recall`` is None if there are too few images.
    """
    from lookalike.lsh.tuning import recall_of, without  # with the compiled kernels

    ids = index.ids
    if len(ids) < 2 * K:
        return {"recall": None, "curve": []}
    rng = np.random.default_rng(0)
    own = np.sort(rng.choice(ids, min(QUERIES, len(ids)), replace=False))
    queries = index.vectors(own)
    exact = without(index.search(queries, K + 1, exact=True), own, K)

    def trial(candidates: int | None) -> dict[str, float]:
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            found = index.search(queries, K + 1, candidates=candidates, threads=1)
            times.append((time.perf_counter() - began) / len(queries))
        return {
            "recall": round(recall_of(without(found, own, K), exact), 4),
            "microseconds": round(1e6 * float(np.median(times)), 1),
        }

    steps = [K * 4**i for i in range(12) if K * 4**i < len(ids)] + [len(ids)]
    curve = [trial(candidates) for candidates in steps]
    return {"recall": {**trial(None), "k": K}, "curve": curve}
