"""What galleries on disk and in a cluster are both asked, whatever they keep it in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fakes import HALF, embedding, images_of, vectors_of
from numpy.typing import NDArray

from lookalike.cluster.gallery import ClusterGallery
from lookalike.gallery import Gallery, UpdateReport

__all__ = ["Make", "assert_whole", "counts", "stored_times", "stored_vectors"]

Make = Callable[..., Gallery]
"""Makes the gallery of a folder, up to date; takes ``key_bits`` and ``max_pixels``."""


def counts(report: UpdateReport) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("added", "changed", "moved", "dropped", "reused", "skipped")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def stored_vectors(gallery: Gallery) -> dict[str, NDArray[np.float32]]:
    """Path -> stored embedding of every indexed image."""
    if not isinstance(gallery, ClusterGallery):
        return vectors_of(gallery)
    index = gallery._index
    rows = [record.row for record in index.collection.iterate_records()]
    if not rows:
        return {}
    vectors = index.vectors([row.id for row in rows])
    return {os.fsdecode(row.path): vector for row, vector in zip(rows, vectors, strict=True)}


def stored_times(gallery: Gallery) -> dict[str, int]:
    """Path -> time of change in ns with which each image was indexed."""
    if isinstance(gallery, ClusterGallery):
        rows = [record.row for record in gallery._index.collection.iterate_records()]
    else:
        with gallery._files.reading() as store:
            rows = list(store.indexed())
    return {os.fsdecode(row.path): row.mtime_ns for row in rows}


def assert_whole(gallery: Gallery, folder: Path) -> None:
    """The gallery holds, and finds, the images of the folder alone, each by its own embedding."""
    stored = stored_vectors(gallery)
    assert set(stored) == images_of(folder)
    assert len(gallery) == len(stored)
    for name, vector in stored.items():
        np.testing.assert_allclose(vector, embedding(folder / name), atol=HALF, err_msg=name)
    for name, vector in list(stored.items())[:3]:
        assert name in {hit.path for hit in gallery.search(vector, len(stored), threshold=1)}
