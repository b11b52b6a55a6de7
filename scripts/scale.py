"""What galleries of 10^7 to 10^9 images cost, from constants that benchmarks measured.

    python scripts/scale.py

Prints the tables of docs/scale.md, into which `python scripts/tables.py` writes them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lookalike.lsh.search import default_candidates

__all__ = ["MAKERS", "failures_table", "scale_table", "serving_table"]

MEASURED = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
SIZES = (10**7, 10**8, 10**9)
CASE = "learned, inline, vectors float16"
CODES_ALONE = "learned, inline, vectors none"
COPIES = 2
HITS = 10
FILLED = 0.6
"""Share of the memory in use, see docs/scale.md."""
DIM = 1024
"""Of the default model; the benchmark's vectors are shorter."""

# Not measured here: assumptions, to be replaced by your own.
GPU_IMAGES_PER_SECOND = 2000.0
CORE_HOUR, GPU_HOUR, NODE_HOUR = 0.04, 0.6, 0.25
NODE_GIB = 32.0
HOURS_A_MONTH = 730
EMBED_CORES = 64
EMBED_GPUS = 8


def _read(name: str) -> dict[str, Any]:
    path = MEASURED / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def serving_table() -> str:
    """Every case of the serving benchmark beside the embedded engine."""
    results = _read("cluster-serve.json")
    lines = [
        "| hash functions | gallery | recall@10 | queries/s | p50, ms | p99, ms | two clients, "
        "queries/s | loaded images/s | bytes an image and copy, of them vectors | same answers |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("paper", "learned"):
        local = results[f"{name}, local"]
        lines.append(
            f"| {name} | embedded | {local['recall@10']:.3f} | {_number(local)} | "
            f"{local['p50_ms']:.2f} | {local['p99_ms']:.2f} | | | | |"
        )
        for key, case in results.items():
            if not isinstance(case, dict) or not key.startswith(f"{name}, ") or "local" in key:
                continue
            used = case["bytes_per_image_and_copy"]
            same = case.get("same_answers")
            told = "" if same is None else f"{same} of {results['queries']}"
            lines.append(
                f"| {name} | {key.partition(', ')[2]} | | {_number(case)} | {case['p50_ms']:.2f} | "
                f"{case['p99_ms']:.2f} | {case['two_clients_queries_per_second']:,.0f} | "
                f"{case['load_images_per_second']:,.0f} | {sum(used.values()):,.0f}, "
                f"{used.get('vectors', 0):,.0f} | "
                f"{told} |"
            )
    return "\n".join(lines)


def _number(case: dict[str, Any]) -> str:
    return f"{case['queries_per_second']:,.0f}"


def failures_table() -> str:
    """What the failure benchmark counted."""
    results = _read("cluster-failures.json")
    lines = [
        "| what | answers | wrong | searches failed | commands repeated | longest wait for an "
        "answer | acknowledged writes | of all lost | longest wait for a write |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        if not isinstance(found, dict):
            continue
        cells = [
            _count(found.get("answers")),
            _count(found["wrong_answers"]),
            _count(found.get("searches_failed")),
            _count(found.get("commands_retried")),
            _seconds(found.get("longest_wait_for_an_answer_s")),
            _count(found.get("acknowledged")),
            _count(found.get("acknowledged_lost")),
            _seconds(found.get("longest_wait_for_a_write_s")),
        ]
        took = f" ({found['seconds']:.0f} s)" if "seconds" in found else ""
        lines.append(f"| {name}{took} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def scale_table() -> str:
    """The cost model, size by size."""
    serving = _read("cluster-serve.json")
    embed = _read("encode.json")
    per_core = float(sorted(embed["index_per_second"])[1]) / 2  # measured on two cores
    case = serving[CASE]
    used = dict(case["bytes_per_image_and_copy"])
    used["vectors"] = used["vectors"] - 2 * serving["dim"] + 2 * DIM
    whole, index = sum(used.values()), sum(used.values()) - used["vectors"]
    fixed, slope = _line(case["mean_ms_by_candidates"])
    head = "| | " + " | ".join(f"10^{round(math.log10(size))} images" for size in SIZES) + " |"
    lines = [head, "|---" * (len(SIZES) + 1) + "|"]

    def row(title: str, value: Any) -> None:
        lines.append(f"| {title} | " + " | ".join(value(size) for size in SIZES) + " |")

    def nodes(size: int, each: float) -> int:
        return max(2 * 3, math.ceil(size * each * COPIES / FILLED / (NODE_GIB * 2**30)))

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
    row(f"memory of a copy, {whole:,.0f} bytes an image with vectors", lambda n: _gib(n * whole))
    row(f"the same without vectors, {index:,.0f} bytes", lambda n: _gib(n * index))
    row(
        f"nodes of {NODE_GIB:.0f} GiB, {COPIES} copies, {FILLED:.0%} full; money a month",
        lambda n: f"{nodes(n, whole)}; ${nodes(n, whole) * NODE_HOUR * HOURS_A_MONTH:,.0f}",
    )
    row(
        "the same without vectors",
        lambda n: f"{nodes(n, index)}; ${nodes(n, index) * NODE_HOUR * HOURS_A_MONTH:,.0f}",
    )
    row("codes fetched for a query", lambda n: f"{default_candidates(n, HITS):,}")
    row(
        f"client time of a query, {fixed:.1f} ms + {1e3 * slope:.2f} ms per 1,000 codes",
        lambda n: f"{fixed + slope * default_candidates(n, HITS):,.0f} ms",
    )
    return "\n".join(lines)


def _line(times: dict[str, float]) -> tuple[float, float]:
    """Milliseconds for no code, and for each: through the first and the last measurement."""
    points = sorted((int(number), value) for number, value in times.items())
    (low, first), (high, last) = points[0], points[-1]
    slope = (last - first) / (high - low)
    return max(0.0, first - slope * low), slope


def _gib(value: float) -> str:
    return f"{value / 2**30:,.1f} GiB"


MAKERS = {
    "cluster serving": serving_table,
    "cluster failures": failures_table,
    "scale": scale_table,
}


if __name__ == "__main__":
    for name, make in MAKERS.items():
        print(f"{name}\n\n{make()}\n")
