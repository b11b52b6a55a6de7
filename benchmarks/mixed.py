"""Searching in two threads while a third adds and removes, every answer checked.

    python benchmarks/mixed.py [--seconds 30] [--add 100000] [--remove 10000]

The index begins with 20,000 random vectors. The writer adds and removes in small batches, spread
over the time. Each search asks for a known item, slightly disturbed, so near that no other item can
come before it, and is held against the oracle:

* the item was added before the search began and not removed until it ended: it must come first;
* the item was removed before the search began: it must not be there;
* whatever else is found must have been added before the search ended, must not have been removed
  before it began, must appear once, in order of its cosine, and with its true cosine.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from deep216k import Floats, unit

from lookalike.lsh import LSHIndex

DIM = 256
BASE = 20_000
BATCHES = 200
K = 10
DISTURBANCE = np.float32(0.02)
HALF_PRECISION = 2e-3
NEVER = np.inf


class Oracle:
    """When each item was surely in the index: times of ``perf_counter`` around every change."""

    def __init__(self, vectors: Floats, present: int) -> None:
        self.vectors = vectors
        self.adding, self.added, self.removing, self.removed = np.full((4, len(vectors)), NEVER)
        self.adding[:present] = self.added[:present] = -NEVER

    def check(
        self, target: int, began: float, ended: float, ids: Any, cosines: Any, query: Floats
    ) -> list[str]:
        """What is wrong with the answer to ``query``, which is a disturbed ``target``."""
        faults = []
        if self.added[target] < began and self.removing[target] > ended and ids[0] != target:
            faults.append("missing: an item that was there all the time is not first")
        if (ids < 0).any() or len(np.unique(ids)) != len(ids):
            faults.append("fewer than k results, or repeats")
        found = ids[ids >= 0]
        if (self.removed[found] < began).any():
            faults.append("wrong: an item that was removed before")
        if (self.adding[found] > ended).any():
            faults.append("wrong: an item that was not yet added")
        true = self.vectors[found] @ query
        if np.abs(true - cosines[ids >= 0]).max(initial=0) > HALF_PRECISION:
            faults.append("wrong: a cosine")
        if (np.diff(cosines) > 0).any():
            faults.append("wrong: the order")
        return faults


def run(*, seconds: float, add: int, remove: int, threads: int = 2) -> dict[str, Any]:
    """Counts, speeds, and every kind of fault with its number."""
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((BASE + add, DIM), dtype=np.float32))
    index = LSHIndex(DIM)
    index.add(np.arange(BASE), vectors[:BASE])
    index.search(vectors[0], K)
    oracle = Oracle(vectors, BASE)
    done = threading.Event()
    searches, faults, errors = [0] * threads, Counter[str](), []
    kinds = Counter[str]()

    def search(worker: int) -> None:
        local = np.random.default_rng(worker + 1)
        try:
            while not done.is_set():
                target = int(local.integers(len(vectors)))
                noise = unit(local.standard_normal((1, DIM), dtype=np.float32))
                query = unit(vectors[target : target + 1] + DISTURBANCE * noise)[0]
                began = time.perf_counter()
                found = index.search(query, K, threads=1)
                ended = time.perf_counter()
                searches[worker] += 1
                there = oracle.added[target] < began and oracle.removing[target] > ended
                gone = oracle.removed[target] < began or oracle.adding[target] > ended
                kinds["there" if there else "gone or not yet" if gone else "changing"] += 1
                faults.update(oracle.check(target, began, ended, *found, query))
        except Exception as error:
            errors.append(repr(error))

    workers = [threading.Thread(target=search, args=(i,)) for i in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    busy = _write(index, oracle, rng, start, seconds, add, remove)
    done.set()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    return {
        "seconds": elapsed,
        "search_threads": threads,
        "searches": sum(searches),
        "searches_per_second": sum(searches) / elapsed,
        "targets": dict(kinds),
        "added": add,
        "removed": remove,
        "adds_per_second_of_writing": add / busy,
        "items_at_the_end": len(index),
        "items_expected": BASE + add - remove,
        "faults": sum(faults.values()) + len(errors),
        "kinds_of_fault": dict(faults),
        "errors": errors,
    }


def _write(
    index: LSHIndex,
    oracle: Oracle,
    rng: np.random.Generator,
    start: float,
    seconds: float,
    add: int,
    remove: int,
) -> float:
    """Add and remove in batches spread over ``seconds``; returns the seconds spent adding."""
    adds = np.array_split(np.arange(BASE, BASE + add), BATCHES)
    removes = np.array_split(rng.choice(BASE + add // 2, remove, replace=False), BATCHES // 2)
    busy = 0.0
    for i, ids in enumerate(adds):
        time.sleep(max(0.0, start + seconds * i / BATCHES - time.perf_counter()))
        oracle.adding[ids] = before = time.perf_counter()
        index.add(ids, oracle.vectors[ids])
        oracle.added[ids] = after = time.perf_counter()
        busy += after - before
        if i >= BATCHES // 2:
            gone = removes[i - BATCHES // 2]
            oracle.removing[gone] = time.perf_counter()
            index.remove(gone)
            oracle.removed[gone] = time.perf_counter()
    time.sleep(max(0.0, start + seconds - time.perf_counter()))
    return busy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--add", type=int, default=100_000)
    parser.add_argument("--remove", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    result = run(seconds=options.seconds, add=options.add, remove=options.remove)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "mixed.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    raise SystemExit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
