"""The demo: the same files every time, queries that are new, and who finds whom."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike import demo
from lookalike.demo import DemoResult, run
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


@dataclass
class Run:
    result: DemoResult
    out: Path
    lines: list[str]
    searched: dict[bytes, list[Hit]]
    """What the gallery answered to each query, by the query's bytes."""


@dataclass
class Spy:
    """Takes down what Gallery.search answers."""

    searched: dict[bytes, list[Hit]] = field(default_factory=dict)

    def __enter__(self) -> Spy:
        self._patch = pytest.MonkeyPatch()
        search = Gallery.search

        def spied(gallery: Gallery, query: Any, k: int = 10, **options: Any) -> list[Hit]:
            hits: list[Hit] = search(gallery, query, k, **options)
            self.searched[query] = hits
            return hits

        self._patch.setattr(Gallery, "search", spied)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    out = tmp_path_factory.mktemp("demo") / "out"
    lines: list[str] = []
    with Spy() as spy:
        result = run(out, None, lines.append)
    yield Run(result, out, lines, spy.searched)
    shutil.rmtree(out)


# ---- the demo's own images ---------------------------------------------------------------------


def test_no_query_is_in_the_gallery_and_no_two_images_are_the_same(ran: Run) -> None:
    images = [content_hash(path) for path in files_below(ran.out / "images").values()]
    queries = [content_hash(path) for path in files_below(ran.out / "queries").values()]
    assert len(set(images)) == len(images)
    assert len(set(queries)) == len(queries)
    assert set(images).isdisjoint(queries)


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


# ---- end to end ----------------------------------------------------------------------------------


def test_nearly_every_query_finds_its_own_photograph_first(ran: Run) -> None:
    source_of = {path.read_bytes(): name for name, path in files_below(ran.out / "queries").items()}
    assert ran.searched.keys() == source_of.keys()
    failures = {
        name
        for content, name in source_of.items()
        if ran.searched[content][0].path.split("/")[0] != name.split("/")[0]
    }
    assert set(ran.result.failures) == failures
    assert ran.result.queries == len(source_of)
    assert ran.result.found_first == len(source_of) - len(failures)
    assert ran.result.found_first >= 0.95 * len(source_of)


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
def own(ran: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs in folders, one with a name that is not UTF-8, one twice, one broken."""
    folder = tmp_path_factory.mktemp("own") / "my images"
    (folder / "2019").mkdir(parents=True)
    for name in ("astronaut", "chelsea", "coffee", "rocket", "coins", "flower", "camera"):
        shutil.copy(ran.out / "images" / name / "original.png", folder / "2019" / f"{name}.png")
    shutil.copy(ran.out / "images/china/original.png", folder / "china & lake.png")
    shutil.copy(folder / "china & lake.png", folder / "again.png")
    if sys.platform == "linux":
        os.rename(folder / "2019/coffee.png", os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return folder


@pytest.mark.slow
def test_own_images_are_found_and_never_touched(own: Path) -> None:
    before = state(own)
    with Spy() as spy:
        result = run(own.parent / "out", own, lambda _: None)
    assert state(own) == before
    assert (result.images, result.skipped, result.sources) == (9, 1, 9)
    assert (result.queries, result.found_first, result.failures) == (36, 36, ())
    assert result.folder == own
    originals = {path.read_bytes() for path in own.rglob("*.*")}
    assert len(spy.searched) == 32  # the two copies give the same four queries
    assert originals.isdisjoint(spy.searched)
    page = result.html.read_text("utf-8")
    assert 'class="wrong"' not in page
    assert "china &amp; lake.png" in page
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
