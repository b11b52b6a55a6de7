"""How time, memory and opening grow with the number of items, from 10^4 to 10^7.

    python benchmarks/growth.py [--sizes 10000 100000 1000000 10000000] [--link-up-to 1000000]

First ``python benchmarks/deep216k.py FOLDER``. The set is grown by repeating its items, each time
with fresh noise: x + 0.3 u, u a random direction, then scaled to unit length; queries likewise.
For each size the fastest of several candidate numbers and re-rank depths that reaches recall@10 0.9
is timed (CPU time of one thread, batches of 200). Vectors are kept as float16 for the re-rank; ten
million take 6 GB, and 13 GB while segments are merged. The saved index is opened and asked once in
a fresh process after its pages were dropped from memory, and the bytes that this reads are counted.
Sizes up to the last argument are then linked, and the smallest beam that reaches 0.9 is timed.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from deep216k import Floats, Ids, exact_nearest, load, recall, unit
from memory import beyond_vectors

from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.links import LINKED_FROM

K = 10
TARGET = 0.9
NOISE = np.float32(0.3)
QUERIES = 200
BATCH = 1_000_000
PIECE = 50_000
BEAMS = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512)
DEPTHS = (30, 50, 80, 120, 200, 400, 800)
ROUNDS = 5

OPENING = """
import json, pathlib, sys, time
import numpy as np
from lookalike.lsh import LSHIndex
import lookalike.lsh.search
def read(): # bytes fetched from the disk, and of the index's files in memory
    lines = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
    mapped, inside = 0, False
    for line in open("/proc/self/smaps"):
        if "-" in line.split(" ", 1)[0]:
            inside = ".lka" in line
        elif inside and line.startswith("Rss:"):
            mapped += int(line.split()[1]) * 1024
    return int(lines["read_bytes"]), mapped
folder, query = sys.argv[1], np.load(sys.argv[2])
before = read()
start = time.perf_counter()
index = LSHIndex.open(folder)
opened = time.perf_counter() - start
after_open = read()
start = time.perf_counter()
index.search(query, 10)
first = time.perf_counter() - start
after = read()
times = []
for _ in range(20):
    start = time.perf_counter()
    index.search(query, 10)
    times.append(time.perf_counter() - start)
print(json.dumps({
    "open_seconds": opened, "first_query_seconds": first, "same_again_seconds": min(times),
    "read_by_open": after_open[0] - before[0], "read_by_first_query": after[0] - after_open[0],
    "mapped_pages_bytes": after[1],
}))
"""


def noisy(rng: np.random.Generator, vectors: Floats) -> Floats:
    """Each vector plus 0.3 times a random direction, at unit length."""
    noise = unit(rng.standard_normal(vectors.shape, dtype=np.float32))
    return unit(vectors + NOISE * noise)


def grown(items: Floats, n: int) -> Iterator[Floats]:
    """``n`` noisy items in batches of at most a million."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(items))
    for start in range(0, n, BATCH):
        size = min(BATCH, n - start)
        out = np.empty((size, items.shape[1]), np.float32)
        for at in range(0, size, PIECE):
            which = np.arange(start + at, start + min(at + PIECE, size)) % len(items)
            out[at : at + PIECE] = noisy(rng, items[order[which]])
        yield out


def merge_nearest(best: Ids, cosines: Floats, ids: Ids, more: Floats) -> tuple[Ids, Floats]:
    """The K best of two lists of neighbours per query."""
    ids, more = np.concatenate([best, ids], axis=1), np.concatenate([cosines, more], axis=1)
    order = np.argsort(-more, axis=1, kind="stable")[:, :K]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(more, order, axis=1)


def cpu_us(index: LSHIndex, queries: Floats, **settings: Any) -> float:
    """Median CPU microseconds per query of a batch, at the index's own settings but for these."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        index.search(queries, K, **settings, threads=1)
        times.append(time.process_time() - start)
    return median(times) / len(queries) * 1e6


def fewest_candidates(index: LSHIndex, queries: Floats, exact: Ids, rerank: int) -> int | None:
    """The smallest number of candidates (within 8 %) that reaches the target; None: none does."""

    def reached(candidates: int) -> bool:
        found = index.search(queries, K, candidates=candidates, rerank=rerank, threads=1)
        return recall(found.ids, exact) >= TARGET

    low, high = 100, max(200, len(index) // 2)
    if not reached(high):
        return None
    while high > 1.08 * low:
        middle = int((low * high) ** 0.5)
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def linked(index: LSHIndex, queries: Floats, exact: Ids) -> dict[str, Any]:
    """Link the index, and time the smallest beam that reaches the target."""
    start = time.process_time()
    index.link()
    seconds = time.process_time() - start
    if not all(segment.links and segment.links.beam for segment in index.segments()):
        return {"beam": 0, "link_cpu_seconds": seconds}  # a scan takes no longer for as many
    for beam in BEAMS:
        found = recall(index.search(queries, K, beam=beam, threads=1).ids, exact)
        if found >= TARGET:
            us = cpu_us(index, queries, beam=beam)
            return {"beam": beam, "us": us, "recall": found, "link_cpu_seconds": seconds}
    return {"recall": found, "link_cpu_seconds": seconds}


def fastest(items: Floats, n: int, queries: Floats) -> tuple[dict[str, Any], LSHIndex, Ids]:
    """The index of ``n`` items, its fastest search that reaches the target, and what is exact."""
    index, seconds, exact = built(items, n, queries)
    best: dict[str, Any] = {}
    for depth in DEPTHS:
        candidates = fewest_candidates(index, queries, exact, depth)
        if candidates is None:
            continue
        us = cpu_us(index, queries, candidates=candidates, rerank=depth)
        print(f"re-rank {depth}, candidates {candidates:,}: {us:.1f} us", flush=True)
        if not best or us < best["us"]:
            best = {"candidates": candidates, "rerank": depth, "us": us}
    if not best:
        raise SystemExit(f"recall {TARGET} is out of reach at {n:,} items")
    hits = index.search(queries, K, candidates=best["candidates"], rerank=best["rerank"])
    untuned = index.search(queries, K)
    best |= {"key_bits": index.segments()[0].key_bits, "build_cpu_seconds": seconds}
    best |= {"recall": recall(hits.ids, exact), "recall_untuned": recall(untuned.ids, exact)}
    best |= {"us_untuned": cpu_us(index, queries)}
    return best, index, exact


def built(items: Floats, n: int, queries: Floats) -> tuple[LSHIndex, float, Ids]:
    """The index of ``n`` items added batch by batch, its CPU seconds, the exact neighbours."""
    index = LSHIndex(settings=LSHSettings(items.shape[1]))
    exact = np.empty((len(queries), 0), np.int64)
    cosines = np.empty((len(queries), 0), np.float32)
    seconds, first = 0.0, 0
    for batch in grown(items, n):
        near = exact_nearest(batch, queries, K)
        found = np.einsum("qkd,qd->qk", batch[near], queries)
        exact, cosines = merge_nearest(exact, cosines, near + first, found)
        start = time.process_time()
        index.add(np.arange(first, first + len(batch)), batch)
        seconds += time.process_time() - start
        first += len(batch)
        if n > BATCH:
            print(f"{first:,} added, {seconds:.0f} s of CPU", flush=True)
    start = time.process_time()
    index.compact()
    return index, seconds + time.process_time() - start, exact


def opening(index: LSHIndex, query: Floats, cache: Path) -> dict[str, Any]:
    """Save, drop the files from memory, open and ask once in a fresh process."""
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary) / "index"
        index.save(folder)
        np.save(Path(temporary) / "query.npy", query)
        size = 0
        for path in folder.iterdir():
            size += path.stat().st_size
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        command = [sys.executable, "-c", OPENING, str(folder), f"{temporary}/query.npy"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {"index_bytes": size, **json.loads(answer)}


def exponent(rows: list[dict[str, Any]]) -> float | None:
    """The slope of log time over log n."""
    points = np.log([(row["items"], row["us"]) for row in rows if "us" in row])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0]) if len(points) > 1 else None


def run(cache: Path, sizes: list[int], link_up_to: int, results: Path) -> dict[str, Any]:
    items, queries, _ = load(cache, "deep216k")
    queries = noisy(np.random.default_rng(6), queries[:QUERIES])
    rows: list[dict[str, Any]] = []
    for n in sizes:
        row, index, exact = fastest(items, n, queries)
        row = {"items": n, **row, "bytes_beyond_vectors": beyond_vectors(index)}
        row |= opening(index, queries[0], cache)
        if LINKED_FROM <= n <= link_up_to:
            row["linked"] = linked(index, queries, exact)
        row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(row)
        print(row, flush=True)
        result = {"target_recall": TARGET, "k": K, "exponent": exponent(rows), "sizes": rows}
        by_links = [{"items": row["items"], **row["linked"]} for row in rows if "linked" in row]
        result["exponent_linked"] = exponent(by_links)
        results.mkdir(parents=True, exist_ok=True)
        (results / "growth.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--link-up-to", type=int, default=10**6)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    result = run(options.cache, options.sizes, options.link_up_to, options.results)
    print("exponents", result["exponent"], result["exponent_linked"])


if __name__ == "__main__":
    main()
