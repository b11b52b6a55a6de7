"""What the neighbour graph shows of a gallery: themes, images that are alone, neighbours."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from lookalike.errors import GalleryError, IndexFormatError, NoNeighboursError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.places import command, repair_command
from lookalike.gallery.search import Found
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex
from lookalike.lsh.graph import NeighbourGraph


@dataclass(frozen=True)
class Theme:
    """Images that gather around one: paths in the gallery.

    Attributes:
        centre: the most central image, which names the theme.
        paths: of all its images, the nearest to the centre first, which is ``paths[0]``.
        cosines: of each to the centre.
    """

    centre: str
    paths: list[str]
    cosines: list[float]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Outlier:
    """An image and the mean cosine to its nearest."""

    path: str
    cosine: float


def graph_of(files: GalleryFiles, index: LSHIndex) -> NeighbourGraph:
    """NoNeighboursError if there is none."""
    graph = files.graph(index)
    if graph is None and len(index) < 2:
        graph = NeighbourGraph.build(index)
    if graph is None:
        raise NoNeighboursError(
            "the gallery has no neighbour graph (older, deleted or damaged); make one with: "
            + command("update", files.directory)
        )
    return graph


def find_themes(
    files: GalleryFiles, store: Store, index: LSHIndex, depth: int, smallest: int
) -> list[Theme]:
    """As `Gallery.themes`."""
    graph = graph_of(files, index)
    names = _paths(store)
    try:
        peaks = graph.peaks(depth)
    except IndexFormatError as error:
        raise GalleryError(f"{error}; run: {repair_command(files.directory)}") from error
    there = index.contains(graph.ids) & np.array([i in names for i in graph.ids.tolist()], np.bool_)
    themes = []
    order = np.argsort(peaks, kind="stable")
    starts = np.flatnonzero(np.diff(peaks[order], prepend=-1))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        centre, rows = peaks[rows[0]], rows[there[rows]]
        if len(rows) < smallest or not there[centre]:
            continue
        vectors = index.vectors(graph.ids[rows])
        cosines = np.minimum(vectors @ index.vectors(graph.ids[[centre]])[0], 1)
        cosines[rows == centre] = 1
        best = np.lexsort((rows != centre, -cosines))
        paths = [names[number] for number in graph.ids[rows[best]].tolist()]
        themes.append(Theme(paths[0], paths, cosines[best].tolist()))
    return sorted(themes, key=lambda theme: (-len(theme), theme.centre))


def find_outliers(
    files: GalleryFiles, store: Store, index: LSHIndex, k: int, depth: int
) -> list[Outlier]:
    """As `Gallery.outliers`."""
    graph, names = graph_of(files, index), _paths(store)
    if not graph.width:
        return []
    try:
        closeness = graph.closeness(depth)
    except IndexFormatError as error:
        raise GalleryError(f"{error}; run: {repair_command(files.directory)}") from error
    found = [
        Outlier(names[int(graph.ids[row])], float(closeness[row]))
        for row in np.argsort(closeness, kind="stable")
        if int(graph.ids[row]) in names
    ]
    return found[:k]


def find_neighbours(
    files: GalleryFiles, store: Store, index: LSHIndex, number: int, k: int
) -> list[Found]:
    """The nearest images of the image ``number`` by the graph, with their exact cosines."""
    graph = graph_of(files, index)
    (row,) = graph.rows(np.array([number]))
    if row < 0:
        update = command("update", files.directory)
        raise GalleryError(f"the image is newer than the neighbour graph; run: {update}")
    ids = graph.ids[graph.lists(np.array([row]), k)[0][0]]
    ids = ids[index.contains(ids)]
    if not len(ids):
        return []
    query = index.vectors([number])[0]
    ids, cosines = index.search(query, len(ids), allowed=ids, exact=True)
    rows, bits = store.by_ids(ids.tolist()), index.hamming(query, ids)
    return [
        Found(rows[other], float(cosine), int(differ))
        for other, cosine, differ in zip(ids.tolist(), cosines, bits, strict=True)
        if other in rows
    ]


def _paths(store: Store) -> dict[int, str]:
    return {number: os.fsdecode(path) for number, path in store.paths()}
