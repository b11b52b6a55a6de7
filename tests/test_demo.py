"""The demo: the same files every time, queries that are new, and who finds whom."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike import demo
from lookalike.demo import run
from lookalike.errors import GalleryError
from lookalike.gallery.gallery import Gallery
from lookalike.gallery.hits import Hit
from lookalike.images import content_hash

pytestmark = pytest.mark.slow


def files_below(folder: Path) -> dict[str, Path]:
    """By relative name; without the gallery's own and other hidden ones."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    return {
        name: path
        for name, path in sorted(paths.items())
        if path.is_file() and not any(part.startswith(".") for part in name.split("/"))
    }


@contextmanager
def searches() -> Iterator[dict[bytes, list[Hit]]]:
    """What Gallery.search answers to each query, by the query's bytes."""
    answers: dict[bytes, list[Hit]] = {}
    search = Gallery.search

    def noted(gallery: Gallery, query: Any, k: int = 10, **options: Any) -> list[Hit]:
        answers[query] = search(gallery, query, k, **options)
        return answers[query]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gallery, "search", noted)
        yield answers


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a run of the demo on its own images, which is checked in passing."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with searches() as searched:
        result = run(out, None, lambda _: None)
    source_of = {path.read_bytes(): name for name, path in files_below(out / "queries").items()}
    assert searched.keys() == source_of.keys()
    failures = {
        name
        for content, name in source_of.items()
        if searched[content][0].path.split("/")[0] != name.split("/")[0]
    }
    found = len(source_of) - len(failures)
    assert (set(result.failures), result.queries) == (failures, len(source_of))
    assert result.found_first == found >= 0.95 * len(source_of)
    yield out
    shutil.rmtree(out)


def test_nearly_every_query_finds_its_photograph_first_and_none_is_in_the_gallery(
    out: Path,
) -> None:
    images = [content_hash(path) for path in files_below(out / "images").values()]
    queries = [content_hash(path) for path in files_below(out / "queries").values()]
    assert len({*images, *queries}) == len(images) + len(queries) > 100


# ---- alterations ---------------------------------------------------------------------------------


def ramp(width: int, height: int) -> Image.Image:
    """Red encodes the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


@pytest.mark.parametrize(
    ("x", "y", "left", "top"), [(0, 0, 0, 0), (1, 1, 50, 25), (0.5, 0.4, 25, 10), (1, 0, 50, 0)]
)
def test_a_crop_keeps_its_share_at_its_place(x: float, y: float, left: int, top: int) -> None:
    cut = np.asarray(demo.crop(0.75, x, y)(ramp(200, 100)))
    assert cut.shape == (75, 150, 3)
    assert tuple(cut[0, 0]) == (left, top, 0)
    assert tuple(cut[-1, -1]) == (left + 149, top + 74, 0)


@pytest.mark.parametrize("degrees", [-15, 45, 90])
@pytest.mark.parametrize("size", [(300, 200), (640, 91), (1, 1)])
def test_a_rotation_shows_no_empty_corner(degrees: float, size: tuple[int, int]) -> None:
    turned = np.asarray(demo.rotate(degrees)(Image.new("RGB", size, "white")))
    assert turned.min() == 255


# ---- a folder of one's own -----------------------------------------------------------------------


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything that a run could have changed."""
    return {
        os.fspath(path): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(scope="module")
def own(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs in folders, one with a name that is not UTF-8, one twice, one broken."""
    folder = tmp_path_factory.mktemp("own") / "my images"
    (folder / "2019").mkdir(parents=True)
    for name in ("astronaut", "chelsea", "coffee", "rocket", "coins", "flower", "camera"):
        shutil.copy(out / "images" / name / "original.png", folder / "2019" / f"{name}.png")
    shutil.copy(out / "images/china/original.png", folder / "china & lake.png")
    shutil.copy(folder / "china & lake.png", folder / "again.png")
    if sys.platform == "linux":
        os.rename(folder / "2019/coffee.png", os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return folder


@pytest.mark.slow
def test_own_images_are_found_and_never_touched(own: Path) -> None:
    before = state(own)
    with searches() as searched:
        result = run(own.parent / "out", own, lambda _: None)
    assert state(own) == before
    assert (result.images, result.skipped, result.sources) == (9, 1, 9)
    assert (result.queries, result.found_first, result.failures) == (36, 36, ())
    assert result.folder == own
    originals = {path.read_bytes() for path in own.rglob("*.*")}
    assert len(searched) == 32  # the two copies give the same four queries
    assert originals.isdisjoint(searched)
    assert "china &amp; lake.png" in result.html.read_text("utf-8")
    (gallery,) = (own.parent / "out/gallery").iterdir()
    assert (gallery / "gallery.sqlite").is_file()


@pytest.mark.parametrize("inside", [".", "out", "a/b"])
def test_an_output_inside_the_folder_is_refused(tmp_path: Path, inside: str) -> None:
    ramp(20, 20).save(tmp_path / "a.png")
    with pytest.raises(GalleryError, match="choose another"):
        run(tmp_path / inside, tmp_path, print)
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GalleryError, match="no image was found"):
        run(tmp_path / "out", tmp_path / "empty", lambda _: None)
    with pytest.raises(GalleryError, match="not a folder"):
        run(tmp_path / "out", tmp_path / "none", lambda _: None)
