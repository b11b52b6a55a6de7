"""The defaults find an item by itself, and its neighbours, whatever the vectors look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex
from lookalike.lsh.segment import Factors
from lookalike.lsh.settings import SearchSettings
from lookalike.lsh.tuning import recall_of

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
    index = made(GEOMETRIES["frames"](np.random.default_rng(7), 5000))
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


def uneven(rng: np.random.Generator, n: int) -> Rows:
    """A third of all items in one cluster, whose codes hardly differ."""
    centres = rng.standard_normal((300, 64))
    shares = 1 / np.arange(1, 301) ** 1.3
    rows = centres[rng.choice(300, n, p=shares / shares.sum())]
    noisy: Rows = rows + 0.35 * rng.standard_normal((n, 64))
    return noisy


def families(rng: np.random.Generator, n: int) -> Rows:
    """Twenty of a kind, and beyond them nothing in particular."""
    rows = np.repeat(rng.standard_normal((n // 20, 64)), 20, axis=0)[rng.permutation(n)]
    noisy: Rows = rows + 0.3 * rng.standard_normal((n, 64))
    return noisy


def tenfold(rng: np.random.Generator, n: int) -> Rows:
    """Ten of each, but the last 300."""
    rows: Rows = np.repeat(rng.standard_normal((n // 10 - 30, 48)), 10, axis=0)
    return np.concatenate([rows, rng.standard_normal((300, 48))])


def made(rows: Rows) -> LSHIndex:
    index = LSHIndex(dim=rows.shape[1])
    index.add(np.arange(len(rows)), rows)
    return index


def recalls(index: LSHIndex, queries: Rows, numbers: tuple[int, ...] = (1, 10, 100)) -> list[float]:
    exact = index.search(queries, max(numbers), exact=True).cosines
    return [recall_of(index.search(queries, k).cosines, exact[:, :k]) for k in numbers]


def unmeasured(index: LSHIndex) -> LSHIndex:
    """The same as it was opened before there were factors."""
    other = index.with_settings(index.settings)
    (segment,) = other.segments()
    other._state = replace(other._state, segments=(replace(segment, factors=None),))
    return other


@pytest.mark.parametrize(
    ("draw", "before"),
    [
        (normal(48), (0.9, 0.87, 0.87)),
        (normal(700), (0.3, 0.3, 0.3)),
        (uneven, (0.95, 0.87, 0.9)),
        (families, (1, 1, 0.9)),
        (tenfold, (0.9, 0.9, 0.9)),
    ],
    ids=["no neighbourhoods", "more than codes show", "uneven clusters", "families", "ten of each"],
)
def test_the_defaults_find_nine_tenths_whatever_the_vectors_look_like(
    draw: Draw, before: tuple[float, ...]
) -> None:
    rows = draw(np.random.default_rng(8), 12_000)
    index, queries = made(rows[:11_700]), rows[11_700:]
    assert min(recalls(index, queries)) > 0.9
    assert (np.array(recalls(unmeasured(index), queries)) <= before).all()


def test_where_the_defaults_find_enough_nothing_is_added() -> None:
    (segment,) = made(clusters(0.5)(np.random.default_rng(8), 12_000)).segments()
    assert segment.factors is not None
    assert segment.factors[:2] == ((1, 1, 1), (1, 1, 1))


def test_queries_that_lie_elsewhere_than_the_items_are_searched_for_in_all() -> None:
    rng = np.random.default_rng(9)
    rows = clusters(0.3)(rng, 20_000)
    index = made(rows)
    far = 0.3 * rows[:200] + rng.standard_normal(128) + 0.5 * rng.standard_normal((200, 128))
    nearest = index.search(far, 1, exact=True).cosines
    (segment,) = index.segments()
    assert segment.factors is not None
    assert nearest.max() < segment.factors.least
    assert min(recalls(index, far)) > 0.95
    assert max(recalls(unmeasured(index), far)) < 0.9
    one = index.search(far[0], 10)
    assert one.ids.tolist() == index.search(far, 10).ids[0].tolist()


def test_what_was_measured_is_saved_and_measured_again_of_what_is_merged(tmp_path: Path) -> None:
    rows = normal(48)(np.random.default_rng(8), 12_000)
    index = made(rows[:11_000])
    (segment,) = index.segments()
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    assert [part.factors for part in opened.segments()] == [segment.factors]
    opened.add(np.arange(11_000, 12_000), rows[11_000:])
    old, few = opened.segments()
    assert (old.factors, few.factors) == (segment.factors, None)
    opened.compact()
    (merged,) = opened.segments()
    (whole,) = made(rows).segments()
    assert merged.factors is not None
    assert whole.factors is not None
    # Of the hash functions fitted on more items; within what 64 searches show.
    np.testing.assert_allclose(merged.factors[0], whole.factors[0], rtol=0.3)


def test_factors_grow_evenly_from_one_result_to_a_hundred() -> None:
    factors = Factors((4, 2, 8), (1, 1, 16))
    assert factors.of(1) == (4, 1)
    assert factors.of(10) == pytest.approx((2, 1))
    assert factors.of(32) == pytest.approx((2 * 4 ** np.log10(3.2), 16 ** np.log10(3.2)))
    assert factors.of(5000) == pytest.approx((8, 16))


def test_settings_tuned_for_ten_results_grow_with_the_number_as_the_defaults_do() -> None:
    tuned = SearchSettings(3200, 100, 64, k=10)
    assert tuned.scaled(1) == tuned.scaled(10) == tuned
    assert tuned.scaled(100) == SearchSettings(4900, 355, 64 + 24 * 9)
    assert SearchSettings(3200, 100).scaled(100) == SearchSettings(3200, 100)
    assert SearchSettings(k=10).scaled(100) == SearchSettings()
