"""An item that is searched by itself is found first, whatever the vectors look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex

Rows = NDArray[Any]
Draw = Callable[[np.random.Generator, int], Rows]


def normal(dim: int) -> Draw:
    return lambda rng, n: rng.standard_normal((n, dim))


def clusters(noise: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Rows:
        centres = rng.standard_normal((50, 128))
        rows: Rows = centres[rng.integers(0, 50, n)] + noise * rng.standard_normal((n, 128))
        return rows

    return draw


def one_hot(rng: np.random.Generator, n: int) -> Rows:
    return np.eye(n, 2000)


def two_tags(rng: np.random.Generator, n: int) -> Rows:
    rows = np.zeros((n, 800))
    rows[np.arange(n), rng.integers(0, 800, n)] = 1
    rows[np.arange(n), rng.integers(0, 800, n)] += rng.random(n)
    return rows


def frames(rng: np.random.Generator, n: int) -> Rows:
    """A slow drift, as of a camera that hardly moves."""
    steps = np.cumsum(1e-3 * rng.standard_normal((n, 128)), axis=0)
    rows: Rows = steps + rng.standard_normal(128)
    return rows


def line(rng: np.random.Generator, n: int) -> Rows:
    ends = rng.standard_normal((2, 200))
    rows: Rows = ends[0] + np.linspace(0, 1, n)[:, np.newaxis] * ends[1]
    return rows


def half_equal(rng: np.random.Generator, n: int) -> Rows:
    rows = rng.standard_normal((n, 64))
    rows[: n // 2] = rows[0]
    return rows


GEOMETRIES: dict[str, Draw] = {
    **{f"normal in {dim}": normal(dim) for dim in (1, 2, 3, 8, 16, 64, 300)},
    "narrow cone": lambda rng, n: rng.random((n, 64)) + 5,
    "not negative": lambda rng, n: np.maximum(rng.standard_normal((n, 64)), 0) + 1e-6,
    "clusters": clusters(0.1),
    "tight clusters": clusters(0.01),
    "very tight clusters": clusters(0.001),
    "heavy tails": lambda rng, n: rng.standard_t(1.5, (n, 64)),
    "binary": lambda rng, n: (rng.random((n, 256)) < 0.05) + 1e-9,
    "of rank 3": lambda rng, n: rng.standard_normal((n, 3)) @ rng.standard_normal((3, 300)),
    "one-hot": one_hot,
    "two tags": two_tags,
    "frames": frames,
    "a line": line,
    "half equal": half_equal,
}


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_an_item_searched_by_itself_is_first(name: str, count: int) -> None:
    rng = np.random.default_rng(7)
    rows = GEOMETRIES[name](rng, 2000 if name == "one-hot" else count)
    index = LSHIndex(dim=rows.shape[1])
    index.add(np.arange(len(rows)), rows)
    own = rng.choice(len(rows), 300, replace=False)
    queries = index.vectors(own)
    found, exact = index.search(queries, 1), index.search(queries, 1, exact=True)
    # Equal vectors, and those that float32 cannot distinguish, are in order of their ids.
    equal = found.cosines[:, 0] >= exact.cosines[:, 0] - 3e-7
    assert ((found.ids[:, 0] == own) | equal).all()
    assert (exact.cosines[:, 0] >= 1 - 3e-7).all()


def test_an_item_as_it_is_stored_has_the_code_that_a_search_for_it_has() -> None:
    rows = GEOMETRIES["frames"](np.random.default_rng(7), 5000)
    index = LSHIndex(dim=rows.shape[1])
    index.add(np.arange(len(rows)), rows)
    hasher, stored = index.hasher, index.vectors(index.ids)
    assert hasher is not None
    assert np.abs(np.linalg.norm(stored, axis=1) - 1).max() > 1e-5  # rounding has changed lengths
    queries = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    margins = hasher.prepare(queries).margins
    bits = np.unpackbits(index.codes(index.ids).view(np.uint8), axis=1, bitorder="little")
    sure = np.abs(margins) > hasher.scoring.numbers[5]
    assert sure.mean() > 0.999
    assert (bits[sure] == (margins > 0)[sure]).all()


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_an_item_moved_by_a_hundredth_is_found_first_in_every_cone(offset: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.random((20_000, 64)) + offset
    index = LSHIndex(dim=64)
    index.add(np.arange(len(rows)), rows)
    own = np.arange(0, len(rows), 100)
    moved = rows[own] + 0.01 * rng.standard_normal((len(own), 64))
    assert index.search(moved, 1).ids[:, 0].tolist() == own.tolist()


def test_neighbours_are_found_in_two_dimensions() -> None:
    rng = np.random.default_rng(2)
    rows, queries = rng.standard_normal((50_000, 2)), rng.standard_normal((100, 2))
    index = LSHIndex(dim=2)
    index.add(np.arange(len(rows)), rows)
    ids = index.search(queries, 1).ids[:, 0]
    angles = np.arctan2(*rows.T) - np.arctan2(*queries[:, np.newaxis].T).T
    apart = np.abs((angles + np.pi) % (2 * np.pi) - np.pi)
    # Rounded to float16 a direction moves by up to 0.0005.
    assert (apart[np.arange(100), ids] <= apart.min(axis=1) + 1e-3).all()
