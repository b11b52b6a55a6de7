"""The map of a gallery, made in the background when it is first asked for, and kept on disk."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError, NoNeighboursError
from lookalike.gallery import Gallery
from lookalike.gallery.listing import ALL
from lookalike.gallery.places import MAP
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.gallery.rows import ImageRow
from lookalike.lsh.arrayfile import open_arrays, write_arrays
from lookalike.web.answers import NO_MAP, MapAnswer, ThemeItem
from lookalike.web.workers import WorkerPool

MOST = 10_000
"""Images on the map; of more, so many drawn at random."""
NEIGHBOURS = 12
KIND = "map"
MOST_THEMES = 60
COMMON = 0.8
"""Share of a theme's images in one folder that makes its name."""


class Atlas:
    """The map of the gallery as it is. For the event loop's thread."""

    def __init__(self, pool: WorkerPool, gallery: ImageGallery) -> None:
        self._pool = pool
        self._gallery = gallery
        self._known: tuple[GallerySnapshot, asyncio.Task[MapAnswer]] | None = None

    def map(self, snapshot: GallerySnapshot) -> MapAnswer:
        """Not ready while it is being made. Raises what making it raised, and then tries again."""
        if self._known is None or self._known[0] is not snapshot:
            if self._known is not None and not self._known[1].done():
                return NO_MAP  # of the gallery before; the next question asks for this one
            making = self._pool.run(make_map, snapshot, self._gallery)
            self._known = snapshot, asyncio.create_task(making)
        task = self._known[1]
        if not task.done():
            return NO_MAP
        if task.exception() is not None:
            self._known = None
        return task.result()


def make_map(snapshot: GallerySnapshot, gallery: ImageGallery) -> MapAnswer:
    """Of the images of a snapshot, or MOST of them."""
    rows, _ = snapshot.page(None, 0, ALL)
    if len(rows) > MOST:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), MOST, replace=False))
        rows = [rows[i] for i in chosen.tolist()]
    rows = [row for row in rows if snapshot.has(row.id)]
    ids = [row.id for row in rows]
    if len(ids) < 3:
        at = np.array([(place / 2, 0.5) for place in range(len(ids))]).reshape(-1, 2)
        themes, numbers = list[ThemeItem](), [-1] * len(ids)
    else:
        at = _layout(snapshot, np.array(ids, np.int64), gallery.directory)
        themes, numbers = _themes(rows, gallery)
    x, y = np.round(at.astype(np.float64), 4).T.tolist()
    return MapAnswer(ready=True, ids=ids, x=x, y=y, themes_of=numbers, themes=themes)


def _layout(
    snapshot: GallerySnapshot, ids: NDArray[np.int64], directory: Path
) -> NDArray[np.float32]:
    """Where the images ``ids`` (n,) lie, (n, 2): as kept in ``directory``, or else made and kept
    there."""
    index = snapshot.local_index
    meta = {"owner": None if index is None else index.owner}
    with suppress(IndexFormatError, OSError):
        file = open_arrays(directory / MAP, KIND)
        found = {name: (array.shape, array.dtype.str) for name, array in file.arrays.items()}
        wanted = {"ids": (ids.shape, "<i8"), "at": ((len(ids), 2), "<f4")}
        if file.meta == meta and found == wanted and not file.damaged():
            at: NDArray[np.float32] = np.array(file.arrays["at"])
            if np.array_equal(file.arrays["ids"], ids) and ((at >= 0) & (at <= 1)).all():
                return at
    vectors = project(snapshot.vectors(ids.tolist()))
    at = place(vectors, min(NEIGHBOURS, len(ids) - 1))
    with suppress(OSError):  # a full disk, or one that is only read, or gone
        write_arrays(directory, KIND, meta, {"ids": ids, "at": at}, fixed_name=MAP)
    return at


def _themes(rows: list[ImageRow], gallery: ImageGallery) -> tuple[list[ThemeItem], list[int]]:
    """The largest, and the number of that of each row, -1: none. A gallery in shards has none."""
    places = {os.fsdecode(row.path): place for place, row in enumerate(rows)}
    numbers, themes = [-1] * len(rows), list[ThemeItem]()
    try:
        found = gallery.themes() if isinstance(gallery, Gallery) else []
    except NoNeighboursError:
        found = []
    for theme in found:
        members = [places[path] for path in theme.paths if path in places]
        if len(themes) == MOST_THEMES or not members:
            continue
        for member in members:
            numbers[member] = len(themes)
        name = _name(theme.paths, theme.centre)
        themes.append(ThemeItem(name=name, id=rows[members[0]].id, images=len(theme)))
    return themes, numbers


def _name(paths: list[str], central: str) -> str:
    """The folder that nearly all are in, otherwise the name of the most central image."""
    folder, count = Counter(os.path.dirname(path) for path in paths).most_common(1)[0]
    if folder and count >= COMMON * len(paths):
        return os.path.basename(folder)
    return os.path.splitext(os.path.basename(central))[0]


# ---- where images lie: near each other if their embeddings are -----------------------------------


DIMENSIONS = 50
"""To which embeddings are projected before they are compared: noise and time are left out."""
BLOCK = 1024
NEGATIVES = 8
ROUNDS = 250
SPREAD = 8.0
"""Extent of the first layout, in the units of the forces, which act over about 1."""
LARGEST_STEP = 2.0


def _principal(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Coordinates along the principal axes, (n, dim) -> (n, d), d at most ``dimensions``."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    best = axes[:, ::-1][:, :dimensions]
    return np.asarray(centred @ best, np.float32)


def project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors of at most DIMENSIONS, (n, dim) -> (n, d), that are near where those are."""
    made = _principal(vectors, DIMENSIONS)
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return np.asarray(made / np.maximum(lengths, 1e-9), np.float32)


def _nearest(vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places of the ``k`` nearest others of each unit vector, by exact comparison: (n, k), in any
    order; n > k."""
    found = np.empty((len(vectors), k), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        found[start + rows] = np.argpartition(-block, k - 1, axis=1)[:, :k]
    return found


def place(vectors: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """A layout in the plane, float32 (n, 2), from 0 to 1 on the longer side.

    Begins with the two principal axes. Then every image is drawn to its ``k`` nearest and pushed
    away from some drawn at random, by the forces of UMAP (McInnes et al. 2018) with a = b = 1,
    ROUNDS times with ever smaller steps. The same for the same vectors.

    Args:
        vectors: unit vectors (n, dim), n > k.
    """
    count, near = len(vectors), _nearest(vectors, k)
    at = _principal(vectors, 2).astype(np.float64)
    at *= SPREAD / max(1e-9, np.abs(at).max())
    rng = np.random.default_rng(0)
    at += rng.normal(0, 1e-3, at.shape)  # equal images would never part
    ends = np.concatenate([near.ravel(), np.repeat(np.arange(count), k)])
    starts = np.concatenate([np.repeat(np.arange(count), k), near.ravel()])
    degrees = np.bincount(starts, minlength=count)[:, np.newaxis]
    for number in range(ROUNDS):
        apart = at[starts] - at[ends]
        pull = -2 * apart / (1 + (apart**2).sum(axis=1, keepdims=True))
        others = rng.integers(0, count, (count, NEGATIVES))
        away = at[:, np.newaxis] - at[others]
        square = (away**2).sum(axis=2, keepdims=True)
        push = (2 * away / ((0.01 + square) * (1 + square))).mean(axis=1)
        drawn = np.stack([np.bincount(starts, pull[:, i], count) for i in (0, 1)], axis=1)
        step = np.clip(drawn / degrees + 4 * push, -LARGEST_STEP, LARGEST_STEP)
        at += (1 - number / ROUNDS) * step
    low = at.min(axis=0)
    size = float((at.max(axis=0) - low).max()) or 1.0
    return np.asarray((at - low) / size, np.float32)
