"""At which gallery size hashing starts to pay: one gallery, grown by augmentation."""

from __future__ import annotations

import time
from statistics import quantiles
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.metrics import average_precision, precision_at, rank
from lookalike.evaluation.protocol import LSH_HITS, hashed_ranking, index_of
from reproduction.collection import Floats, Positions, Sample
from reproduction.maps import VIEWS, Rows, augmented
from reproduction.methods import nearest
from reproduction.study import Study
from reproduction.timing import K, one_thread
from reproduction.train import Network

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
CHUNK = 256
TIMED = 500
"""Queries that are timed; they are repeated if the split has fewer."""
BLOCK = 50


def grow(study: Study, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> None:
    """Into the results as "growth", for each size: microseconds of a query (CPU time; first
    quartile, median, third quartile), exhaustive float against LSH, one query a call, one thread, K
    hits; and the quality of both.

    mAP is over the whole ranking, which after the index's own LSH_HITS goes on by cosine; mAP@n
    with n = LSH_HITS and P@K only see what the index returned. Queries to which nothing in a small
    gallery is relevant do not count.
    """
    parts = study.split("paper", seed)
    network = study.networks.network(study.recipe("ours", seed), parts.training)
    vectors, labels = grown_vectors(study, network, parts.gallery, max(sizes))
    queries = network.embed(parts.queries)
    order = np.random.default_rng(seed).permutation(len(vectors))  # all classes at each size
    for size in sizes:
        chosen = np.sort(order[:size])
        found = _measured(queries, parts.queries.labels, vectors[chosen], labels[chosen])
        study.note(found, "growth", str(seed), str(size))
        study.report(
            f"{study.name}, {size:,} images: exhaustive {found['exhaustive'][1]:.0f} us, LSH "
            f"{found['lsh'][1]:.0f} us a query; mAP {found['mAP exhaustive']:.4f}, "
            f"{found['mAP lsh']:.4f}"
        )


def _measured(
    queries: Floats, asked: Positions, vectors: Floats, labels: Positions
) -> dict[str, Any]:
    index = index_of(vectors)
    index.compact()
    times: dict[str, list[float]] = {"exhaustive": [], "lsh": []}
    with one_thread():
        for number in range(TIMED + 10):
            query = queries[number % len(queries)]
            began = time.process_time()
            nearest(vectors @ query, K)
            between = time.process_time()
            index.search(query, k=K, threads=1)
            done = time.process_time()
            if number >= 10:  # the first ones warm up
                times["exhaustive"].append(between - began)
                times["lsh"].append(done - between)
    quality: dict[str, list[float]] = {}
    recall = []
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        by_cosine = rank(queries[rows] @ vectors.T)
        by_hash = hashed_ranking(index, queries[rows], by_cosine)
        for which, order in (("exhaustive", by_cosine), ("lsh", by_hash)):
            for metric, values in _quality(labels[order] == asked[rows, None]).items():
                quality.setdefault(f"{metric} {which}", []).extend(values.tolist())
        for one, other in zip(by_cosine[:, :K], by_hash[:, :K], strict=True):
            recall.append(len(np.intersect1d(one, other)) / K)
    return {
        **{key: [1e6 * value for value in quantiles(each, n=4)] for key, each in times.items()},
        **{key: float(np.nanmean(values)) for key, values in quality.items()},
        f"recall@{K}": float(np.mean(recall)),
    }


def _quality(relevance: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    first = relevance[:, :LSH_HITS]
    could = np.minimum(np.count_nonzero(relevance, axis=1), first.shape[1])
    return {
        "mAP": average_precision(relevance),
        f"mAP@{LSH_HITS}": average_precision(first, could),
        f"P@{K}": precision_at(relevance, K),
    }


def grown_vectors(
    study: Study, network: Network, gallery: Sample, size: int
) -> tuple[Floats, Positions]:
    """Unit rows (size, dim) and labels (size,): the gallery, then augmented views of it in turn.

    The views that the maps do not have are encoded now and kept on disk; an interrupted call
    resumes.
    """
    views = -(-size // len(gallery))
    parts = [network.embed(gallery, view) for view in range(min(views, VIEWS + 1))]
    if views > VIEWS + 1:
        parts.append(_encoded(study, network, gallery, range(VIEWS + 1, views)))
    vectors = np.concatenate(parts)[:size]
    return vectors, np.tile(gallery.labels, views)[:size]


def _encoded(study: Study, network: Network, gallery: Sample, views: range) -> NDArray[Any]:
    encoder = network.encoder(study.settings.threads)
    side, total = encoder.info.input_size, len(views) * len(gallery)
    path = network.path.with_suffix(f".views{views.stop}.f32")
    rows = Rows(path, np.float32, (total, encoder.info.dim))
    images = list(gallery)
    for start in range(rows.count, total, CHUNK):
        some = []
        for number in range(start, min(start + CHUNK, total)):
            view, i = divmod(number, len(gallery))
            some.append(augmented(images[i], side, views[view], int(gallery.rows[i])))
        rows.array[start : start + len(some)] = encoder.embed(np.stack(some))
        rows.save(start + len(some))
        if start // CHUNK % 20 == 0:
            study.report(f"{gallery.collection.name}: {start:,} of {total:,} views encoded")
    return np.asarray(rows.array)
