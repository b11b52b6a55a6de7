"""Which images are queries and which the gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError

Positions = NDArray[np.int64]
NAMED = 5


class Split(NamedTuple):
    """Positions of the images, ascending: `queries`, and `gallery` for all others."""

    queries: Positions
    gallery: Positions


def query_split(labels: Positions, seed: int, per_class: int = 10) -> Split:
    """The paper's split: `per_class` random queries of each class, which have more images than that
    (`check_class_sizes`); all else is the gallery, which is also the training set."""
    return draw_split(labels, seed, lambda _: per_class)


def draw_split(labels: Positions, seed: int, queries_of: Callable[[int], int]) -> Split:
    """As many random queries of each class as `queries_of` says for its number of images.

    A class's draw depends on the seed, its label and its number of images alone, so that it stays
    as it is when other classes come or go.
    """
    drawn = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        generator = np.random.default_rng([seed, label])
        drawn.append(generator.choice(members, queries_of(len(members)), replace=False))
    queries = np.sort(np.concatenate(drawn)).astype(np.int64)
    return Split(queries, np.setdiff1d(np.arange(len(labels)), queries).astype(np.int64))


def check_class_sizes(
    classes: Sequence[str],
    labels: Positions,
    per_class: int,
    skipped: Sequence[tuple[Path, str]] = (),
) -> None:
    """LookalikeError if a class has no image left for the gallery.

    Args:
        labels: int64 (n,), position in `classes` of each readable image.
        skipped: files that could not be read, each with the reason.
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    small = [(n, name) for n, name in zip(counts, classes, strict=True) if n <= per_class]
    if not small:
        return
    lost = f" ({len(skipped)} skipped, such as {skipped[0][0]}: {skipped[0][1]})" if skipped else ""
    names = ", ".join(f"{name!r} ({n})" for n, name in small[:NAMED])
    more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
    fewest = min(small)[0]
    fewer = f"use --queries-per-class {fewest - 1}, " if fewest > 1 else ""
    raise LookalikeError(
        f"{per_class} queries of each class need at least {per_class + 1} readable images in each, "
        f"one to find; too small: {names}{more}{lost}: {fewer}add images, or remove the folder"
    )
