from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import lookalike
from fakes import SIZE, updated
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.lsh import LSHIndex
from lookalike.lsh.graph import NeighbourGraph

THEMES = {"red": 9, "green": 7, "blue": 5}


def write_themes(folder: Path) -> None:
    """Images of three scenes with noise, and one that is like no other."""
    rng = np.random.default_rng(0)
    for name, count in THEMES.items():
        scene = rng.integers(0, 256, (4, 4, 3)).astype(float)
        for number in range(count):
            save(folder / f"{name}-{number}.png", scene + rng.normal(scale=25, size=scene.shape))
    save(folder / "alone.png", np.random.default_rng(8).integers(0, 256, (4, 4, 3)))


def save(path: Path, squares: NDArray[np.floating] | NDArray[np.integer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.kron(np.clip(squares, 0, 255).astype(np.uint8), np.ones((SIZE // 4,) * 2 + (1,)))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def themed(tmp_path: Path, model: Path) -> Gallery:
    write_themes(tmp_path / "photos")
    return updated(tmp_path / "photos", model=model)


def test_themes_are_the_scenes_named_by_their_most_central_image(themed: Gallery) -> None:
    themes = themed.themes(depth=4, smallest=2)
    kinds = {theme.centre.split("-")[0]: theme for theme in themes}
    for name, count in THEMES.items():
        own = {path for path in kinds[name].paths if path.startswith(name)}
        assert len(own) == count
        assert len(kinds[name]) - count <= 1  # the image that is alone is nearest to one of them
    _, paths, vectors = themed.embeddings()
    for theme in themes:
        assert theme.paths[0] == theme.centre
        assert theme.cosines == sorted(theme.cosines, reverse=True)
        rows = vectors[[paths.index(path) for path in theme.paths]]
        np.testing.assert_allclose(theme.cosines, rows @ rows[0], atol=2e-3)
    assert [len(theme) for theme in themes] == sorted(map(len, themes), reverse=True)
    assert sum(map(len, themed.themes(depth=4, smallest=1))) == 22
    assert [len(theme) for theme in themed.themes(depth=4, smallest=9)][:1] == [len(themes[0])]


def test_peaks_are_reached_by_steps_to_the_first_denser_neighbour() -> None:
    rng = np.random.default_rng(1)
    index = LSHIndex(dim=8)
    index.add(np.arange(300), rng.normal(size=(300, 8)))
    graph = NeighbourGraph.build(index)
    density = graph.cosines[:, :6].mean(axis=1, dtype=np.float64)

    def peak(row: int, least: float) -> int:
        for near, cosine in zip(graph.near[row, :6], graph.cosines[row, :6], strict=True):
            if density[near] > density[row] and cosine >= least:
                return peak(int(near), least)
        return row

    for least in (-1.0, 0.8):
        assert graph.peaks(6, least).tolist() == [peak(row, least) for row in range(300)]


def test_the_image_that_is_like_no_other_is_the_first_outlier(themed: Gallery) -> None:
    outliers = themed.outliers(5, depth=3)
    assert outliers[0].path == "alone.png"
    assert len(outliers) == 5
    cosines = [outlier.cosine for outlier in outliers]
    assert cosines == sorted(cosines)
    near = [hit.cosine for hit in themed.neighbours("alone.png", 3)]
    assert outliers[0].cosine == pytest.approx(np.mean(near), abs=2e-3)


def test_neighbours_are_what_a_search_without_the_image_itself_finds(themed: Gallery) -> None:
    found = themed.neighbours("red-3.png", 6)
    expected = themed.search(themed.root / "red-3.png", 6, exclude_self=True, exact=True)
    assert [hit.path for hit in found] == [hit.path for hit in expected]
    for hit, other in zip(found, expected, strict=True):
        assert hit.cosine == pytest.approx(other.cosine, abs=1e-5)
        assert hit.bits == other.bits
    with pytest.raises(GalleryError, match="not an indexed image"):
        themed.neighbours("nothing.png")


def test_the_command_prints_themes_and_outliers(themed: Gallery) -> None:
    groups = ("groups", "--gallery", themed.root, "--json")
    assert json.loads(lookalike(*groups, "--neighbours", "4").stdout) == [
        {
            "centre": theme.centre,
            "images": len(theme),
            "paths": theme.paths,
            "cosines": [round(cosine, 6) for cosine in theme.cosines],
        }
        for theme in themed.themes(depth=4)
    ]
    outliers = json.loads(lookalike(*groups, "--outliers", "-k", "2").stdout)
    assert [item["path"] for item in outliers] == [outlier.path for outlier in themed.outliers(2)]
    assert lookalike(*groups[:3], "--smallest", "50", status=1).stdout == ""
