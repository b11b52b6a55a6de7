"""A gallery in shards beside the embedded one: speed, recall, memory, growth, and what fails how.

    python benchmarks/cluster.py speed [--items 200000] [--shards 2]
    python benchmarks/cluster.py speed --items 2000000 --shards 4
    python benchmarks/cluster.py drills [--items 200000] [--shards 2]

Real Ray nodes on the loopback address, with a token, started and stopped here; client, shards and
nodes share the machine's cores. Vectors of 256 dimensions: those of ``deep216k.py`` from
``--cache`` if they are there, grown as ``growth.py`` does, else generated ones in clusters. Both
galleries are made of the same parts. Results are printed as JSON and, with ``--out FILE``, merged
into that file.

``speed``: the embedded index and the sharded gallery with the same queries: one at a time with all
that a hit says, in batches of 500, recall of the exact ten nearest, and whether exact searches
agree to the bit; memory of each shard beyond that of one with a hundred images.

``drills``: searches and writes go on while a replica is killed with SIGKILL (two replicas); then a
node is killed (one replica); then all nodes are killed, and started again from the parts, with the
shards' cache and without.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "cluster"))
from rays import ENVIRONMENT, RayNodes

from lookalike.cluster import deployment
from lookalike.cluster.deployment import Layout
from lookalike.cluster.gallery import ShardedGallery, open_uri
from lookalike.cluster.job import Job
from lookalike.cluster.parts import Parts, to_batch
from lookalike.cluster.shard import Place, Shard
from lookalike.cluster.writer import writing
from lookalike.encoder import ModelInfo
from lookalike.errors import ClusterError, LookalikeError
from lookalike.gallery import Hit
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow
from lookalike.lsh import LSHIndex, LSHSettings

DIM = 256
K = 10
CHUNK = 4096
QUERIES = 500
ROUNDS = 3
LOAD_THREADS = 2
WRITTEN_AT_ONCE = 20
Floats = NDArray[np.float32]


# ---- vectors and parts ---------------------------------------------------------------------------


def generated(n: int, seed: int) -> Floats:
    """(n, DIM) unit vectors in clusters, whose variance falls along the axes as features' does."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(1 + np.arange(DIM, dtype=np.float32))).astype(np.float32)
    centres = rng.standard_normal((5000, DIM), np.float32) * scale + 0.2 * scale
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(len(centres), size=n)]
    rows += 0.7 * rng.standard_normal((n, DIM), np.float32) * scale
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def vectors_of(n: int, cache: Path) -> tuple[Iterator[Floats], Floats, str]:
    """Items in pieces of at most a million, queries (QUERIES, DIM), and what they are."""
    if (cache / "deep216k-items.npy").exists():
        from deep216k import load
        from growth import grown, noisy

        known = load(cache, "deep216k")
        queries = noisy(np.random.default_rng(6), known.queries[:QUERIES])
        return grown(known.items, n), queries, "deep216k"
    pieces = (
        generated(min(1_000_000, n - at), 1 + at // 1_000_000) for at in range(0, n, 1_000_000)
    )
    return pieces, generated(QUERIES, 99), "generated"


def image(number: int) -> ImageRow:
    """The row of an image of this id, with a content of its own."""
    digest = np.random.default_rng(number).bytes(16)
    path = f"{number // 1000:05}/{number:08}.jpg".encode()
    return ImageRow(number, path, 40_000, 1, digest, 640, 480, "JPEG")


def make_parts(where: Path, pieces: Iterator[Floats], n: int) -> Parts:
    """A job whose images are these vectors, with ids from 1 on."""
    model = ModelInfo("vectors", "1", "0" * 64, 1, (0.0,) * 3, (1.0,) * 3, DIM)
    job = Job(model, "/images", CHUNK, source="/images")
    parts = Parts.create(str(where), job, ((b"%d" % number, -1) for number in range(n)))
    left, start = np.empty((0, DIM), np.float16), 0
    for piece in (*pieces, None):
        if piece is not None:
            left = np.concatenate([left, piece.astype(np.float16)])
        while len(left) >= CHUNK or (piece is None and len(left)):
            some, left = left[:CHUNK], left[CHUNK:]
            images = [image(start + 1 + i) for i in range(len(some))]
            rows = Embedded(images, some, [])
            parts.write_chunk(start // CHUNK, to_batch(parts.job, rows))
            start += len(some)
    return parts


def embedded_index(parts: Parts) -> LSHIndex:
    """The same items in the embedded engine."""
    index = LSHIndex(settings=LSHSettings(DIM))
    waiting: list[Embedded] = []

    def add() -> None:
        ids = [row.id for rows in waiting for row in rows.images]
        index.add_stored(ids, np.concatenate([rows.vectors for rows in waiting]))
        waiting.clear()

    for name in parts.refresh():
        waiting.append(parts.live(name))
        if len(waiting) == 64:
            add()
    if waiting:
        add()
    index.compact()
    return index


# ---- measuring -----------------------------------------------------------------------------------


def timed(search: Callable[[Floats], Any], queries: Floats) -> dict[str, float]:
    """One at a time; the best of ROUNDS rounds over all queries, after one that warms up."""
    best: dict[str, float] = {}
    for attempt in range(ROUNDS + 1):
        times = []
        began, used = time.perf_counter(), time.process_time()
        for query in queries:
            start = time.perf_counter()
            search(query)
            times.append(time.perf_counter() - start)
        per_second = len(queries) / (time.perf_counter() - began)
        if attempt and per_second > best.get("queries_per_second", 0):
            p50, p99 = np.percentile(times, [50, 99]) * 1e3
            cpu = 1e3 * (time.process_time() - used) / len(queries)
            best = {"queries_per_second": per_second, "p50_ms": p50, "p99_ms": p99, "cpu_ms": cpu}
    return best


def batches(search: Callable[[Floats], Any], queries: Floats) -> float:
    """Queries per second in batches of 500, the best of some."""
    rates = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        search(queries)
        rates.append(len(queries) / (time.perf_counter() - began))
    return max(rates[1:])


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    shares = [np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]
    return float(np.mean(shares))


@contextmanager
def nodes_of(count: int) -> Iterator[RayNodes]:
    os.environ.update(ENVIRONMENT)
    nodes = RayNodes.start(count, cpus=8)
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        yield nodes
    finally:
        import ray

        ray.shutdown()
        nodes.stop()


def speed(where: Path, items: int, shards: int, cache: Path) -> dict[str, Any]:
    pieces, queries, name = vectors_of(items, cache)
    began = time.perf_counter()
    parts = make_parts(where / "parts", pieces, items)
    print(f"parts after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    small = make_parts(where / "small", iter([generated(100, 5)]), 100)
    index = embedded_index(parts)
    print(f"embedded after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    exact = index.search(queries, K, exact=True)
    found = index.search(queries, K)
    results: dict[str, Any] = {"items": items, "shards": shards, "vectors": name}
    results["embedded"] = {
        **timed(lambda q: index.search(q, K), queries),
        "batch_queries_per_second": batches(lambda q: index.search(q, K), queries),
        "recall@10": recall(found.ids, exact.ids),
    }
    with nodes_of(2):
        layout = Layout(shards=shards, cpus=0.1, cache=str(where / "cache"), threads=1)
        began = time.perf_counter()
        deployment.start(parts.where, "bench", layout)
        built = time.perf_counter() - began
        print(f"shards after {built:.0f} s", file=sys.stderr)
        gallery = open_uri("ray://bench")
        theirs = gallery.nearest(queries, K)
        same = [
            exact_agrees(gallery, q, exact.ids[i], exact.cosines[i])
            for i, q in enumerate(queries[:50])
        ]
        results["shards_built_seconds"] = built
        results["sharded"] = {
            **timed(lambda q: gallery.search(q, K), queries),
            "batch_queries_per_second": batches(lambda q: gallery.nearest(q, K), queries),
            "recall@10": recall(theirs.ids, exact.ids),
            "exact_searches_equal_to_the_bit": f"{sum(same)} of {len(same)}",
        }
        used = [one["memory_bytes"] for one in deployment.status("bench")[1]]
        deployment.start(small.where, "small", replace(layout, shards=1))
        tiny = open_uri("ray://small")
        for query in queries[:50]:
            tiny.search(query, K)
            tiny.nearest(query, K)
        base = deployment.status("small")[1][0]["memory_bytes"]
        results["resident_bytes_an_image"] = (sum(used) - base * shards) / items
        results["resident_bytes_of_a_process"] = base
        began = time.perf_counter()
        deployment.stop("bench", keep_cache=True)
        deployment.start(parts.where, "bench", layout)
        results["opened_from_cache_seconds"] = time.perf_counter() - began
        deployment.stop("bench", keep_cache=True)
        deployment.stop("small")
    results["shard_search_ms"] = shard_search_ms(parts, shards, where / "cache", queries)
    return results


def shard_search_ms(parts: Parts, shards: int, cache: Path, queries: Floats) -> float:
    """Of a shard in this process, without Ray: the median for one query with all it answers."""
    shard = Shard(Place(parts.where, 0, shards, 0, str(cache)))
    shard.catch_up()
    best = timed(lambda query: shard.ask("matches", query, K), queries)["p50_ms"]
    shard.close()
    return best


def exact_agrees(
    gallery: ShardedGallery, query: Floats, ids: NDArray[np.int64], cosines: Floats
) -> bool:
    hits = gallery.search(query, K, exact=True)
    mine = [(hit.id, np.float32(hit.cosine)) for hit in hits]
    return mine == list(zip(ids.tolist(), cosines, strict=True))


# ---- drills --------------------------------------------------------------------------------------


class Expected:
    """What a query may be answered: what it was before images were written elsewhere, or better, as
    a search of more images visits more of them."""

    def __init__(self, gallery: ShardedGallery, query: Floats) -> None:
        self._usual = [(hit.id, hit.cosine) for hit in gallery.search(query, K)]
        self._near = {hit.id: hit.cosine for hit in gallery.search(query, 10 * K, exact=True)}

    def allows(self, hits: list[Hit]) -> bool:
        found = [(hit.id, hit.cosine) for hit in hits]
        if found == self._usual:
            return True
        are_true = all(abs(self._near.get(n, 9.0) - cosine) < 1e-5 for n, cosine in found)
        pairs = zip(found, self._usual, strict=True)
        return are_true and all(new[1] > old[1] - 1e-5 for new, old in pairs)


class Load:
    """Searches in threads, whose answers are compared with what is expected, until `stop`."""

    def __init__(self, gallery: ShardedGallery, queries: Floats, expected: list[Expected]) -> None:
        self.answers = self.wrong = self.failed = 0
        self.longest = 0.0
        self.errors: list[str] = []
        self._gallery, self._queries, self._expected = gallery, queries, expected
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(LOAD_THREADS)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not self._ended.is_set():
            at = int(rng.integers(len(self._queries)))
            began = time.monotonic()
            try:
                hits = self._gallery.search(self._queries[at], K)
                self.wrong += len(hits) != K or not self._expected[at].allows(hits)
                self.answers += 1
            except LookalikeError as error:
                self.failed += 1
                self.errors.append(str(error))
            self.longest = max(self.longest, time.monotonic() - began)

    def stop(self) -> dict[str, Any]:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return {
            "answers": self.answers,
            "wrong": self.wrong,
            "searches_failed": self.failed,
            "longest_wait_s": round(self.longest, 3),
            "errors": self.errors[:2],
        }


class Writes:
    """New images, some at a time, until `stop`; an acknowledged one must be found in the end."""

    def __init__(self, parts: Parts, gallery: ShardedGallery) -> None:
        self.acknowledged: dict[int, Floats] = {}
        self.longest = 0.0
        self._parts, self._gallery = parts, gallery
        self._ended = threading.Event()
        self.begun = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        rng = np.random.default_rng(77)

        def announce(version: int) -> None:
            self._gallery._shards.announce(version, 0.0)

        with writing(self._parts, 30.0, announce) as opened:
            _, journal, new = opened
            number = journal.next_id()
            self.begun.set()
            while not self._ended.is_set():
                vectors = -np.abs(rng.standard_normal((WRITTEN_AT_ONCE, DIM), np.float32))
                rows = [image(number + i) for i in range(WRITTEN_AT_ONCE)]
                number += WRITTEN_AT_ONCE
                began = time.monotonic()
                new.add([row.id for row in rows], vectors)
                with journal.transaction():
                    journal.put(rows)
                self.longest = max(self.longest, time.monotonic() - began)
                self.acknowledged |= {r.id: v for r, v in zip(rows, vectors, strict=True)}
                time.sleep(0.05)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def lost(self) -> int:
        """Acknowledged images that are not found now."""
        newest = max(self.acknowledged, default=0)
        self._gallery._shards.announce(newest - newest % WRITTEN_AT_ONCE, 0.0)
        time.sleep(1.0)
        ids = list(self.acknowledged)
        return sum(not len({*self._gallery.reader().now().rows([i])}) for i in ids)


def drills(where: Path, items: int, shards: int, cache: Path) -> dict[str, Any]:
    pieces, queries, name = vectors_of(items, cache)
    queries = queries[:100]
    parts = make_parts(where / "parts", pieces, items)
    layout = Layout(shards=shards, cpus=0.1, cache=str(where / "cache"), threads=1)
    results: dict[str, Any] = {"items": items, "shards": shards, "vectors": name}
    with nodes_of(3) as nodes:
        deployment.start(parts.where, "drill", replace(layout, replicas=2))
        gallery = open_uri("ray://drill")
        exact = [[hit.id for hit in gallery.search(query, K, exact=True)] for query in queries]
        usual = [Expected(gallery, query) for query in queries]
        results["nothing"] = undisturbed(gallery, queries, usual)
        results["a replica killed while searching and writing, R = 2"] = replica_killed(
            parts, gallery, queries, usual
        )
        deployment.stop("drill", keep_cache=True)
        deployment.start(parts.where, "single", layout)
        single = open_uri("ray://single")
        results["a node killed, R = 1"] = node_killed(nodes, single, queries, exact)
    for case in ("with the shards' cache", "without it"):
        if case == "without it":
            layout = replace(layout, cache=str(where / "other cache"))
        with nodes_of(2):
            began = time.monotonic()
            deployment.start(parts.where, "again", layout)
            again = open_uri("ray://again")
            found = [[hit.id for hit in again.search(q, K, exact=True)] for q in queries]
            results[f"all killed, and started again from DIR {case}"] = {
                "seconds": round(time.monotonic() - began, 1),
                "wrong": sum(a != b for a, b in zip(found, exact, strict=True)),
            }
    return results


def undisturbed(gallery: ShardedGallery, queries: Floats, usual: list[Expected]) -> dict[str, Any]:
    load = Load(gallery, queries, usual)
    time.sleep(5)
    return load.stop()


def replica_killed(
    parts: Parts, gallery: ShardedGallery, queries: Floats, usual: list[Expected]
) -> dict[str, Any]:
    writes = Writes(parts, gallery)
    writes.begun.wait()
    load = Load(gallery, queries, usual)
    time.sleep(3)
    victim = next(one for one in deployment.status("drill")[1] if one["shard"] == 0)
    os.kill(victim["pid"], signal.SIGKILL)
    began = time.monotonic()
    time.sleep(8)
    writes.stop()
    result = load.stop()
    while not all(one["ready"] and not one["behind"] for one in deployment.status("drill")[1]):
        time.sleep(0.2)
    return {
        **result,
        "seconds_until_both_replicas_answer": round(time.monotonic() - began, 1),
        "acknowledged_writes": len(writes.acknowledged),
        "acknowledged_writes_lost": writes.lost(),
        "longest_wait_for_a_write_s": round(writes.longest, 3),
    }


def node_killed(
    nodes: RayNodes, gallery: ShardedGallery, queries: Floats, exact: list[list[int]]
) -> dict[str, Any]:
    victim = next(
        one["host"] for one in deployment.status("single")[1] if one["host"] != nodes.hosts[0]
    )
    nodes.kill(victim)
    began = time.monotonic()
    errors: list[str] = []
    while True:
        try:
            gallery.search(queries[0], K)
            break
        except ClusterError as error:
            errors.append(str(error))
    seconds = time.monotonic() - began
    hits = gallery.search(queries[0], K, exact=True)
    return {
        "errors": errors[:1],
        "seconds_until_full_answers": round(seconds, 1),
        "wrong": int([hit.id for hit in hits] != exact[0]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["speed", "drills"])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        run = speed if given.what == "speed" else drills
        result = run(Path(folder), given.items, given.shards, given.cache)
    print(json.dumps(result, indent=2, default=float))
    if given.out:
        known = json.loads(given.out.read_text()) if given.out.exists() else {}
        known[f"{given.what} {given.items}"] = result
        given.out.write_text(json.dumps(known, indent=2, default=float) + "\n")
