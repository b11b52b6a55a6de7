"""The map of a gallery, made in the background when it is first asked for, and kept."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lookalike.errors import NoNeighboursError
from lookalike.gallery import Gallery
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.gallery.rows import ImageRow
from lookalike.web.folders import ALL
from lookalike.web.layout import neighbours, place, project
from lookalike.web.workers import WorkerPool

MOST = 10_000
"""Images on the map; of more, so many drawn at random."""
NEIGHBOURS = 12
MOST_THEMES = 60
COMMON = 0.8
"""Share of a theme's images in one folder that makes its name."""


@dataclass(frozen=True)
class Theme:
    """A group of images: its name, its most central image, its size."""

    name: str
    id: int
    images: int


@dataclass(frozen=True, eq=False)
class Layout:
    """Of n images: ids, x and y from 0 to 1, the number of the theme of each, -1: none."""

    ids: list[int]
    x: list[float]
    y: list[float]
    themes_of: list[int]
    themes: list[Theme]


class Atlas:
    """The layout of the gallery as it is. For the event loop's thread."""

    def __init__(self, pool: WorkerPool, gallery: ImageGallery) -> None:
        self._pool = pool
        self._gallery = gallery
        self._known: tuple[GallerySnapshot, asyncio.Task[Layout]] | None = None

    def layout(self, snapshot: GallerySnapshot) -> Layout | None:
        """None while it is being made. Raises what making it raised, and then tries again."""
        if self._known is None or self._known[0] is not snapshot:
            if self._known is not None and not self._known[1].done():
                return None  # of the gallery before; the next question asks for this one
            making = self._pool.run(make_layout, snapshot, self._gallery)
            self._known = snapshot, asyncio.create_task(making)
        task = self._known[1]
        if not task.done():
            return None
        if task.exception() is not None:
            self._known = None
        return task.result()


def make_layout(snapshot: GallerySnapshot, gallery: ImageGallery) -> Layout:
    """Of the images of a snapshot, or MOST of them."""
    rows, _ = snapshot.page(None, 0, ALL)
    if len(rows) > MOST:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), MOST, replace=False))
        rows = [rows[i] for i in chosen.tolist()]
    rows = [row for row in rows if snapshot.has(row.id)]
    ids = [row.id for row in rows]
    if len(ids) < 3:
        middle = [0.5] * len(ids)
        return Layout(ids, [i / 2 for i in range(len(ids))], middle, [-1] * len(ids), [])
    vectors = project(snapshot.vectors(ids))
    near, _ = neighbours(vectors, min(NEIGHBOURS, len(ids) - 1))
    at = np.round(place(vectors, near), 4)
    themes, numbers = _themes(rows, gallery)
    return Layout(ids, at[:, 0].tolist(), at[:, 1].tolist(), numbers, themes)


def _themes(rows: list[ImageRow], gallery: ImageGallery) -> tuple[list[Theme], list[int]]:
    """The largest, and the number of that of each row, -1: none. A gallery in shards has none."""
    places = {os.fsdecode(row.path): place for place, row in enumerate(rows)}
    numbers, themes = [-1] * len(rows), list[Theme]()
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
        themes.append(Theme(name, rows[members[0]].id, len(theme)))
    return themes, numbers


def _name(paths: list[str], central: str) -> str:
    """The folder that nearly all are in, otherwise the name of the most central image."""
    folder, count = Counter(os.path.dirname(path) for path in paths).most_common(1)[0]
    if folder and count >= COMMON * len(paths):
        return os.path.basename(folder)
    return os.path.splitext(os.path.basename(central))[0]
