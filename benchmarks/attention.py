"""The attention model trained on many splits: what attention, pooling and fusion buy.

    python benchmarks/attention.py FOLDER_OF_CLASSES --name corel1k [--seeds 5] [--variants ...]

The paper's protocol: per split seed, ten random queries of each class; all other images are the
training set and the gallery. Every variant in VARIANTS is trained on every split by the library's
own loop, and ranked by exact cosine and through the hash tables. Differences between variants are
paired by split; the interval is Student's, 95 %.

The trunk's first stages are frozen, so what they give is worked out once: the image as it is and
VIEWS augmented views of it, as float16 in the cache, for all splits and variants. A training takes
those of its gallery. Finished trainings are kept in the result file, and a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.metrics import spread
from lookalike.evaluation.protocol import measure, query_split
from reproduction.collection import Collection
from reproduction.confs import OURS, Recipe
from reproduction.tables import paired_difference
from reproduction.train import Networks

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
VARIANTS: dict[str, Recipe] = {
    "cbam": OURS,
    "no attention": OURS.but(attention="none"),
    "cbam, flatten": OURS.but(pool="flatten"),
    "no attention, flatten": OURS.but(attention="none", pool="flatten"),
    "cbam, fused": OURS.but(fuse=(3,)),
    "cbam, gem": OURS.but(pool="gem"),
    "cbam, frozen trunk": OURS.but(freeze=-1),
    "no attention, frozen trunk": OURS.but(attention="none", freeze=-1),
}
PAIRS = (
    ("cbam", "no attention"),
    ("cbam, flatten", "no attention, flatten"),
    ("cbam, frozen trunk", "no attention, frozen trunk"),
    ("cbam, flatten", "cbam"),
    ("cbam, gem", "cbam"),
    ("cbam, fused", "cbam"),
)
"""Differences that the result reports, the second from the first."""


def scores(
    vectors: Floats, labels: Positions, queries: Positions, gallery: Positions
) -> dict[str, float]:
    """The paper's metrics, exact, and mAP through the hash tables."""
    exact, hashed, _ = measure(vectors[queries], labels[queries], vectors[gallery], labels[gallery])
    found = {name: float(values.mean()) for name, values in exact.items()}
    return found | {f"{name} LSH": float(hashed[name].mean()) for name in ("mAP", "P@10")}


def mean_and_spread(values: list[float]) -> str:
    """Mean and standard deviation, 16 characters; that of a single value is not a number."""
    found = spread(values)
    return f"{found.mean:>9.4f} {found.deviation:.4f}"


def report(found: dict[str, dict[str, Any]]) -> str:
    """Mean and standard deviation over the splits, then paired differences of mAP."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for key, row in found.items():
        name, _, seed = key.rpartition(" ")
        by_name.setdefault(name, {})[int(seed)] = row
    columns = ("mAP", "mAP LSH", "recall@m", "P@5", "P@10", "P@20")
    lines = [f"{'':<28}{'splits':>6}  " + "".join(f"{column:>16}" for column in columns)]
    for name, rows in by_name.items():
        cells = [mean_and_spread([row[column] for row in rows.values()]) for column in columns]
        lines.append(f"{name:<28}{len(rows):>6}  " + "".join(cells))
    for first, second in PAIRS:
        shared = sorted(by_name.get(first, {}).keys() & by_name.get(second, {}).keys())
        if len(shared) > 1:
            both = [{s: by_name[name][s]["mAP"] for s in shared} for name in (first, second)]
            difference = paired_difference(*both)
            assert difference is not None
            lines.append(
                f"mAP difference of {first!r} to {second!r}: {difference.mean:+.4f}, 95 % "
                f"from {difference.low:+.4f} to {difference.high:+.4f} "
                f"({len(shared)} splits)"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="of the set, for files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=OURS.training.epochs)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    collection = Collection.read(options.folder, options.name)
    networks = Networks(options.cache, lambda text: print(text, flush=True))
    path = options.results / f"attention-{options.name}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(options.seeds):
        split = query_split(collection.labels, seed)
        for name in options.variants:
            key = f"{name} {seed}"
            if key in found:
                continue
            began = time.perf_counter()
            recipe = VARIANTS[name].but(seed=seed, epochs=options.epochs)
            network = networks.network(recipe, collection.sample(split.gallery))
            vectors = network.embed(collection.sample(np.arange(len(collection))))
            result = scores(vectors, collection.labels, split.queries, split.gallery)
            effort = {"epochs": options.epochs, "seconds": round(time.perf_counter() - began)}
            row = {**result, **effort}
            print(key, {k: round(v, 4) for k, v in row.items()}, flush=True)
            found = json.loads(path.read_text()) if path.exists() else {}  # two may run at once
            found[key] = row
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
