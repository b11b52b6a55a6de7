"""Recall on vectors with a common offset: the SIFT descriptors of a folder's images.

    python benchmarks/cone.py COREL5K [--json OUT]

None of their 128 values is negative, so that the cosine of two of them is 0.46 on average, as with
CLIP's features and others in a narrow cone. 1,000 random ones are the queries, the others the
items; recall@10 against exact search, scanning and by links, and microseconds of processor time a
query, in batches and one thread. Needs opencv-python-headless (extra ``paper``).
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex

K, QUERIES, PER_IMAGE, ROUNDS = 10, 1000, 51, 9
EFFORTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "deep": {"candidates": 20_000, "rerank": 200},
    **{f"linked, beam {beam}": {"beam": beam} for beam in (64, 80, 96)},
}


def descriptors(folder: Path) -> NDArray[np.float32]:
    """SIFT of all images below a folder, unit rows (n, 128)."""
    sift = cv2.SIFT.create(nfeatures=PER_IMAGE)
    found = []
    for path in sorted(folder.rglob("*.jp*g")):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is not None and (rows := sift.detectAndCompute(grey, None)[1]) is not None:
            found.append(rows[rows.any(axis=1)])
    rows = np.concatenate(found)
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def measure(rows: NDArray[np.float32]) -> dict[str, Any]:
    order = np.random.default_rng(1).permutation(len(rows))
    queries, items = rows[order[:QUERIES]], rows[order[QUERIES:]]
    mean = items.mean(axis=0)
    exact = np.argpartition(-(queries @ items.T), K, axis=1)[:, :K]
    index = LSHIndex(dim=items.shape[1])
    index.add(np.arange(len(items)), items)
    result: dict[str, Any] = {"items": len(items), "mean_cosine": float(mean @ mean)}
    for name, effort in EFFORTS.items():
        if "beam" in effort:
            index.link()
        search = partial(index.search, queries, K, threads=1, **effort)
        found = search()
        hit = [np.isin(a, b).mean() for a, b in zip(exact, found.ids, strict=True)]
        seconds = []
        for _ in range(ROUNDS):
            began = time.thread_time()
            search()
            seconds.append(time.thread_time() - began)
        result[name] = {"recall": float(np.mean(hit)), "us": 1e6 * min(seconds) / QUERIES}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    result = measure(descriptors(options.folder))
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
