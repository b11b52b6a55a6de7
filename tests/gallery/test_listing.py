"""What programs read of a gallery: rows, arrays, tables, and how it shows itself."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import HALF, embedding, images_of, write_photo

from lookalike import Gallery
from lookalike.errors import GalleryError


def test_a_gallery_is_a_collection_of_its_images(gallery: Gallery, tmp_path: Path) -> None:
    images = list(gallery)
    assert [image.path for image in images] == sorted(images_of(gallery.root))
    assert len(gallery) == 12
    first = images[0]
    status = first.file.stat()
    assert (first.file, first.width, first.height, first.format, first.bytes) == (
        gallery.root / "a/000.png",
        64,
        48,
        "PNG",
        status.st_size,
    )
    assert first.changed == datetime.fromtimestamp(status.st_mtime_ns / 1e9)
    assert "a/000.png" in gallery and gallery.root / "a/000.png" in gallery
    assert "a/999.png" not in gallery and 7 not in gallery
    assert write_photo(tmp_path / "outside.png", 77) not in gallery
    assert [image.path for image in gallery.images("b/")] == [
        "b/001.png",
        "b/004.png",
        "b/007.png",
        "b/010.png",
    ]


def test_embeddings_are_those_of_the_files_by_path(gallery: Gallery) -> None:
    ids, paths, vectors = gallery.embeddings()
    assert paths == [image.path for image in gallery]
    assert ids.tolist() == [image.id for image in gallery]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors, [embedding(gallery.root / path) for path in paths], atol=HALF
    )
    assert gallery.embeddings("-a/ -b/").vectors.shape == (4, 48)
    assert gallery.embeddings("nothing").vectors.shape == (0, 48)
    with pytest.raises(GalleryError, match="date:soon"):
        gallery.embeddings("date:soon")
