"""Which images are queries and which the gallery; which classes are seen and which are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.errors import LookalikeError

Positions = NDArray[np.int64]
NAMED = 5


class Split(NamedTuple):
    """Positions of the images, ascending: `queries`, and `gallery` for all others."""

    queries: Positions
    gallery: Positions


def query_split(labels: ArrayLike, seed: int, per_class: int = 10) -> Split:
    """The paper's split: `per_class` random queries of each class, all else is the gallery.

    The gallery is also the training set. A class's draw depends on the seed, its label and its
    number of images alone, so that it stays as it is when other classes come or go.

    ValueError if a class has no image left for the gallery.
    """
    values = _labels(labels)
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; it must be at least 1")
    queries = []
    for label in np.unique(values):
        members = np.flatnonzero(values == label)
        if len(members) <= per_class:
            raise ValueError(
                f"class {label} has {len(members)} images; {per_class} queries leave none to find"
            )
        generator = np.random.default_rng([seed, int(label)])
        queries.append(generator.choice(members, per_class, replace=False))
    chosen = np.sort(np.concatenate(queries)).astype(np.int64)
    rest = np.setdiff1d(np.arange(len(values)), chosen).astype(np.int64)
    return Split(chosen, rest)


def class_split(labels: ArrayLike, seed: int, unseen: int = 10) -> tuple[Positions, Positions]:
    """Labels, ascending, of the classes to train on and of `unseen` random ones to test on.

    ValueError unless at least one class stays on each side.
    """
    classes = np.unique(_labels(labels))
    if not 1 <= unseen < len(classes):
        raise ValueError(
            f"unseen is {unseen}; with {len(classes)} classes it must be from 1 to "
            f"{len(classes) - 1}"
        )
    held = np.sort(np.random.default_rng(seed).choice(classes, unseen, replace=False))
    return np.setdiff1d(classes, held).astype(np.int64), held.astype(np.int64)


def check_class_sizes(
    classes: Sequence[str],
    labels: Positions,
    per_class: int,
    skipped: Sequence[tuple[Path, str]] = (),
) -> None:
    """LookalikeError if a class has no image left for the gallery, as in `query_split`.

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


def _labels(labels: ArrayLike) -> Positions:
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or values.min() < 0:
        raise ValueError("labels must be one axis of at least one integer from 0")
    return values.astype(np.int64)
