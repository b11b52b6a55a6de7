"""How well a model finds the others of a class among your own labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, Failed
from lookalike.errors import LookalikeError
from lookalike.evaluation.metrics import Spread, spread
from lookalike.evaluation.protocol import (
    METRICS,
    SplitScores,
    check_class_sizes,
    measure_split,
)
from lookalike.images import DecodedImage, SkippedImageError
from lookalike.images.decoder import Decoder, Limits
from lookalike.progress import Progress

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScore:
    """A class, its readable images, and the mean P@10 of its queries through the hash tables."""

    name: str
    images: int
    precision_10: float


@dataclass(frozen=True)
class WorstQuery:
    """A query, the seed of its split, and the first that the hash tables returned."""

    path: Path
    seed: int
    precision_10: float
    returned: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class FolderReport:
    """What was measured. Rows of `splits` are positions in `paths`.

    Attributes:
        classes: worst first.
        relevant: of the smallest and the largest class, how many images a query can find.
        skipped: the unreadable files, with the reason.
    """

    paths: tuple[Path, ...]
    classes: tuple[ClassScore, ...]
    relevant: tuple[int, int]
    splits: tuple[SplitScores, ...]
    skipped: tuple[Failed[Path], ...]

    def summary(self) -> dict[str, dict[str, Spread]]:
        """ "exact", "hashed" and "loss" (exact less hashed, paired by split) -> metric."""
        ways: dict[str, dict[str, Spread]] = {"exact": {}, "hashed": {}, "loss": {}}
        for name in METRICS:
            exact = [float(split.exact[name].mean()) for split in self.splits]
            hashed = [float(split.hashed[name].mean()) for split in self.splits]
            ways["exact"][name], ways["hashed"][name] = spread(exact), spread(hashed)
            ways["loss"][name] = spread([a - b for a, b in zip(exact, hashed, strict=True)])
        return ways

    def worst_queries(self, count: int) -> list[WorstQuery]:
        """Those of lowest P@10 over all splits, worst first; of an image only its worst search."""
        searches = [
            (float(precision), split.seed, row, first)
            for split in self.splits
            for precision, row, first in zip(
                split.hashed["P@10"], split.queries.tolist(), split.first, strict=True
            )
        ]
        searches.sort(key=lambda search: search[:3])
        worst: dict[int, WorstQuery] = {}
        for precision, seed, row, first in searches:
            if len(worst) == count:
                break
            if row not in worst:
                returned = tuple(self.paths[i] for i in first.tolist())
                worst[row] = WorstQuery(self.paths[row], seed, precision, returned)
        return list(worst.values())


def evaluate_images(
    classes: Sequence[str],
    paths: Sequence[Path],
    labels: Positions,
    encoder: Encoder,
    per_class: int,
    seeds: int,
    *,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FolderReport:
    """Encode each image once, then measure splits of the seeds 0 to `seeds` - 1.

    Args:
        labels: int64 (n,), position in `classes` of each of the `paths`.
        per_class: random queries of each class.

    LookalikeError for fewer than two classes, and for a class with not more readable images than
    queries; before anything is encoded, if it has no more files.
    """
    if len(classes) < 2:
        found = (
            f"only one class, {classes[0]!r}, was found, and with one every answer is right"
            if classes
            else "no folder of images was found"
        )
        raise LookalikeError(
            f"{found}: give a folder that holds a folder of images for each class, at least two"
        )
    check_class_sizes(classes, labels, per_class)
    rows: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    skipped: list[Failed[Path]] = []
    decoder = Decoder(limits or Limits())

    def read(some: Sequence[int]) -> list[DecodedImage | SkippedImageError]:
        return decoder.read_images([paths[row] for row in some], encoder.info.input_size)

    for done, outcome in enumerate(encoder.encode(range(len(paths)), read, decoder.close), 1):
        if isinstance(outcome, Failed):
            skipped.append(Failed(paths[outcome.item], outcome.error))
        else:
            rows.append(outcome.item)
            vectors.append(outcome.embedding)
        if progress is not None:
            progress(Progress(done, len(paths), len(skipped)))
    kept = labels[rows]
    reasons = [(failed.item, str(failed.error)) for failed in skipped]
    check_class_sizes(classes, kept, per_class, reasons)
    stacked = np.stack(vectors)
    splits = tuple(measure_split(stacked, kept, seed, per_class) for seed in range(seeds))
    counts = np.bincount(kept, minlength=len(classes))
    return FolderReport(
        tuple(paths[row] for row in rows),
        _scores(classes, kept, counts, splits),
        (int(counts.min()) - per_class, int(counts.max()) - per_class),
        splits,
        tuple(skipped),
    )


def _scores(
    classes: Sequence[str], labels: Positions, counts: Positions, splits: Sequence[SplitScores]
) -> tuple[ClassScore, ...]:
    own = np.concatenate([labels[split.queries] for split in splits])
    precision = np.concatenate([split.hashed["P@10"] for split in splits])
    scores = [
        ClassScore(name, int(counts[label]), float(precision[own == label].mean()))
        for label, name in enumerate(classes)
    ]
    return tuple(sorted(scores, key=lambda score: score.precision_10))
