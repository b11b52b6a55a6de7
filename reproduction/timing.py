"""Table 3: how long the search of all queries takes, all rows in one process, one thread each; and
how that grows with the gallery.

Times are CPU time: with one thread it equals wall time on an idle machine, and other programs do
not distort it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import mean, quantiles
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lookalike.errors import LookalikeError
from lookalike.evaluation.metrics import average_precision, precision_at, rank
from lookalike.evaluation.protocol import LSH_HITS, hashed_ranking, index_of
from reproduction.collection import Floats, Positions, Sample, read_pixels
from reproduction.maps import VIEWS, Rows, augmented
from reproduction.methods import Method, nearest
from reproduction.study import Parts, RowError, Study, oracle_of
from reproduction.train import Network

K = 30
"""The largest of the paper's Top-n."""


def _round(method: Method, parts: Parts) -> dict[str, float]:
    queries, k = parts.queries, min(K, len(parts.gallery))

    def match(position: int, features: Any) -> None:
        method.match(features, k, oracle_of(parts.gallery, int(queries.labels[position])))

    def whole(position: int) -> None:
        file = queries.collection.images.paths[queries.rows[position]]
        match(position, method.describe(read_pixels(file)))

    positions = range(len(queries))
    method.close()
    cold = _seconds(whole, [0])
    features = [method.describe(image) for image in queries]
    search = _seconds(match, positions, features)
    return {"search": search, "end to end": _seconds(whole, positions), "cold": cold}


def time_rows(study: Study, rows: Sequence[str], seed: int = 0) -> None:
    """Seconds for all queries of the split, into the results as "timing", a list of rounds each.

    "search" is `match` alone, one query a call, "end to end" includes reading the file, "cold" is
    one query end to end with the network's session still to be opened. The rows take turns in the
    rounds, with one thread each. Rows that the results already have are timed again with the new
    ones, so that all are comparable.

    LookalikeError, at the end, that names the rows which cannot be measured.
    """
    known = study.known("timing", "rows") or {}
    wanted = [*rows, *(row for row in known if row not in rows)]
    one_core = replace(study, settings=replace(study.settings, threads=1))
    parts = study.split("paper", seed)
    fitted, errors = {}, []
    for row in wanted:
        try:
            fitted[row] = one_core.fitted("paper", row, seed)[0]
        except RowError as error:
            errors.append(str(error))
    times: dict[str, dict[str, list[float]]] = {row: {} for row in fitted}
    with one_thread():
        for method in fitted.values():
            method.install()
        for _ in range(study.settings.budget.rounds):
            for row, method in fitted.items():
                for what, seconds in _round(method, parts).items():
                    times[row].setdefault(what, []).append(seconds)
    if times:
        about = {
            "seed": seed,
            "queries": len(parts.queries),
            "k": min(K, len(parts.gallery)),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        }
        study.note({"about": about, "rows": times}, "timing")
    for row, each in times.items():
        study.report(
            f"{study.name}, {row}: {len(parts.queries)} queries in {mean(each['search']):.3f} s, "
            f"{mean(each['end to end']):.2f} s end to end"
        )
    if errors:
        raise LookalikeError("; ".join(errors))


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS, OpenMP, PyTorch and OpenCV with one thread each."""
    import cv2
    import sklearn.svm  # noqa: F401  brings a BLAS and an OpenMP of its own, to be limited as well

    own, theirs = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(own)
        cv2.setNumThreads(theirs)


def _seconds(function: Callable[..., Any], *arguments: Sequence[Any]) -> float:
    """CPU time of function(a[i], b[i], ...) for all i."""
    began = time.process_time()
    for each in zip(*arguments, strict=True):
        function(*each)
    return time.process_time() - began


# ---- galleries grown by augmentation: from which size on does hashing pay ------------------------


SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
CHUNK = 256
TIMED = 500
"""Queries that are timed; they are repeated if the split has fewer."""
BLOCK = 50


def grow(study: Study, seed: int = 0) -> None:
    """Into the results as "growth", for each size: microseconds of a query (CPU time; first
    quartile, median, third quartile), exhaustive float against LSH, one query a call, one thread, K
    hits; and the quality of both.

    mAP is over the whole ranking, which after the index's own LSH_HITS goes on by cosine; mAP@n
    with n = LSH_HITS and P@K only see what the index returned. Queries to which nothing in a small
    gallery is relevant do not count.
    """
    parts = study.split("paper", seed)
    network = study.networks.network(study.recipe("ours", seed), parts.training)
    vectors, labels = grown_vectors(study, network, parts.gallery, max(SIZES))
    queries = network.embed(parts.queries)
    order = np.random.default_rng(seed).permutation(len(vectors))  # all classes at each size
    for size in SIZES:
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
