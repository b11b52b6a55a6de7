"""The attention model trained on many splits: what attention, pooling and fusion buy.

    python benchmarks/attention.py FOLDER_OF_CLASSES --name corel1k [--seeds 5] [--variants ...]

The paper's protocol: per split seed, ten random queries of each class; all other images are the
training set and the gallery. Every variant in VARIANTS is trained on every split by the library's
own loop, and ranked by exact cosine and through the hash tables. Differences between variants are
paired by split; the interval is Student's, 95 %.

The trunk's first stages are frozen, so what they give is worked out once: the picture as it is and
VIEWS augmented views of it, as float16 in the cache, for all splits and variants. A training takes
those of its gallery. Finished trainings are kept in the result file, and a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.evaluation.metrics import cosine_relevance, score
from lookalike.evaluation.splits import query_split
from lookalike.models.augment import AugmentSettings, augment
from lookalike.models.dataset import LabelledImages, class_folders
from lookalike.models.embedder import Embedder, EmbedderSettings
from lookalike.models.frozen import Frozen, frozen_stages
from lookalike.models.inputs import CHUNK, Batch, Inputs, Normalise
from lookalike.models.pictures import Pictures, in_order, read_labelled
from lookalike.models.run import Run
from lookalike.models.train_data import WORKING_SIZE, TrainData
from lookalike.models.train_settings import TrainSettings
from lookalike.models.trunks import make_trunk
from lookalike.models.validation import lsh_relevance

VIEWS = 4
STAGES = (3, 4)
"""Whose maps are kept: what the last stage reads, and what it gives."""
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""
AUGMENTATION = AugmentSettings()
Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Variant:
    """What one row of the result is trained with. `freeze` -1 leaves the trunk as it is, -2 trains
    its last stage.
    """

    embedder: EmbedderSettings
    training: TrainSettings

    def but(self, **changes: Any) -> Variant:
        """The same with some settings changed."""
        own = set(EmbedderSettings.__dataclass_fields__)
        inner = {key: value for key, value in changes.items() if key in own}
        outer = {key: value for key, value in changes.items() if key not in own}
        return Variant(replace(self.embedder, **inner), replace(self.training, **outer))


# With a high temperature, cosines must come near to 1 and 0 before the loss is small, so the
# classes of the gallery draw together; mAP over a gallery of training images lives on that.
BASE = Variant(
    EmbedderSettings(input_size=224),
    TrainSettings(
        epochs=6,
        freeze=-2,
        temperature=0.2,
        smoothing=0.0,
        trunk_learning_rate=5e-4,
        validation=0.0,
        keep="last",
        threads=1,
    ),
)
VARIANTS: dict[str, Variant] = {
    "cbam": BASE,
    "no attention": BASE.but(attention="none"),
    "cbam, flatten": BASE.but(pool="flatten"),
    "no attention, flatten": BASE.but(attention="none", pool="flatten"),
    "cbam, fused": BASE.but(fuse=(3,)),
    "cbam, gem": BASE.but(pool="gem"),
    "cbam, frozen trunk": BASE.but(freeze=-1),
    "no attention, frozen trunk": BASE.but(attention="none", freeze=-1),
}
PAIRS = (
    ("cbam", "no attention"),
    ("cbam, flatten", "no attention, flatten"),
    ("cbam, frozen trunk", "no attention, frozen trunk"),
    ("cbam, flatten", "cbam"),
    ("cbam, gem", "cbam"),
    ("cbam, fused", "cbam"),
)
"""Differences that the result tells, the second from the first."""


class Maps:
    """Maps of every picture of a set, plain (view 0) and augmented (1 to VIEWS), on disk."""

    def __init__(self, images: LabelledImages, name: str, size: int, cache: Path) -> None:
        trunk = make_trunk("efficientnet-lite0", "imagenet").eval()
        trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shapes = {i: (trunk.channels[i], trunk.sides(size)[i]) for i in STAGES}
        self.arrays: dict[int, np.memmap[Any, np.dtype[np.float16]]] = {}
        done = cache / f"attention-{name}-{size}.done"
        for stage, (channels, side) in shapes.items():
            path = cache / f"attention-{name}-{size}-{stage}.f16"
            shape = (VIEWS + 1, len(images), channels, side, side)
            mode: Any = "r+" if path.exists() else "w+"
            self.arrays[stage] = np.memmap(path, np.float16, mode, shape=shape)
        begin = int(done.read_text()) if done.exists() else 0
        total = (VIEWS + 1) * len(images)
        if begin == total:
            return
        working = math.ceil(size * WORKING_SIZE)
        threads = torch.get_num_threads()
        _, pictures, gone = read_labelled(images, working, memory=1 << 31, threads=threads)
        _, plain, _ = read_labelled(images, size, memory=1 << 31, threads=threads)
        if gone:
            raise SystemExit(f"{gone[0].path}: {gone[0].reason}")
        starts = range(begin, total, CHUNK)
        normalise = Normalise(trunk.mean, trunk.std)

        def pixels(start: int) -> torch.Tensor:
            batch = []
            for number in range(start, min(start + CHUNK, total)):
                view, i = divmod(number, len(images))
                shown = augment(pictures[i], size, AUGMENTATION, 0, view, i) if view else plain[i]
                batch.append(shown)
            return normalise.stack(batch)

        began = time.perf_counter()
        for start, batch in zip(starts, in_order(pixels, starts, threads, ahead=4), strict=True):
            with torch.no_grad():
                found = trunk.stages(batch.contiguous(memory_format=torch.channels_last))
            for stage, array in self.arrays.items():
                rows = array.reshape(total, *array.shape[2:])
                rows[start : start + len(batch)] = found[stage].contiguous().numpy()
            if start // CHUNK % 50 == 0:
                done.write_text(str(start + len(batch)))
                rate = (start + len(batch) - begin) / (time.perf_counter() - began)
                print(f"maps {start + len(batch):,} of {total:,}, {rate:.0f} images/s", flush=True)
        for array in self.arrays.values():
            array.flush()
        done.write_text(str(total))

    def take(self, stages: tuple[int, ...], view: int, rows: Positions) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(self.arrays[stage][view, rows]) for stage in stages)


class SharedInputs(Inputs):
    """In the place of a run's own inputs: its training images' rows of shared maps."""

    def __init__(self, run: Run, maps: Maps) -> None:
        super().__init__(run.data, run.embedder, run.inputs.frozen, run.settings, run.tell)
        self.maps = maps

    def training(self, epoch: int, batches: list[Positions]) -> Iterator[tuple[Positions, Batch]]:
        assert self.frozen is not None
        view = epoch % (VIEWS + 1)
        for chosen in batches:
            rows = self.data.training[chosen]
            yield chosen, self.maps.take(self.frozen.given, view, rows)


def train(images: LabelledImages, maps: Maps, variant: Variant, rows: Positions) -> Embedder:
    """The embedder trained on the given rows of the images."""
    size = variant.embedder.input_size
    nothing = np.empty((0, size, size, 3), np.uint8)
    pictures = Pictures(images.paths, nothing, size)
    empty = np.empty(0, np.int64)
    data = TrainData(images, pictures, rows, None, empty, 0, ())
    settings = variant.training
    torch.manual_seed(settings.seed)
    run = Run(data, variant.embedder, settings, lambda _: None)
    run.inputs = SharedInputs(run, maps)
    run.go_on(lambda: None)
    return run.result()


def embed(embedder: Embedder, maps: Maps, freeze: int | None, rows: Positions) -> Floats:
    """Unit rows of pictures as they are."""
    frozen = Frozen(embedder, frozen_stages(embedder.settings.trunk, freeze))
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            some = maps.take(frozen.given, 0, rows[start : start + 64])
            parts.append(frozen.rest(tuple(part.float() for part in some)).numpy())
    return np.concatenate(parts)


def scores(
    vectors: Floats, labels: Positions, queries: Positions, gallery: Positions
) -> dict[str, float]:
    """The paper's metrics, exact, and mAP through the hash tables."""
    given = vectors[queries], labels[queries], vectors[gallery], labels[gallery]
    exact = score(cosine_relevance(*given))
    hashed = score(lsh_relevance(*given))
    return {
        "mAP": exact.mean_average_precision,
        "recall@m": exact.recall,
        **{f"P@{n}": value for n, value in exact.precision.items()},
        "mAP LSH": hashed.mean_average_precision,
        "P@10 LSH": hashed.precision[10],
    }


def mean_and_spread(values: list[float]) -> str:
    """Mean and standard deviation, 16 characters; that of a single value is not a number."""
    spread = stdev(values) if len(values) > 1 else math.nan
    return f"{mean(values):>9.4f} {spread:.4f}"


def half_width(deltas: list[float]) -> float:
    """Of the 95 % interval of the mean of two to ten paired differences; else not a number."""
    if not 2 <= len(deltas) <= len(T_95) + 1:
        return math.nan
    return T_95[len(deltas) - 2] * stdev(deltas) / math.sqrt(len(deltas))


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
            deltas = [by_name[first][s]["mAP"] - by_name[second][s]["mAP"] for s in shared]
            half = half_width(deltas)
            lines.append(
                f"mAP of {first!r} less that of {second!r}: {mean(deltas):+.4f}, 95 % from "
                f"{mean(deltas) - half:+.4f} to {mean(deltas) + half:+.4f} ({len(shared)} splits)"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="of the set, for files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=BASE.training.epochs)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    images, _ = class_folders(options.folder)
    size = BASE.embedder.input_size
    maps = Maps(images, options.name, size, options.cache)
    path = options.results / f"attention-{options.name}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(options.seeds):
        split = query_split(images.labels, seed)
        for name in options.variants:
            key = f"{name} {seed}"
            if key in found:
                continue
            began = time.perf_counter()
            variant = VARIANTS[name].but(seed=seed, epochs=options.epochs)
            embedder = train(images, maps, variant, split.gallery)
            vectors = embed(embedder, maps, variant.training.freeze, np.arange(len(images)))
            result = scores(vectors, images.labels, split.queries, split.gallery)
            told = {"epochs": options.epochs, "seconds": round(time.perf_counter() - began)}
            row = {**result, **told}
            print(key, {k: round(v, 4) for k, v in row.items()}, flush=True)
            found = json.loads(path.read_text()) if path.exists() else {}  # two may run at once
            found[key] = row
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
