"""Recall and speed of this project's index beside others, in one run and one thread.

    python benchmarks/ann.py [--set deep216k|corel5k] [--build] [--rounds 5]

First ``python benchmarks/deep216k.py FOLDER``, and ``pip install`` of faiss-cpu, hnswlib, usearch,
voyager, datasketch, rabitqlib, scalable-vs, scann and matplotlib. Every method is tuned on one half
of the queries: the settings that nothing else beats in both recall and time are kept, and the
fastest that reaches the target is chosen. All kept settings are then measured on the other half,
method after method, round after round, so that other load on the machine slows all alike; the
median counts. Times are CPU time of the process, which is wall time on a quiet machine; wall time
is recorded beside it.

Graphs take minutes to build and are kept in the cache; ``--build`` rebuilds and times them, or
only those that it names.
"""

from __future__ import annotations

import single_thread  # noqa: F401

# isort: split
import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from deep216k import SETS, Floats, Ids, load, recall
from ours import OURS, Tuned
from peers import PEERS, Peer, Setting

K = 10
TARGETS = {"deep216k": 0.95, "corel5k": 0.99}
THREADS_TO_BUILD = 2
SINGLE_QUERIES = 200
TIMED_TWICE_BELOW = 0.1  # seconds
PACKAGES = (
    *("numpy", "numba", "faiss-cpu", "hnswlib", "usearch", "voyager", "datasketch"),
    *("rabitqlib", "scalable-vs", "scann"),
)
REFERENCES = (
    *("rabitqlib SymphonyQG", "SVS Vamana", "hnswlib"),
    *("FAISS IndexLSH + re-rank", "FAISS flat"),
)
Seconds = tuple[float, float]


@dataclass
class Point:
    """One setting of one method: recall on both halves, microseconds per query on the second."""

    method: str
    setting: dict[str, int]
    fit_recall: float
    fit_us: float
    recall: float = 0.0
    us: float = 0.0
    us_wall: float = 0.0
    one_per_call_us: float | None = None
    chosen: bool = False


def clock(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    """What ``work`` returns, and its CPU and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def medians(times: list[Seconds]) -> Seconds:
    cpu, wall = zip(*times, strict=True)
    return median(cpu), median(wall)


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Of (recall, time): those that no other beats in both, by rising recall."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] < points[kept[-1]][1]:
            kept.append(i)
    return kept[::-1]


def time_at(points: list[Point], target: float) -> float | None:
    """Microseconds at exactly the target recall, between the two settings around it."""
    front = pareto([(point.recall, point.us) for point in points])
    curve = [(points[i].recall, points[i].us) for i in front]
    if not curve or curve[-1][0] < target:
        return None
    recalls, times = zip(*curve, strict=True)
    return float(np.exp(np.interp(target, recalls, np.log(times))))


class Benchmark:
    """One set of vectors and every method built on it."""

    def __init__(self, name: str, cache: Path, methods: list[Peer], target: float) -> None:
        self.name, self.cache, self.methods, self.target = name, cache, methods, target
        self.items, queries, exact = load(cache, name)
        self.fit, self.check = queries[::2].copy(), queries[1::2].copy()  # voyager ignores strides
        self.fit_exact, self.check_exact = exact[::2, :K], exact[1::2, :K]
        self.builds: dict[str, dict[str, Any]] = {}
        self.points: dict[str, list[tuple[Setting, Point]]] = {}

    def prepare(self, build: list[str] | None) -> None:
        """Take from the cache what is there and not to be built ([]: all of it); tune ours."""
        for method in self.methods:
            path = self.cache / f"ann-{self.name}-{method.name.replace(' ', '-').lower()}.index"
            noted = path.with_suffix(".json")
            rebuild = build is not None and (not build or method.name in build)
            if method.cached and path.exists() and not rebuild:
                method.load(path, self.items)
                note = json.loads(noted.read_text()) if noted.exists() else {}
                self.builds[method.name] = {**note, "in_this_run": False}
            else:
                self.builds[method.name] = self._build(method)
                if method.cached:
                    method.save(path)
                    noted.write_text(json.dumps(self.builds[method.name]))
            if isinstance(method, Tuned):
                _, times = clock(partial(method.tune, self.target, K, self.fit))
                self.builds[method.name]["tuning_cpu_seconds"] = times[0]
            self.builds[method.name]["bytes_per_item"] = method.nbytes() / len(self.items)
            print(method.name, self.builds[method.name], flush=True)

    def _build(self, method: Peer) -> dict[str, Any]:
        note: dict[str, Any] = {"in_this_run": True}
        for threads in (1, THREADS_TO_BUILD) if method.builds > 1 else (THREADS_TO_BUILD,):
            build = partial(method.build, self.items, threads)
            times = [clock(build)[1] for _ in range(method.builds)]
            cpu, wall = medians(times)
            note[f"threads_{threads}"] = {"cpu_seconds": cpu, "wall_seconds": wall}
        return note

    def survey(self) -> None:
        """Measure every setting on the first half and keep the best trade-offs."""
        for method in self.methods:
            limit = method.limit
            queries, exact = self.fit[:limit], self.fit_exact[:limit]
            seen = []
            for setting in method.settings(len(self.items)):
                found, (cpu, _) = clock(partial(method.search, queries, K, setting))
                if cpu < TIMED_TWICE_BELOW:
                    cpu = min(cpu, clock(partial(method.search, queries, K, setting))[1][0])
                seen.append((setting, recall(found, exact), cpu / len(queries)))
            front = [seen[i] for i in pareto([(found, cpu) for _, found, cpu in seen])]
            self.points[method.name] = [
                (s, Point(method.name, dict(zip(method.knobs, s, strict=False)), found, cpu * 1e6))
                for s, found, cpu in front
            ]
            reached = [p for _, p in self.points[method.name] if p.fit_recall >= self.target]
            if reached:
                min(reached, key=lambda point: point.fit_us).chosen = True

    def measure(self, rounds: int) -> None:
        """Batches of the second half, interleaved; then single queries at the chosen settings."""
        batches: dict[int, list[Seconds]] = {}
        for number in range(rounds):
            for method in self.methods:
                if method.limit < len(self.check) and number >= 2:
                    continue
                queries, exact = self.check[: method.limit], self.check_exact[: method.limit]
                for setting, point in self.points[method.name]:
                    found, times = clock(partial(method.search, queries, K, setting))
                    point.recall = recall(found, exact)
                    batches.setdefault(id(point), []).append(_each(times, len(queries)))
        for _, point in self._all():
            point.us, point.us_wall = medians(batches[id(point)])
        singles: dict[int, list[Seconds]] = {}
        for _ in range(min(3, rounds)):
            for method in self.methods:
                few = self.check[: min(SINGLE_QUERIES, method.limit)]
                for setting, point in self.points[method.name]:
                    if point.chosen or len(self.points[method.name]) == 1:
                        _, times = clock(partial(_one_by_one, method, few, setting))
                        singles.setdefault(id(point), []).append(_each(times, len(few)))
                        point.one_per_call_us = medians(singles[id(point)])[0]

    def _all(self) -> list[tuple[Setting, Point]]:
        return [pair for pairs in self.points.values() for pair in pairs]

    def ratios(self) -> dict[str, Any]:
        """Ours beside the references at the target: as chosen, interpolated, one query per call."""
        chosen = {point.method: point for _, point in self._all() if point.chosen}
        at = {
            name: time_at([point for _, point in pairs], self.target)
            for name, pairs in self.points.items()
        }
        out: dict[str, Any] = {}
        for own in ("ours, linked", "ours, tuned", "ours, curve"):
            for reference in REFERENCES:
                a, b = chosen.get(own), chosen.get(reference)
                exact_a, exact_b = at.get(own), at.get(reference)
                entry: dict[str, float] = {}
                if a and b:
                    entry["batch"] = b.us / a.us
                    if a.one_per_call_us and b.one_per_call_us:
                        entry["one_per_call"] = b.one_per_call_us / a.one_per_call_us
                if exact_a and exact_b:
                    entry["batch_at_target"] = exact_b / exact_a
                out[f"{own} / {reference}"] = entry
        for kind in ("cpu_seconds", "wall_seconds"):
            ours, other = (
                self.builds.get(name, {}).get("threads_2", {}).get(kind)
                for name in ("ours, default", "hnswlib")
            )
            if ours and other:
                out[f"build, hnswlib / ours, {kind}"] = other / ours
        return out

    def result(self) -> dict[str, Any]:
        return {
            "set": self.name,
            "items": len(self.items),
            "dim": self.items.shape[1],
            "queries_to_tune": len(self.fit),
            "queries_to_measure": len(self.check),
            "k": K,
            "target_recall": self.target,
            "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
            "load": os.getloadavg(),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "builds": self.builds,
            "ratios": self.ratios(),
            "points": [asdict(point) for _, point in self._all()],
        }


def _each(times: Seconds, queries: int) -> Seconds:
    return times[0] / queries * 1e6, times[1] / queries * 1e6


def _one_by_one(method: Peer, queries: Floats, setting: Setting) -> list[Ids]:
    return [method.search(query[np.newaxis], K, setting) for query in queries]


def table(result: dict[str, Any]) -> str:
    """The result for people: each method at its chosen setting, or its best recall."""
    lines = [
        f"{result['set']}: {result['items']:,} x {result['dim']}, recall@{result['k']}, target "
        f"{result['target_recall']}",
        f"{'method':<34}{'recall':>8}{'queries/s':>11}{'one/call':>10}{'build s':>9}{'B/item':>8}"
        "  setting",
    ]
    for name, built in result["builds"].items():
        own = [point for point in result["points"] if point["method"] == name]
        best = next((p for p in own if p["chosen"]), max(own, key=lambda p: p["recall"]))
        single = best["one_per_call_us"]
        build = built.get("threads_2", {}).get("wall_seconds")
        lines.append(
            f"{name:<34}{best['recall']:>8.4f}{1e6 / best['us']:>11,.0f}"
            f"{f'{1e6 / single:,.0f}' if single else '-':>10}"
            f"{f'{build:.2f}' if build else '-':>9}{built['bytes_per_item']:>8.0f}  "
            f"{best['setting']}{'' if best['chosen'] else '  (misses the target)'}"
        )
    lines += [
        f"{pair}: {', '.join(f'{k} {v:.2f}' for k, v in ratio.items()) or 'not reached'}"
        if isinstance(ratio, dict)
        else f"{pair}: {ratio:.1f}"
        for pair, ratio in result["ratios"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--set", choices=SETS, default="deep216k")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--build", nargs="*", default=None, metavar="METHOD", help="rebuild: these, or all"
    )
    parser.add_argument("--without", nargs="*", default=[], help="leave out methods by name")
    options = parser.parse_args()
    peers: list[Peer] = [*OURS, *(peer() for peer in PEERS)]
    methods = [method for method in peers if method.name not in options.without]
    benchmark = Benchmark(options.set, options.cache, methods, TARGETS[options.set])
    benchmark.prepare(options.build)
    benchmark.survey()
    benchmark.measure(options.rounds)
    result = benchmark.result()
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"ann-{options.set}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
