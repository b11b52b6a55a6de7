"""A gallery in a Valkey Cluster beside the same gallery in this process: memory, speed, answers.

    python benchmarks/cluster_serve.py [--items 200000] [--set deep216k]

First ``python benchmarks/deep216k.py FOLDER``. The vectors become Parquet parts, which are loaded
into six real servers (three masters, each with a replica) on this machine, under the paper's hash
functions and the learned ones, with codes inline and packed. One query a call, by one client and by
two at once in processes of their own; every answer is compared with that of the embedded engine.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cluster_parts import SETTINGS, Servers, local_index, make_parts, options_of, tell
from deep216k import load as load_set
from deep216k import recall

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.loading import drop, load
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.lsh import LSHIndex

K = 10
KEY_BITS = {"paper": 12, "learned": 13}
SECONDS = 5.0
BY_CANDIDATES = (500, 2000, 8000)
CASES = (
    ("paper", "inline", "float16"),
    ("paper", "packed", "float16"),
    ("learned", "inline", "float16"),
    ("learned", "packed", "float16"),
    ("learned", "inline", "none"),
)


def opened(uri: str) -> ClusterIndex:
    parsed = ClusterURI.parse(uri)
    return ClusterIndex(Collection.open(Connection.open(parsed), parsed.name))


def timed(
    index: Any, queries: np.ndarray, seconds: float, candidates: int | None = None
) -> list[float]:
    """Seconds of single queries, for about so long, after the first twenty."""
    times = []
    end = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < end or number < 40:
        began = time.perf_counter()
        index.search(queries[number % len(queries)], K, candidates=candidates)
        if number >= 20:
            times.append(time.perf_counter() - began)
        number += 1
    return times


def client(uri: str, queries: np.ndarray, barrier: Any, out: Any) -> None:
    """One of several processes that search at once."""
    index = opened(uri)
    timed(index, queries, 0)
    barrier.wait()
    out.put(timed(index, queries, SECONDS))


def several(uri: str, queries: np.ndarray, number: int) -> float:
    """Queries per second of so many clients together."""
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(number), context.Queue()
    running = [
        context.Process(target=client, args=(uri, queries, barrier, out)) for _ in range(number)
    ]
    for process in running:
        process.start()
    rate = sum(1 / float(np.mean(out.get(timeout=120))) for _ in running)
    for process in running:
        process.join()
    return rate


def speeds(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "queries_per_second": 1 / float(np.mean(times)),
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
    }


def same_answers(index: ClusterIndex, local: LSHIndex, queries: np.ndarray) -> int:
    """How many queries have the same ids and cosines in both."""
    same = 0
    for query in queries:
        here, there = local.search(query, K), index.search(query, K)
        same += bool((here.ids == there.ids).all() and (here.cosines == there.cosines).all())
    return same


def measured(
    parts: Parts, servers: Servers, layout: Any, vectors: Any, local: LSHIndex, queries: np.ndarray
) -> dict[str, Any]:
    uri = servers.uri("bench")
    connection = Connection.open(ClusterURI.parse(uri))
    report = load(parts, connection, "bench", layout=layout, vectors=vectors)
    collection = Collection.open(connection, "bench")
    index = ClusterIndex(collection)
    memory = collection.memory()
    result: dict[str, Any] = {
        "load_images_per_second": report.images / report.seconds,
        "bytes_per_image_and_copy": {
            kind: value / report.images for kind, value in memory.items() if value
        },
        **speeds(timed(index, queries, SECONDS)),
        "two_clients_queries_per_second": several(uri, queries, 2),
    }
    result["mean_ms_by_candidates"] = {
        str(number): 1e3 * float(np.mean(timed(index, queries, 2, number)))
        for number in BY_CANDIDATES
    }
    if vectors != "none":
        result["same_answers"] = same_answers(index, local, queries)
    drop(connection, "bench")
    connection.close()
    return result


def main() -> None:
    options = options_of(__doc__)
    data = load_set(options.cache, options.set)
    items, queries = data.items[: options.items], data.queries[:500]
    nearest = np.argsort(-(queries @ items.T), axis=1)[:, :K] + 1
    results: dict[str, Any] = {"items": len(items), "dim": items.shape[1], "queries": len(queries)}
    folder = Path(tempfile.mkdtemp())
    servers = Servers.start(folder / "servers")
    try:
        for name, layout, vectors in CASES:
            settings = SETTINGS[name](items.shape[1], KEY_BITS[name])
            where = folder / name
            parts = Parts.open(str(where)) if where.exists() else make_parts(where, items, settings)
            local = local_index(items, settings)
            found = np.stack([local.search(query, K).ids for query in queries])
            results[f"{name}, local"] = {
                "recall@10": recall(found, nearest),
                **speeds(timed(local, queries, SECONDS)),
            }
            key = f"{name}, {layout}, vectors {vectors}"
            results[key] = measured(parts, servers, layout, vectors, local, queries)
            print(key, json.dumps(results[key]), flush=True)
    finally:
        servers.stop()
        shutil.rmtree(folder)
    tell(results, options.out)


if __name__ == "__main__":
    main()
