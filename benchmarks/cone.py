"""Recall on vectors with a common offset: the SIFT descriptors of a folder's images, or made ones.

    python benchmarks/cone.py COREL5K [--json OUT]
    python benchmarks/cone.py 1000000 [--json OUT]
    python benchmarks/cone.py geometries [--json OUT]

None of their 128 values is negative, so that the cosine of two of them is 0.46 on average, as with
CLIP's features and others in a narrow cone. 1,000 random ones are the queries, the others the
items; recall@10 against exact search, scanning and by links, and microseconds of processor time a
query, in batches and one query a call, in one thread, beside hnswlib if it is installed (M 16, 200
for construction). Needs opencv-python-headless (extra ``paper``). A number makes so many vectors of
128 dimensions: 1,000 clusters of 24 directions each with some noise in all, and an offset.

``geometries``: eight made sets of 100,000 vectors, without clusters, with uneven ones, and so on;
recall and microseconds a query of 500 in one batch, for 1, 10 and 100 results, by the defaults as
they were measured and as they are without that; and of exact search.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex
from lookalike.lsh.tuning import recall_of

K, QUERIES, PER_IMAGE, ROUNDS = 10, 1000, 51, 7
Search = Callable[[NDArray[np.float32]], NDArray[Any]]
EFFORTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "deep": {"candidates": 20_000, "rerank": 200},
    **{f"linked, beam {beam}": {"beam": beam} for beam in (32, 48, 64, 80, 96, 128, 192)},
}


def descriptors(folder: Path) -> NDArray[np.float32]:
    """SIFT of all images below a folder, unit rows (n, 128)."""
    import cv2

    sift = cv2.SIFT.create(nfeatures=PER_IMAGE)
    found = []
    for path in sorted(folder.rglob("*.jp*g")):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is not None and (rows := sift.detectAndCompute(grey, None)[1]) is not None:
            found.append(rows[rows.any(axis=1)])
    rows = np.concatenate(found)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def made(n: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, 128), dtype=np.float32)
    directions = rng.standard_normal((1000, 24, 128), dtype=np.float32) / np.float32(24**0.5)
    offset = rng.standard_normal(128, dtype=np.float32) * np.float32(1.15)
    rows = np.empty((n, 128), np.float32)
    for start in range(0, n, 1000):
        some = rows[start : start + 1000]
        cluster = rng.integers(0, 1000, len(some))
        along = rng.standard_normal((len(some), 1, 24), dtype=np.float32)
        some[:] = centres[cluster] * np.float32(0.5) + offset + (along @ directions[cluster])[:, 0]
        some += np.float32(0.2) * rng.standard_normal(some.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def spectrum(rng: np.random.Generator, n: int, dim: int, power: float) -> NDArray[Any]:
    """Normal, the j-th axis shrunk by j^-power; of length 1 on average."""
    scale = np.arange(1, dim + 1) ** -power
    rows: NDArray[Any] = rng.standard_normal((n, dim)) * (scale / np.linalg.norm(scale))
    return rows


def clustered(rng: np.random.Generator, n: int, dim: int, shares: NDArray[Any]) -> NDArray[Any]:
    centres = spectrum(rng, len(shares), dim, 0.4)
    rows: NDArray[Any] = centres[rng.choice(len(shares), n, p=shares / shares.sum())]
    return rows + 0.5 * spectrum(rng, n, dim, 0.3)


def elsewhere(rng: np.random.Generator, n: int) -> NDArray[Any]:
    """The first 500, of which the queries are made, are moved."""
    rows = clustered(rng, n, 256, np.ones(300)) + spectrum(rng, 1, 256, 0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    moved = spectrum(rng, 1, 256, 0) * 0.6 + spectrum(rng, 500, 256, 0) * 0.5
    moved += 0.5 * rows[:500]
    together: NDArray[Any] = np.concatenate([moved, rows[500:]])
    return together


def families(rng: np.random.Generator, n: int) -> NDArray[Any]:
    rows = np.repeat(rng.standard_normal((n // 20, 256)), 20, axis=0)
    return rng.permutation(rows + 0.3 * rng.standard_normal(rows.shape))


def attributes(rng: np.random.Generator, n: int) -> NDArray[Any]:
    """One of 20 values, few of them common, of each of 20 attributes."""
    shares = np.arange(1, 21) ** -0.8
    values = rng.choice(20, (n, 20), p=shares / shares.sum())
    rows: NDArray[Any] = np.eye(20)[values].reshape(n, -1)
    return rows


GEOMETRIES: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
    "clusters of like size, 512": lambda rng, n: clustered(rng, n, 512, np.ones(300)),
    "clusters of Zipf's sizes, 256": lambda rng, n: clustered(
        rng, n, 256, np.arange(1, 3001) ** -1.3
    ),
    "no clusters, 96": lambda rng, n: rng.standard_normal((n, 96)),
    "no clusters, 512": lambda rng, n: rng.standard_normal((n, 512)),
    "no clusters, 16": lambda rng, n: rng.standard_normal((n, 16)),
    "families of 20, 256": families,
    "attributes, 400": attributes,
    "queries elsewhere, 256": elsewhere,
}


def measure_geometries() -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, draw in GEOMETRIES.items():
        rows = draw(np.random.default_rng(0), 100_500).astype(np.float32)
        queries, items = rows[:500], rows[500:]
        index = LSHIndex(dim=items.shape[1])
        began = time.process_time()
        index.add(np.arange(len(items)), items)
        (segment,) = index.segments()
        line: dict[str, Any] = {"add_s": time.process_time() - began, "factors": segment.factors}
        began = time.thread_time()
        exact = index.search(queries, 100, exact=True).cosines
        line["exact_us"] = 1e6 * (time.thread_time() - began) / len(queries)
        for how, factors in (("measured", segment.factors), ("default", None)):
            kept = replace(segment, factors=factors)
            index._state = replace(index._state, segments=(kept,))
            for k in (1, 10, 100):
                found = index.search(queries, k, threads=1).cosines
                us = []
                for _ in range(ROUNDS):
                    began = time.thread_time()
                    index.search(queries, k, threads=1)
                    us.append(1e6 * (time.thread_time() - began) / len(queries))
                line[f"{how}, {k}"] = recall_of(found, exact[:, :k]), min(us)
        result[name] = line
    return result


def timed(
    search: Search, queries: NDArray[np.float32], exact: NDArray[np.int64]
) -> dict[str, float]:
    """Recall, and the least microseconds a query of some rounds, in a batch and one a call."""
    hit = [np.isin(a, b).mean() for a, b in zip(exact, search(queries), strict=True)]
    batch, single = [], []
    for _ in range(ROUNDS):
        began = time.thread_time()
        search(queries)
        batch.append(time.thread_time() - began)
        began = time.thread_time()
        for at in range(len(queries)):
            search(queries[at : at + 1])
        single.append(time.thread_time() - began)
    us = {"us": min(batch), "us_single": min(single)}
    return {"recall": float(np.mean(hit))} | {k: 1e6 * v / len(queries) for k, v in us.items()}


def measure(rows: NDArray[np.float32]) -> dict[str, Any]:
    order = np.random.default_rng(1).permutation(len(rows))
    queries, items = rows[order[:QUERIES]], rows[order[QUERIES:]]
    mean = items.mean(axis=0)
    parts = [-(some @ items.T) for some in np.split(queries, 20)]
    exact = np.concatenate([np.argpartition(part, K, axis=1)[:, :K] for part in parts])
    result: dict[str, Any] = {"items": len(items), "mean_cosine": float(mean @ mean)}
    index = LSHIndex(dim=items.shape[1])
    index.add(np.arange(len(items)), items)
    for name, effort in EFFORTS.items():
        if "beam" in effort:
            index.link()
        search: Callable[..., Any] = partial(index.search, k=K, threads=1, **effort)
        result[name] = timed(lambda some: search(some).ids, queries, exact)  # noqa: B023
    try:
        import hnswlib
    except ImportError:
        return result
    graph = hnswlib.Index("ip", items.shape[1])
    graph.init_index(len(items), ef_construction=200, M=16)
    graph.add_items(items, num_threads=-1)
    graph.set_num_threads(1)
    for ef in (40, 60, 80, 120, 160, 240):
        graph.set_ef(ef)
        result[f"hnswlib, ef {ef}"] = timed(
            lambda some: graph.knn_query(some, K)[0], queries, exact
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("vectors", help="a folder, how many to make, or geometries")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    if options.vectors == "geometries":
        result = measure_geometries()
    elif options.vectors.isdecimal():
        result = measure(made(int(options.vectors)))
    else:
        result = measure(descriptors(Path(options.vectors)))
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
