"""What galleries of 10^7 to 10^9 images cost in shards, from constants that benchmarks measured.

    python scripts/scale.py

Prints the tables of docs/scale.md, into which `python scripts/tables.py` writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lookalike.cluster.shard import effort

__all__ = ["MAKERS", "failures_table", "scale_table", "serving_table"]

MEASURED = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
SIZES = (10**7, 10**8, 10**9)
COPIES = 2
HITS = 10
FILLED = 0.6
"""Share of the memory in use: the rest is for the system and for what changes."""
DIM = 1024
"""Of the default model; the benchmark's vectors are shorter."""
CODES = 62
"""Bytes an image that searches read all the time, and that are to stay in memory although they are
mapped: code, id, correction, the order of ids, and what buckets need."""
IMAGES_PER_SHARD = 50_000_000
SHARDS_PER_NODE = 2

# Not measured here: assumptions, to be replaced by your own.
GPU_IMAGES_PER_SECOND = 2000.0
CORE_HOUR, GPU_HOUR, NODE_HOUR = 0.04, 0.6, 0.25
NODE_GIB = 32.0
NETWORK_MS = 0.5
READ_MS = 0.08
READS_AT_ONCE = 8
HOURS_A_MONTH = 730
EMBED_CORES = 64
EMBED_GPUS = 8


def _read(name: str) -> dict[str, Any]:
    path = MEASURED / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _runs(what: str) -> list[dict[str, Any]]:
    """By size."""
    found = [run for name, run in _read("cluster.json").items() if name.startswith(what)]
    return sorted(found, key=lambda run: int(run["items"]))


def serving_table() -> str:
    """Every size of the benchmark, embedded and in shards."""
    lines = [
        "| images | gallery | queries/s | p50, ms | p99, ms | in batches of 500, queries/s | "
        "recall@10 | resident bytes an image |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in _runs("speed"):
        for name in ("embedded", "sharded"):
            case = run[name]
            shards = "" if name == "embedded" else f"{run['shards']} shards"
            memory = "" if name == "embedded" else f"{max(0, run['resident_bytes_an_image']):,.0f}"
            lines.append(
                f"| {run['items']:,} | {shards or name} | {case['queries_per_second']:,.0f} | "
                f"{case['p50_ms']:.2f} | {case['p99_ms']:.2f} | "
                f"{case['batch_queries_per_second']:,.0f} | {case['recall@10']:.3f} | {memory} |"
            )
    return "\n".join(lines)


def failures_table() -> str:
    """What the drills counted."""
    lines = [
        "| what | answers | wrong | searches failed | longest wait for an answer | acknowledged "
        "writes | of them lost | all answers again after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in _runs("drills"):
        for name, found in run.items():
            if not isinstance(found, dict):
                continue
            again = found.get(
                "seconds_until_full_answers", found.get("seconds_until_both_replicas_answer")
            )
            cells = [
                _count(found.get("answers")),
                _count(found["wrong"]),
                _count(found.get("searches_failed")),
                _seconds(found.get("longest_wait_s")),
                _count(found.get("acknowledged_writes")),
                _count(found.get("acknowledged_writes_lost")),
                _seconds(found.get("seconds", again)),
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def scale_table() -> str:
    """The cost model, size by size."""
    runs = _runs("speed")
    embed = _read("encode.json")
    per_core = float(sorted(embed["index_per_second"])[1]) / 2  # measured on two cores
    resident = max(0.0, runs[-1]["resident_bytes_an_image"])
    base = float(runs[-1]["resident_bytes_of_a_process"])
    first = runs[0]["sharded"]
    client = first["cpu_ms"] / runs[0]["shards"]  # for each shard that it asks
    calls = first["p50_ms"] - runs[0]["shard_search_ms"] - first["cpu_ms"]
    head = "| | " + " | ".join(f"10^{round(math.log10(size))} images" for size in SIZES) + " |"
    lines = [head, "|---" * (len(SIZES) + 1) + "|"]

    def row(title: str, value: Any) -> None:
        lines.append(f"| {title} | " + " | ".join(value(size) for size in SIZES) + " |")

    def shards(size: int) -> int:
        return max(2, math.ceil(size / IMAGES_PER_SHARD))

    def nodes(size: int) -> int:
        memory = size * (resident + CODES) * COPIES + shards(size) * COPIES * base
        by_memory: int = math.ceil(memory / FILLED / (NODE_GIB * 2**30))
        return max(2, by_memory, math.ceil(shards(size) * COPIES / SHARDS_PER_NODE))

    def looks_at(size: int, shards: int) -> tuple[int, int]:
        return effort(size // shards, shards, HITS, DIM)

    points = [(looks_at(run["items"], run["shards"])[0], run["shard_search_ms"]) for run in runs]
    shard_of = _line(points)

    def shard_ms(size: int) -> float:
        return shard_of(looks_at(size, shards(size))[0])

    def reads_ms(size: int) -> float:
        return looks_at(size, shards(size))[1] * READ_MS / READS_AT_ONCE

    def asked_ms(size: int) -> float:
        return float(max(0.0, calls) + NETWORK_MS + client * shards(size) + shard_ms(size))

    row(
        f"embedding, core hours ({per_core:.0f} images/s a core)",
        lambda n: f"{n / per_core / 3600:,.0f}",
    )
    row(
        f"hours on {EMBED_CORES} cores; money",
        lambda n: (
            f"{n / per_core / 3600 / EMBED_CORES:,.1f}; ${n / per_core / 3600 * CORE_HOUR:,.0f}"
        ),
    )
    row(
        f"hours on {EMBED_GPUS} GPUs; money",
        lambda n: (
            f"{n / GPU_IMAGES_PER_SECOND / 3600 / EMBED_GPUS:,.1f}; "
            f"${n / GPU_IMAGES_PER_SECOND / 3600 * GPU_HOUR:,.0f}"
        ),
    )
    row("shards", lambda n: f"{shards(n)}")
    row(
        f"memory of a copy, {resident:.0f} bytes an image resident and {CODES} mapped and hot",
        lambda n: f"{n * (resident + CODES) / 2**30:,.1f} GiB",
    )
    row(
        f"disk of a copy, {2 * DIM} bytes a vector and {CODES} beside it",
        lambda n: f"{n * (2 * DIM + CODES) / 1e9:,.0f} GB",
    )
    row(
        f"nodes of {NODE_GIB:.0f} GiB, {COPIES} copies; money a month",
        lambda n: f"{nodes(n)}; ${nodes(n) * NODE_HOUR * HOURS_A_MONTH:,.0f}",
    )
    row("a query, its vectors in memory", lambda n: f"{asked_ms(n):.1f} ms")
    row("a query, its vectors on disk", lambda n: f"{asked_ms(n) + reads_ms(n):.1f} ms")
    return "\n".join(lines)


def _line(points: list[tuple[int, float]]) -> Callable[[float], float]:
    """Through the first and the last measurement; proportional through a single one."""
    (low, first), (high, last) = min(points), max(points)
    slope = (last - first) / (high - low) if high > low else first / low
    slope = max(0.0, slope)
    return lambda x: first + slope * (x - low)


MAKERS = {
    "cluster serving": serving_table,
    "cluster failures": failures_table,
    "scale": scale_table,
}


if __name__ == "__main__":
    for name, make in MAKERS.items():
        print(f"{name}\n\n{make()}\n")
