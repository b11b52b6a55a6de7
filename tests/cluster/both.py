"""What galleries on disk and in shards are both asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fakes import HALF, embedding, images_of
from numpy.typing import NDArray

from lookalike.gallery.protocol import ImageGallery
from lookalike.gallery.rows import ImageRow

__all__ = ["Make", "assert_whole", "stored_times", "stored_vectors"]

Make = Callable[..., ImageGallery]
"""Makes the gallery of a folder, up to date; takes ``max_pixels``."""


def _all_rows(gallery: ImageGallery) -> list[ImageRow]:
    rows, total = gallery.reader().now().page(None, 0, 100_000)
    assert len(rows) == total
    return rows


def stored_vectors(gallery: ImageGallery) -> dict[str, NDArray[np.float32]]:
    """Path -> stored embedding of every indexed image."""
    rows = _all_rows(gallery)
    if not rows:
        return {}
    vectors = gallery.reader().now().vectors([row.id for row in rows])
    return {os.fsdecode(row.path): vector for row, vector in zip(rows, vectors, strict=True)}


def stored_times(gallery: ImageGallery) -> dict[str, int]:
    """Path -> time of change in ns with which each image was indexed."""
    return {os.fsdecode(row.path): row.mtime_ns for row in _all_rows(gallery)}


def assert_whole(gallery: ImageGallery, folder: Path) -> None:
    """The gallery holds, and finds, the images of the folder alone, each by its own embedding."""
    stored = stored_vectors(gallery)
    assert set(stored) == images_of(folder)
    assert len(gallery) == len(stored)
    for name, vector in stored.items():
        np.testing.assert_allclose(vector, embedding(folder / name), atol=HALF, err_msg=name)
    for name, vector in list(stored.items())[:3]:
        assert name in {hit.path for hit in gallery.search(vector, len(stored), threshold=1)}
