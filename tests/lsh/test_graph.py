from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh import LSHIndex, Neighbors
from lookalike.lsh import graph as graph_module
from lookalike.lsh.arrayfile import open_arrays, write_arrays
from lookalike.lsh.expand import (
    Expansion,
    diffused,
    diffused_compiled,
    reorder,
    search_expanded,
)
from lookalike.lsh.graph import NEIGHBOURS, NeighbourGraph

DIM = 32
HALF = 2.0**-10
"""Cosines are kept as float16, and those of vectors that were rounded to it."""
Floats = NDArray[np.float32]


def clustered(count: int, seed: int = 0, clusters: int = 12, noise: float = 0.8) -> Floats:
    """Unit vectors around a few centres, as those of images are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, DIM))
    rows = centres[rng.integers(clusters, size=count)] + noise * rng.normal(size=(count, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows, np.float32)


def index_of(vectors: Floats, ids: NDArray[np.int64] | None = None) -> LSHIndex:
    index = LSHIndex(dim=DIM)
    index.add(np.arange(len(vectors)) if ids is None else ids, vectors)
    return index


def exact_cosines(index: LSHIndex) -> Floats:
    """Of each item to all, its own at -2: (n, n)."""
    vectors = index.vectors(index.ids)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = vectors @ vectors.T
    np.fill_diagonal(found, -2)
    return found


def assert_exact(graph: NeighbourGraph, index: LSHIndex) -> None:
    """It holds the nearest of each item, but for those that are equally near."""
    cosines = exact_cosines(index)
    width = min(NEIGHBOURS, len(index) - 1)
    assert graph.ids.tolist() == index.ids.tolist()
    assert graph.near.shape == graph.cosines.shape == (len(index), width)
    assert all(len(set(row)) == width for row in graph.near.tolist())
    rows = np.arange(len(index))[:, np.newaxis]
    np.testing.assert_allclose(cosines[rows, graph.near], graph.cosines, atol=HALF)
    best = -np.sort(-cosines, axis=1)[:, :width]
    np.testing.assert_allclose(graph.cosines, best, atol=HALF)
    assert graph.problem() is None


def recall(graph: NeighbourGraph, index: LSHIndex) -> float:
    """Share of the exact nearest of all items that it holds."""
    cosines = exact_cosines(index)
    width = graph.width
    best = np.argpartition(-cosines, width, axis=1)[:, :width]
    pairs = zip(graph.near.tolist(), best.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / width for a, b in pairs]))


@pytest.mark.parametrize("count", [2, 3, 40, 51, 52, 700])
def test_a_small_graph_holds_the_exact_nearest_of_each_item(count: int) -> None:
    ids = np.sort(np.random.default_rng(3).choice(10**6, count, replace=False))
    index = index_of(clustered(count), ids)
    assert_exact(NeighbourGraph.build(index), index)


def test_items_with_more_copies_than_neighbours_are_not_their_own_neighbours() -> None:
    vectors = np.concatenate([np.repeat(clustered(1), 80, axis=0), clustered(60, 1)])
    index = index_of(vectors)
    graph = NeighbourGraph.build(index)
    assert_exact(graph, index)
    assert (graph.near != np.arange(140)[:, np.newaxis]).all()


def test_a_graph_made_by_hashing_finds_what_exact_search_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_module, "EXACT_UP_TO", 0)
    index = index_of(clustered(6000))
    graph = NeighbourGraph.build(index)
    assert graph.problem() is None
    assert recall(graph, index) > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_changes_give_nearly_the_graph_of_a_rebuild(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index, last = index_of(clustered(1500, seed)), 1500
    graph, patched = NeighbourGraph.build(index), 0
    for step in range(12):
        count = int(rng.integers(1, 40))
        gone = rng.choice(index.ids, int(rng.integers(0, 4)), replace=False)
        index.remove(gone)
        index.add(np.arange(last, last + count), clustered(count, 100 * seed + step + 1))
        last += count
        graph = graph.updated(index)
        patched += graph.searched > 0
        assert graph.problem() is None
        assert graph.ids.tolist() == index.ids.tolist()
        rows = np.arange(len(graph))[:, np.newaxis]
        np.testing.assert_allclose(exact_cosines(index)[rows, graph.near], graph.cosines, atol=HALF)
        assert recall(graph, index) > 0.97
    assert patched > 6


def test_what_was_removed_is_nobodys_neighbour_and_lists_are_filled_up() -> None:
    index = index_of(clustered(400))
    graph = NeighbourGraph.build(index)
    index.remove([7])
    patched = graph.updated(index)
    assert_exact(patched, index)
    without = (graph.near != 7).all(axis=1)
    without[7] = False
    assert patched.searched == 399 - int(without.sum())


def test_a_new_item_is_entered_where_it_is_nearer_than_the_last() -> None:
    index = index_of(clustered(400))
    graph = NeighbourGraph.build(index)
    index.add([400], clustered(1, 5))
    patched = graph.updated(index)
    assert patched.searched == 1
    assert_exact(patched, index)


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "most"])
def test_a_graph_is_made_again_when_few_lists_would_stay(change: str) -> None:
    index = index_of(clustered(60))
    graph = NeighbourGraph.build(index)
    if change != "grow":
        index.remove(index.ids[: {"shrink": 30, "replace": 60, "most": 20}[change]])
    if change != "shrink":
        index.add(np.arange(100, 140), clustered(40, 2))
    patched = graph.updated(index)
    assert patched.searched == 0
    assert_exact(patched, index)


def test_a_graph_of_an_unchanged_index_is_kept_as_it_is() -> None:
    index = index_of(clustered(60))
    graph = NeighbourGraph.build(index)
    assert graph.updated(index) is graph


def test_a_saved_graph_is_mapped_from_its_file(tmp_path: Path) -> None:
    index = index_of(clustered(90))
    graph, path = NeighbourGraph.build(index), tmp_path / "neighbours.lka"
    for made in (graph, NeighbourGraph.build(index_of(clustered(80)))):
        made.save(path, index.owner)
        opened = NeighbourGraph.open(path, index.owner)
        for name in ("ids", "near", "cosines"):
            np.testing.assert_array_equal(getattr(opened, name), getattr(made, name))
        assert opened.file is not None
    assert [file.name for file in tmp_path.iterdir()] == ["neighbours.lka"]
    with pytest.raises(IndexFormatError, match="belongs to the index"):
        NeighbourGraph.open(path, "0" * 32)


def test_every_changed_byte_of_a_graph_is_noticed(tmp_path: Path) -> None:
    index, path = index_of(clustered(20)), tmp_path / "neighbours.lka"
    NeighbourGraph.build(index).save(path, index.owner)
    whole = path.read_bytes()
    used = len(whole) - max(i for i in range(64) if not any(whole[len(whole) - i :]))
    for at in range(0, used, 7):
        changed = bytearray(whole)
        changed[at] ^= 0x40
        path.write_bytes(changed)
        try:
            opened = NeighbourGraph.open(path, index.owner)
        except IndexFormatError:
            continue
        # Between arrays there is nothing.
        for name, array in open_arrays(path, "neighbours").arrays.items():
            np.testing.assert_array_equal(getattr(opened, name), array)
        assert opened.problem() is None
    path.write_bytes(whole[:-64])
    with pytest.raises(IndexFormatError, match="cut"):
        NeighbourGraph.open(path, index.owner)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda a: a[::-1].copy()),
        ("ids", lambda a: a - 5),
        ("ids", lambda a: a[:-1]),
        ("ids", lambda a: a.astype(np.float32)),
        ("near", lambda a: a + np.uint32(20)),
        ("near", lambda a: np.repeat(np.arange(20, dtype=np.uint32)[:, None], 19, 1)),
        ("near", lambda a: np.full_like(a, 2**32 - 1)),
        ("near", lambda a: a[:, :5].copy()),
        ("near", lambda a: a.ravel()),
        ("cosines", lambda a: a[:, ::-1].copy()),
        ("cosines", lambda a: np.full_like(a, np.nan)),
        ("cosines", lambda a: np.full_like(a, np.inf)),
        ("cosines", lambda a: a + np.float16(3)),
        ("cosines", lambda a: a.astype(np.float32)),
        ("searched", lambda a: -1),
        ("searched", lambda a: True),
        ("searched", lambda a: "1"),
    ],
)
def test_forged_values_under_right_checksums_are_refused(
    tmp_path: Path, name: str, change: object
) -> None:
    assert callable(change)
    index = index_of(clustered(20))
    graph = NeighbourGraph.build(index)
    values = {key: getattr(graph, key) for key in ("ids", "near", "cosines", "searched")}
    values[name] = change(values[name])
    meta = {"owner": index.owner, "searched": values.pop("searched")}
    path = write_arrays(tmp_path, "neighbours", meta, values)
    with pytest.raises(IndexFormatError, match="damaged"):
        NeighbourGraph.open(path, index.owner)


def test_a_large_damaged_graph_is_noticed_when_it_is_used(tmp_path: Path) -> None:
    index = index_of(clustered(300))
    good = NeighbourGraph.build(index)
    query = clustered(1, 8)[0]
    for near, cosines in (
        (good.near + np.uint32(300), good.cosines),
        (good.near, np.full_like(good.cosines, np.nan)),
    ):
        damaged = NeighbourGraph(good.ids, near, cosines)
        with pytest.raises(IndexFormatError, match="damaged"):
            damaged.lists(np.arange(5), 10)
        for exact in (True, False):
            found = search_expanded(index, damaged, Expansion(sure=1), query, 10, exact=exact)
            assert found.ids.tolist() == index.search(query, 10, exact=True).ids.tolist()


# ---- expansion -----------------------------------------------------------------------------------


def expected_order(index: LSHIndex, expansion: Expansion, query: Floats) -> list[int]:
    """By the formula alone, with dense matrices: all items hits, each with its exact neighbours."""
    ids, n = index.ids, len(index)
    vectors = index.vectors(ids).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ (query / np.linalg.norm(query))
    alike = exact_cosines(index).astype(np.float64)
    weights = np.zeros((n, n))
    for row in range(n):
        near = np.argsort(-alike[row])[: min(expansion.depth, NEIGHBOURS, n - 1)]
        strength = np.maximum(alike[row, near], 0) ** expansion.power
        weights[row, near] = strength / strength.sum()
    by_cosine = np.argsort(-cosines)
    source = np.zeros(n)
    first = by_cosine[: expansion.seeds]
    source[first] = np.maximum(cosines[first], 0) ** expansion.power
    source /= source.sum()
    score = source
    for _ in range(expansion.steps):
        score = source + expansion.spread * weights @ score
    final = cosines + expansion.weight * score / score.max()
    kept = int((cosines >= expansion.sure).sum()) + 1
    rest = sorted(by_cosine[kept:].tolist(), key=lambda row: -final[row])
    return [int(ids[row]) for row in [*by_cosine[:kept], *rest]]


@pytest.mark.parametrize(
    "expansion",
    [Expansion(), Expansion(depth=7, seeds=5, power=3, steps=3, spread=0.9, weight=0.5, sure=0.6)],
)
def test_hits_are_ordered_by_the_formula(expansion: Expansion) -> None:
    index = index_of(clustered(180), 3 * np.arange(180))
    graph = NeighbourGraph.build(index)
    for query in clustered(20, 4):
        found = search_expanded(index, graph, expansion, query, 180, exact=True)
        expected = expected_order(index, expansion, query)
        # Items change places only where their scores are as good as equal.
        differ = [a != b for a, b in zip(found.ids.tolist(), expected, strict=True)]
        assert sum(differ) <= 4
        assert sorted(found.ids.tolist()) == index.ids.tolist()
        cosines = index.vectors(found.ids) @ query
        np.testing.assert_allclose(found.cosines, cosines, atol=HALF)


@pytest.mark.parametrize("count", [1, 2, 30, 180, 400, 1700])
def test_the_compiled_diffusion_is_the_portable_one(count: int) -> None:
    """Also for hits that the graph lacks, of few images, and where no whole matrix is made."""
    rng = np.random.default_rng(count)
    index = index_of(clustered(count, 1), np.sort(rng.choice(10 * count, count, replace=False)))
    graph = NeighbourGraph.build(index)
    index.add(10 * count + np.arange(7), clustered(7, 5))
    for expansion in (Expansion(), Expansion(depth=7, seeds=5, power=1, steps=3, spread=0.9)):
        for query in clustered(20, 4):
            hits = index.search(query, min(count, 1000), exact=True)
            expected = diffused(graph, expansion, *hits)
            found = diffused_compiled(graph, expansion, *hits)
            np.testing.assert_allclose(found, expected, atol=1e-6)
            slow = reorder(graph, expansion, hits)
            fast = reorder(graph, expansion, hits, compiled=True)
            assert fast.ids.tolist() == slow.ids.tolist()
            assert fast.cosines.tolist() == slow.cosines.tolist()


def test_only_a_search_by_the_compiled_index_loads_the_compiled_diffusion(tmp_path: Path) -> None:
    """A command searches once, and with few images without compiled code."""
    index = index_of(clustered(300))
    index.save(tmp_path)
    NeighbourGraph.build(index).save(tmp_path / "graph.lka", index.owner)
    program = """
import sys, numpy as np
from pathlib import Path
from lookalike.lsh import LSHIndex
from lookalike.lsh.expand import Expansion, search_expanded
from lookalike.lsh.graph import NeighbourGraph
index = LSHIndex.open(Path(sys.argv[1]))
graph = NeighbourGraph.open(Path(sys.argv[1]) / "graph.lka", index.owner)
query = np.ones(index.settings.dim, np.float32)
lists = [search_expanded(index, graph, Expansion(), query, 30, exact=exact).ids.tolist()
         for exact in (None, True) if "numba" not in sys.modules]
lists.append(search_expanded(index, graph, Expansion(), query, 30, exact=False).ids.tolist())
assert lists[0] == lists[1] == lists[2] and "lookalike.lsh.diffuse" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_the_first_hit_and_copies_of_the_query_stay_first() -> None:
    vectors = clustered(300)
    vectors[100:104] = vectors[50]
    index = index_of(vectors)
    graph = NeighbourGraph.build(index)
    found = search_expanded(index, graph, Expansion(), vectors[50], 10)
    assert found.ids[:5].tolist() == [50, 100, 101, 102, 103]
    for query in clustered(50, 6):
        (first,) = index.search(query, 1, exact=True).ids
        assert search_expanded(index, graph, Expansion(), query, 10).ids[0] == first


def test_expansion_finds_more_of_what_belongs_together() -> None:
    labels = np.random.default_rng(0).integers(12, size=1200)
    index = index_of(clustered(1200, noise=1.5))
    graph = NeighbourGraph.build(index)
    queries = clustered(60, 9, noise=1.5)
    mine = np.random.default_rng(9).integers(12, size=60)
    plain = np.array([labels[index.search(q, 60, exact=True).ids] for q in queries])
    more = np.array(
        [labels[search_expanded(index, graph, Expansion(), q, 60).ids] for q in queries]
    )
    share = [(found == mine[:, np.newaxis]).mean() for found in (plain, more)]
    assert share[1] > share[0] + 0.05


def test_only_allowed_and_near_enough_items_are_hits() -> None:
    index = index_of(clustered(300))
    graph = NeighbourGraph.build(index)
    query, allowed = clustered(1, 3)[0], np.arange(0, 300, 7)
    found = search_expanded(index, graph, Expansion(), query, 20, allowed=allowed, exact=True)
    plain = index.search(query, 43, allowed=allowed, exact=True)
    assert set(found.ids.tolist()) <= set(allowed.tolist())
    least = float(plain.cosines[12])
    near = search_expanded(
        index, graph, Expansion(), query, 20, allowed=allowed, exact=True, least=least
    )
    assert set(near.ids[:13].tolist()) == set(plain.ids[:13].tolist())
    assert near.ids[13:].tolist() == [-1] * 7
    assert (near.cosines[13:] == -np.inf).all()


@pytest.mark.parametrize("exact", [True, False])
def test_longer_lists_begin_as_shorter_ones_do(exact: bool) -> None:
    """Pages of a list have no hit twice: each is the end of a longer list."""
    index = index_of(clustered(900))
    graph = NeighbourGraph.build(index)
    for query in clustered(5, 3):
        longest = search_expanded(index, graph, Expansion(), query, 800, exact=exact)
        for k in (5, 31, 151, 200) if not exact else (5, 31, 151, 200, 201, 399, 401):
            shorter = search_expanded(index, graph, Expansion(), query, k, exact=exact)
            assert shorter.ids.tolist() == longest.ids[:k].tolist()


def test_a_graph_that_lags_behind_still_orders_what_it_knows() -> None:
    index = index_of(clustered(300))
    graph = NeighbourGraph.build(index)
    index.remove(np.arange(0, 300, 5))
    index.add(np.arange(300, 340), clustered(40, 2))
    query = clustered(1, 3)[0]
    found = search_expanded(index, graph, Expansion(), query, 280, exact=True)
    assert sorted(found.ids.tolist()) == index.ids.tolist()
    nothing = reorder(graph, Expansion(), Neighbors(np.array([500, 501]), np.ones(2, np.float32)))
    assert nothing.ids.tolist() == [500, 501]
