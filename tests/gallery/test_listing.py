"""What programs read of a gallery: rows, arrays, tables, and how it shows itself."""

from __future__ import annotations

import logging
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from fakes import HALF, embedding, images_of, write_photo

from lookalike import Gallery, LSHIndex, progress_bar
from lookalike.errors import GalleryError, MissingExtraError


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


def test_tables_hold_what_iterating_gives(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = gallery.to_arrow("b/")
    assert isinstance(table, pyarrow.Table)
    assert table.column_names == [
        "id",
        "path",
        "file",
        "width",
        "height",
        "format",
        "bytes",
        "changed",
        "taken",
    ]
    assert table["path"].to_pylist() == [image.path for image in gallery.images("b/")]
    assert table["file"][0].as_py() == os.fspath(gallery.root / "b/001.png")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        gallery.to_pandas()


def test_a_gallery_and_its_hits_show_themselves(gallery: Gallery) -> None:
    assert repr(gallery) == f"<Gallery of {gallery.root}: 12 images>"
    assert gallery._repr_html_().count("data:image/webp;base64,") == 12
    hits = gallery.search("a/000.png", 3)
    (gallery.root / hits[2].path).unlink()
    page = hits._repr_html_()
    assert page.count("<figure") == 3 and page.count("<img") == 2
    assert "1.000 a/000.png" in page


def test_a_closed_gallery_opens_again_when_it_is_asked(gallery: Gallery) -> None:
    with gallery as same:
        assert same is gallery
        before = gallery.search("a/000.png", 3)
    assert gallery._files._index is None and not gallery._files._idle
    assert gallery.search("a/000.png", 3) == before


def test_an_update_is_logged_and_shown(
    photos: Path, model: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").write_bytes(b"not an image")
    with caplog.at_level(logging.INFO, "lookalike"), progress_bar() as show:
        Gallery.open(photos, model=model).update(show)
    text = caplog.text
    assert "skipped bad.png: " in text
    assert "committed 13 files" in text
    assert f"updated {photos}: 12 images, 12 added, 0 changed" in text
    out, err = capsys.readouterr()
    assert out == "" and "100%" in err


def test_an_index_shows_itself_and_is_loaded_from_its_folder(tmp_path: Path) -> None:
    index = LSHIndex(dim=8)
    index.add([3, 1], np.eye(8)[:2])
    assert repr(index) == "<LSHIndex: 2 vectors of dimension 8, 256 bits>"
    index.save(tmp_path / "index")
    assert LSHIndex.load(tmp_path / "index").ids.tolist() == [1, 3]
