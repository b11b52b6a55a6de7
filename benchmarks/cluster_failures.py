"""What a gallery in a Valkey Cluster does when servers die, move and restart.

    python benchmarks/cluster_failures.py [--items 200000] [--set deep216k]

First ``python benchmarks/deep216k.py FOLDER``. While two threads search and one adds images to a
second collection, waiting for a replica each time: a master is killed with SIGKILL; a fourth master
takes over a quarter of the slots of another; the collection is loaded anew. Then all six servers
are killed and started again. Every answer is compared with the embedded engine's, and every
acknowledged image looked for.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cluster_parts import SETTINGS, Servers, image, local_index, make_parts, options_of, tell
from deep216k import load as load_set

from lookalike.cluster.collection.collection import Collection, ReplacedError
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.loading import load
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.job.parts import Parts, Rows
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import ClusterError

K = 10
KEY_BITS = 13
BATCH = 32


def opened(servers: Servers, name: str) -> Collection:
    return Collection.open(Connection.open(ClusterURI.parse(servers.uri(name))), name)


class Searcher(threading.Thread):
    """Asks without end, and counts what was wrong, what failed, and how long nothing came back."""

    def __init__(self, servers: Servers, queries: np.ndarray, expected: list[Any]) -> None:
        super().__init__(daemon=True)
        self.index = ClusterIndex(opened(servers, "base"))
        self.queries, self.expected = queries, expected
        self.index.search(queries[0], K)  # connects, and compiles what is not yet
        self.done = threading.Event()
        self.answers = self.wrong = self.errors = 0
        self.longest = 0.0

    def run(self) -> None:
        number, last = 0, time.perf_counter()
        while not self.done.is_set():
            at = number % len(self.queries)
            number += 1
            try:
                found = self.index.search(self.queries[at], K)
            except ReplacedError:
                self.index = ClusterIndex(self.index.collection.reopened())
                continue
            except ClusterError:
                self.errors += 1
                continue
            self.answers += 1
            ids, cosines = self.expected[at]
            self.wrong += not ((found.ids == ids).all() and (found.cosines == cosines).all())
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


class Writer(threading.Thread):
    """Adds images in small batches, each acknowledged by a replica, and remembers their ids."""

    def __init__(self, servers: Servers, vectors: np.ndarray, first: int) -> None:
        super().__init__(daemon=True)
        self.collection = opened(servers, "writes")
        self.vectors, self.first = vectors, first
        self.done = threading.Event()
        self.acknowledged: list[int] = []
        self.errors = 0
        self.longest = 0.0

    def run(self) -> None:
        last, start = time.perf_counter(), 0
        with WriterLock(self.collection.connection, "writes"):
            while not self.done.is_set():
                try:
                    rows = self._rows(start)
                    self.collection.put(rows)
                except ClusterError:
                    self.errors += 1
                    continue
                start += BATCH
                self.acknowledged += rows.ids.tolist()
                now = time.perf_counter()
                self.longest, last = max(self.longest, now - last), now

    def _rows(self, start: int) -> Rows:
        at = np.arange(start, start + BATCH) % len(self.vectors)
        kept = self.vectors[at].astype(np.float16)
        hasher, key_bits = self.collection.hasher, self.collection.key_bits
        keys, codes, corrections = hasher.hash(kept.astype(np.float32), key_bits)
        ids = np.arange(self.first + start, self.first + start + BATCH)
        images = [image(number, f"new/{number}.jpg") for number in ids.tolist()]
        return Rows(ids, kept, codes, corrections, keys, images, [])


def under_load(
    servers: Servers,
    queries: np.ndarray,
    expected: list[Any],
    vectors: np.ndarray,
    first: int,
    act: Callable[[], object],
) -> tuple[dict[str, Any], list[int]]:
    """What happens to searches and writes from 3 s before `act` to 5 s after it."""
    searchers = [Searcher(servers, queries, expected) for _ in range(2)]
    writer = Writer(servers, vectors, first)
    threads: list[Searcher | Writer] = [*searchers, writer]
    for thread in threads:
        thread.start()
    time.sleep(3)
    began = time.perf_counter()
    act()
    seconds = time.perf_counter() - began
    time.sleep(5)
    for thread in threads:
        thread.done.set()
    for thread in threads:
        thread.join(timeout=90)
    stats = [each.index.collection.connection.stats for each in searchers]
    return {
        "seconds": seconds,
        "answers": sum(each.answers for each in searchers),
        "wrong_answers": sum(each.wrong for each in searchers),
        "searches_failed": sum(each.errors for each in searchers),
        "commands_retried": sum(each.retries for each in stats),
        "longest_wait_for_an_answer_s": max(each.longest for each in searchers),
        "acknowledged": len(writer.acknowledged),
        "writes_failed": writer.errors,
        "longest_wait_for_a_write_s": writer.longest,
        "unreplicated": writer.collection.connection.stats.unreplicated,
    }, writer.acknowledged


def lost(servers: Servers, acknowledged: list[int]) -> int:
    """How many acknowledged images are not there."""
    there = opened(servers, "writes").contains(np.array(acknowledged))
    return int(np.count_nonzero(~there))


def wrong_answers(servers: Servers, name: str, queries: np.ndarray, expected: list[Any]) -> int:
    index = ClusterIndex(opened(servers, name))
    found = [index.search(query, K) for query in queries]
    pairs = zip(found, expected, strict=True)
    return sum(not (a.ids == b.ids).all() or not (a.cosines == b.cosines).all() for a, b in pairs)


def kill_a_master(servers: Servers) -> None:
    servers.kill(servers.masters()[0])
    time.sleep(10)


def restart_all(servers: Servers) -> None:
    for node in servers.nodes:
        servers.kill(node)
    servers.heal()


def reshard(servers: Servers) -> None:
    """A new master takes over a quarter of the slots of the first, and gets a replica."""
    source = servers.masters()[0]
    slots = source.slots()
    target = servers.add_master()
    servers.move_slots(source, target, slots[: len(slots) // 4])
    servers.add_master().ask("CLUSTER", "REPLICATE", target.id)


def rebuild(servers: Servers, parts: Parts, name: str) -> None:
    load(parts, Connection.open(ClusterURI.parse(servers.uri(name))), name)


def main() -> None:
    options = options_of(__doc__)
    data = load_set(options.cache, options.set)
    items, queries = data.items[: options.items], data.queries[:300]
    settings = SETTINGS["learned"](items.shape[1], KEY_BITS)
    local = local_index(items, settings)
    expected = [local.search(query, K) for query in queries]
    more = data.items[:5000]
    folder = Path(tempfile.mkdtemp())
    results: dict[str, Any] = {"items": len(items)}
    servers = Servers.start(folder / "servers")
    try:
        parts = make_parts(folder / "base", items, settings)
        rebuild(servers, parts, "base")
        rebuild(servers, make_parts(folder / "writes", items[:4096], settings), "writes")
        acknowledged: list[int] = []

        def step(name: str, act: Callable[[], object]) -> None:
            first = 10_000 + 10_000_000 * len(results)
            found, new = under_load(servers, queries, expected, more, first, act)
            servers.heal()
            acknowledged.extend(new)
            found["acknowledged_lost"] = lost(servers, acknowledged)
            results[name] = found
            print(name, json.dumps(found), flush=True)

        step("nothing", lambda: time.sleep(5))
        step("a master killed", lambda: kill_a_master(servers))
        step("loaded anew", lambda: rebuild(servers, parts, "base"))
        step("slots moved", lambda: reshard(servers))
        time.sleep(2)  # what is acknowledged is on disk after a second
        began = time.perf_counter()
        restart_all(servers)
        results["all killed and started again"] = {
            "seconds": time.perf_counter() - began,
            "wrong_answers": wrong_answers(servers, "base", queries, expected),
            "acknowledged_lost": lost(servers, acknowledged),
        }
        rebuild(servers, parts, "again")
        results["built again from the parts"] = {
            "wrong_answers": wrong_answers(servers, "again", queries, expected),
            "images": len(opened(servers, "again")),
        }
    finally:
        servers.stop()
        shutil.rmtree(folder)
    tell(results, options.out)


if __name__ == "__main__":
    main()
