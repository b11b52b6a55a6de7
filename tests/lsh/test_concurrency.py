"""Searching in threads while one thread adds and removes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from lookalike.lsh import LSHIndex

DIM = 32
SECONDS = 4.0


@pytest.mark.slow
def test_searches_beside_a_writer_never_miss_or_invent_anything() -> None:
    """Items 0..499 stay for good and answer exactly; 10,000.. come and go around them."""
    rng = np.random.default_rng(0)
    stable = rng.standard_normal((500, DIM)).astype(np.float32)
    stable /= np.linalg.norm(stable, axis=1, keepdims=True)
    index = LSHIndex(DIM)
    index.add(np.arange(500), stable)
    known = {i: stable[i] for i in range(500)}
    ever: set[int] = set(range(500))
    gone: set[int] = set()  # removed before the search began: must not be found
    done = threading.Event()
    faults: list[str] = []
    searches = [0, 0]

    def search(worker: int) -> None:
        local = np.random.default_rng(worker)
        while not done.is_set():
            target = int(local.integers(500))
            removed_before = set(gone)
            found = index.search(stable[target], 5, threads=1)
            searches[worker] += 1
            if found.ids[0] != target or abs(found.cosines[0] - 1) > 1e-3:
                faults.append(f"{target} not first: {found}")
            if not set(found.ids.tolist()) <= ever:
                faults.append(f"invented: {found}")
            if removed_before & set(found.ids.tolist()):
                faults.append(f"removed and found: {found}")
            if len(set(found.ids.tolist())) < 5:
                faults.append(f"twice or missing: {found}")
            cosines = [float(known[i] @ stable[target]) for i in found.ids.tolist() if i in known]
            near = [c for i, c in zip(found.ids, found.cosines, strict=True) if int(i) in known]
            if not np.allclose(cosines, near, atol=2e-3):
                faults.append(f"wrong cosine: {cosines} {near}")

    workers = [threading.Thread(target=search, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    began, number = time.monotonic(), 10_000
    while time.monotonic() - began < SECONDS or min(searches) < 21:
        rows = rng.standard_normal((200, DIM)).astype(np.float32)
        ids = np.arange(number, number + 200)
        ever.update(ids.tolist())
        index.add(ids, rows)
        index.remove(ids[:20])
        gone.update(ids[:20].tolist())
        number += 200
    done.set()
    for worker in workers:
        worker.join()
    assert faults == []
    assert min(searches) > 20
    assert len(index) == 500 + (number - 10_000) * 9 // 10
