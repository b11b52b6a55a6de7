"""Rankings by an LSHIndex, beside the exact ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.metrics import BLOCK, rank
from lookalike.lsh import LSHIndex, LSHSettings

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

LSH_HITS = 100


def index_of(gallery: Floats, settings: LSHSettings | None = None) -> LSHIndex:
    """The unit rows (g, d) in an index; ids are positions. No settings: the defaults."""
    index = LSHIndex(settings=settings or LSHSettings(gallery.shape[1]))
    index.add(np.arange(len(gallery)), gallery)
    return index


def hashed_ranking(index: LSHIndex, queries: Floats, exact: Positions) -> Positions:
    """Gallery positions, best first, int64 (q, g): the LSH_HITS that a search for the unit rows
    (q, d) returns, then all that it left out, in the order of `exact` (q, g).

    A search for everything would compare everything, which says nothing of the hashing.
    """
    hits = index.search(queries, k=min(LSH_HITS, exact.shape[1])).ids
    found = np.zeros(exact.shape, np.bool_)
    np.put_along_axis(found, hits, True, axis=1)
    rest = exact[~np.take_along_axis(found, exact, axis=1)].reshape(len(exact), -1)
    return np.append(hits, rest, axis=1)


def lsh_relevance(
    queries: Floats, labels: Positions, gallery: Floats, theirs: Positions
) -> NDArray[np.bool_]:
    """`hashed_ranking` of unit rows (q, d) among (g, d), as relevance (q, g)."""
    index = index_of(gallery)
    relevance = np.empty((len(queries), len(gallery)), np.bool_)
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        order = hashed_ranking(index, queries[rows], rank(queries[rows] @ gallery.T))
        relevance[rows] = theirs[order] == labels[rows, None]
    return relevance
