"""How batch search scales to two threads, and how much of that this machine can give.

    python benchmarks/threads.py [--set deep216k] [--rounds 15]

First ``python benchmarks/deep216k.py FOLDER``. One and two threads take turns, so that other load
slows both alike; the median of the ratio of each turn counts. Other programs that keep a core busy
take it from the second thread, so beside it stands the same ratio of a plain loop that shares
nothing (``ceiling``), measured in the same turns.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np
from deep216k import SETS, VectorSet, load

from lookalike.lsh import LSHIndex

K = 10
SPINS = 30_000_000


@numba.njit(nogil=True)
def _spin(count: int) -> int:
    value = 1
    for _ in range(count):
        value ^= value << 13
        value ^= value >> 7
        value ^= value << 17
    return value


def _ceiling(threads: int) -> None:
    """The same amount of independent work, split over the threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_spin, [SPINS // threads] * threads))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(vectors: VectorSet, rounds: int) -> dict[str, Any]:
    """Ratio of the times of one and two threads, for searches and for the plain loop."""
    index = LSHIndex(vectors.items.shape[1])
    index.add(np.arange(len(vectors.items)), vectors.items)
    one = index.search(vectors.queries, K, threads=1)
    two = index.search(vectors.queries, K, threads=2)
    if not np.array_equal(one.ids, two.ids):
        raise SystemExit("two threads find other items than one")
    _ceiling(2)
    searches, ceilings = [], []
    for _ in range(rounds):
        a = seconds(lambda: index.search(vectors.queries, K, threads=1))
        b = seconds(lambda: index.search(vectors.queries, K, threads=2))
        searches.append(a / b)
        ceilings.append(seconds(lambda: _ceiling(1)) / seconds(lambda: _ceiling(2)))
    return {
        "queries": len(vectors.queries),
        "rounds": rounds,
        "two_threads_over_one": median(searches),
        "ceiling": median(ceilings),
        "each": searches,
        "each_ceiling": ceilings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--set", choices=SETS, default="deep216k")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    result = run(load(options.cache, options.set), options.rounds)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"threads-{options.set}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"two threads / one: {result['two_threads_over_one']:.2f}, ceiling {result['ceiling']:.2f}"
    )


if __name__ == "__main__":
    main()
