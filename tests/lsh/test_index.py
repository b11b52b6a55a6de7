"""The index against exact search, whatever its hash family."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from lookalike.lsh import LSHIndex, LSHSettings, SearchSettings
from lookalike.lsh.families import CODES, KEYS
from lookalike.lsh.hashing import Hasher, Prepared
from lookalike.lsh.index import EXACT_AT_ONCE
from lookalike.lsh.kernels import search_range
from lookalike.lsh.probing import project
from lookalike.lsh.segment import AT_ONCE

DIM = 48
Floats = NDArray[np.float32]


def clustered(n: int, seed: int, dim: int = DIM) -> Floats:
    """Unit vectors around random centres, so that neighbours mean something."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, dim))
    points = centres[rng.integers(0, 40, n)] + 0.6 * rng.standard_normal((n, dim))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def exact(queries: Floats, vectors: Floats, k: int) -> NDArray[np.int64]:
    cosines = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def recall(found: NDArray[np.int64], oracle: NDArray[np.int64]) -> float:
    pairs = zip(found, oracle, strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs]))


def made(rows: Floats, **settings: Any) -> LSHIndex:
    index = LSHIndex(settings=LSHSettings(rows.shape[1], **settings))
    index.add(np.arange(len(rows)), rows)
    return index


VECTORS, QUERIES = clustered(6000, 0), clustered(100, 1)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("tables", [1, 3])
def test_probing_everything_and_reranking_everything_equals_exact_search(
    keys: Any, tables: int
) -> None:
    index = made(VECTORS, keys=keys, tables=tables, vectors="float32")
    found = index.search(QUERIES, 10, candidates=10**9, rerank=6000)
    assert recall(found.ids, exact(QUERIES, VECTORS, 10)) == 1
    own = (QUERIES[:, np.newaxis] * VECTORS[found.ids]).sum(axis=2)
    assert np.allclose(found.cosines, own, atol=1e-6)
    assert (np.diff(found.cosines, axis=1) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("ranking", ["asymmetric", "hamming"])
def test_every_family_finds_most_neighbours_at_a_third_of_the_candidates(
    keys: Any, codes: Any, ranking: Any
) -> None:
    index = made(VECTORS, keys=keys, codes=codes, ranking=ranking, tables=2, key_bits=6)
    found = index.search(QUERIES, 10, candidates=2000, rerank=300)
    # Measured 0.93 (cross-polytope, Hamming) to 1.0; probing 1/3 at random would find 0.33.
    assert recall(found.ids, exact(QUERIES, VECTORS, 10)) > 0.85


def test_asymmetric_ranking_needs_fewer_reranks_than_hamming() -> None:
    oracle = exact(QUERIES, VECTORS, 10)
    reached = {
        ranking: recall(
            made(VECTORS, ranking=ranking).search(QUERIES, 10, candidates=6000, rerank=25).ids,
            oracle,
        )
        for ranking in ("asymmetric", "hamming")
    }
    assert reached["asymmetric"] > reached["hamming"] + 0.05


def test_queries_in_any_layout_are_searched_without_compiling_again() -> None:
    index = made(VECTORS)
    found = index.search(QUERIES[:8], 5)
    index.search(QUERIES[0], 5)
    known = len(search_range.signatures), len(project.signatures)
    mapped = QUERIES[:8].copy()
    mapped.flags.writeable = False
    for queries in (mapped, np.repeat(mapped, 2, axis=0)[::2], np.asfortranarray(mapped)):
        assert np.array_equal(index.search(queries, 5).ids, found.ids)
        assert np.array_equal(index.search(queries[3], 5).ids, found.ids[3])
    assert (len(search_range.signatures), len(project.signatures)) == known


def test_codes_without_vectors_rank_by_themselves_and_estimate_the_cosine() -> None:
    index = made(VECTORS, vectors="none")
    found = index.search(QUERIES, 10, candidates=6000)
    true = (QUERIES[:, np.newaxis] * VECTORS[found.ids]).sum(axis=2)
    assert recall(found.ids, exact(QUERIES, VECTORS, 10)) > 0.5
    assert np.abs(found.cosines - true).mean() < 0.08
    with pytest.raises(ValueError, match="keeps no vectors"):
        index.search(QUERIES, 10, exact=True)


def test_a_cosine_is_estimated_where_all_items_and_the_query_are_equal() -> None:
    index = made(np.repeat(VECTORS[:1], 50, axis=0), vectors="none", codes="itq")
    with np.errstate(all="raise"):
        assert index.search(VECTORS[:1], 3).cosines == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("tables", [1, 4])
def test_k_items_come_back_although_the_candidates_allow_fewer(tables: int) -> None:
    index = made(VECTORS, tables=tables, key_bits=8)
    found = index.search(QUERIES, 200, candidates=1, rerank=1)
    assert (found.ids >= 0).all()
    assert all(len(set(row)) == 200 for row in found.ids.tolist())


@pytest.mark.parametrize("exact", [False, True, None])
def test_more_than_there_is_fills_up_with_minus_one(exact: bool | None) -> None:
    index, many = made(VECTORS[:7]), 10**6
    ranks = np.argsort(-(QUERIES @ VECTORS[:7].T) / np.linalg.norm(VECTORS[:7], axis=1), axis=1)
    for k in (10, many):
        found = index.search(QUERIES[:9], k, exact=exact)
        np.testing.assert_array_equal(found.ids[:, :7], ranks[:9])
        one = index.search(QUERIES[0], k, exact=exact, allowed=[6, 2, 7])
        assert one.ids[:2].tolist() == [number for number in ranks[0] if number in (2, 6)]
        none = LSHIndex(VECTORS.shape[1]).search(QUERIES[:9], k, exact=exact)
        for ids, cosines in ((found.ids[:, 7:], found.cosines[:, 7:]), none):
            assert ids.shape == cosines.shape and ids.shape[0] == 9 and ids.shape[1] >= k - 7
            assert (ids == -1).all() and np.isneginf(cosines).all()
        assert one.ids.shape == (k,) and (one.ids[2:] == -1).all()


def test_an_index_that_never_held_an_item_says_that_it_has_no_codes_yet() -> None:
    index = LSHIndex(VECTORS.shape[1])
    with pytest.raises(ValueError, match="no hash functions before its first item"):
        index.code(VECTORS[0])
    assert index.hamming(VECTORS[0], []).tolist() == []
    index.add([3], VECTORS[:1])
    index.remove([3])
    assert index.code(VECTORS[0]).shape == (index.settings.code_bits // 64,)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_or_equal_vectors_are_indexed_by_every_family(
    keys: Any, codes: Any, count: int
) -> None:
    for rows in (VECTORS[:count], np.ones((count, DIM), np.float32)):
        found = made(rows, keys=keys, codes=codes).search(rows[0], count)
        assert sorted(found.ids.tolist()) == list(range(count))
        assert found.cosines[0] == pytest.approx(1, abs=1e-3)


def test_threads_and_company_do_not_change_the_result() -> None:
    index = made(VECTORS, tables=2)
    queries = clustered(700, 5)
    one, two = index.search(queries, 10, threads=1), index.search(queries, 10, threads=2)
    assert np.array_equal(one.ids, two.ids)
    alone = index.search(queries[3], 10)
    assert alone.ids.shape == (10,) and np.array_equal(alone.ids, one.ids[3])
    assert index.search(queries[3], np.int64(1)).ids.tolist() == alone.ids[:1].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("vectors", ["float16", "float32"])
def test_of_equal_items_an_exact_search_returns_the_first_by_id(vectors: Any) -> None:
    """Rounding in a product of matrices had chosen, of more than k + 8 of them."""
    which = np.random.default_rng(0).integers(0, 3, 5000)
    index = made(clustered(3, 3)[which][:3000], vectors=vectors)
    index.add(np.arange(3000, 5000), clustered(3, 3)[which][3000:])
    queries = clustered(20, 4)
    order = np.argsort(-queries @ clustered(3, 3).T, axis=1)
    for allowed in (np.arange(5000), np.arange(1, 5000, 3)):
        groups = [allowed[which[allowed] == number] for number in range(3)]
        wanted = np.array([np.concatenate([groups[i] for i in row]) for row in order])
        for k in (1, 10, 1000):
            found = index.search(queries, k, allowed=allowed, exact=True)
            assert np.array_equal(found.ids, wanted[:, :k])
            alone = index.search(queries[7], k, allowed=allowed, exact=True)
            assert np.array_equal(alone.ids, wanted[7, :k])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_projected_in_its_own_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BLAS's wait by spinning: beside another process a batch took six times as long."""
    index, true_prepare = made(VECTORS), Hasher.prepare
    met: set[tuple[int, int]] = set()

    def prepare(hasher: Hasher, queries: Floats) -> Prepared:
        blas = [part for part in threadpool_info() if part["user_api"] == "blas"]
        met.add((len(queries), min(part["num_threads"] for part in blas)))  # SciPy may have another
        return true_prepare(hasher, queries)

    monkeypatch.setattr(Hasher, "prepare", prepare)
    index.search(clustered(100, 5), 10, threads=threads)
    assert met == {(100 // threads, 1)}


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.05, 0.5])
def test_a_filter_applies_before_the_cut_to_k(share: float) -> None:
    index = made(VECTORS)
    rng = np.random.default_rng(3)
    allowed = np.sort(rng.choice(6000, int(share * 6000), replace=False))
    found = index.search(QUERIES, 10, allowed=allowed)
    count = min(10, len(allowed))
    assert ((found.ids >= 0).sum(axis=1) == count).all()
    assert np.isin(found.ids[:, :count], allowed).all()
    if count:
        oracle = allowed[exact(QUERIES, VECTORS[allowed], count)]
        assert recall(found.ids[:, :count], oracle) > 0.9


@pytest.mark.parametrize(("items", "left"), [(1000, 999), (6000, 1024)])
def test_where_a_filter_leaves_few_all_are_compared(items: int, left: int) -> None:
    index, allowed = made(VECTORS[:items]), np.arange(left)
    found = index.search(QUERIES, 10, allowed=allowed, candidates=10, rerank=10)
    oracle = index.search(QUERIES, 10, allowed=allowed, exact=True)
    assert np.array_equal(found.ids, oracle.ids)


def test_many_batches_merge_into_few_segments_and_answer_as_one() -> None:
    index = LSHIndex(DIM)
    for start in range(0, 6000, 150):
        index.add(np.arange(start, start + 150), VECTORS[start : start + 150])
    assert len(index) == 6000
    assert len(index.segments()) <= 9
    found = index.search(QUERIES, 10, candidates=6000, rerank=6000)
    assert recall(found.ids, exact(QUERIES, VECTORS, 10)) > 0.995  # float16 changes a few ties
    assert index.ids.tolist() == list(range(6000))


def test_merging_segments_equals_building_from_their_vectors() -> None:
    # Nothing is learned here, so that both indexes hash alike.
    index = LSHIndex(settings=LSHSettings.paper(DIM, tables=2, key_bits=5))
    for start in range(0, 900, 300):
        index.add(np.arange(start, start + 300), VECTORS[start : start + 300])
    index.remove([5, 17, 899])
    index.compact()
    kept = np.setdiff1d(np.arange(900), [5, 17, 899])
    fresh = LSHIndex(settings=index.settings)
    fresh.add(kept, VECTORS[kept])
    for name in ("ids", "by_id", "vectors", "codes", "corrections", "offsets", "blocks", "rows"):
        ours, theirs = getattr(index.segments()[0], name), getattr(fresh.segments()[0], name)
        assert np.array_equal(ours, theirs), name


def test_removed_items_are_not_found_and_their_place_is_taken_by_others() -> None:
    index = made(VECTORS)
    before = index.search(QUERIES, 20).ids
    gone = np.unique(before[:, :10])
    index.remove(gone)
    assert len(index) == 6000 - len(gone)
    left = np.setdiff1d(np.arange(6000), gone)
    after = index.search(QUERIES, 10).ids
    assert not np.isin(after, gone).any()
    assert recall(after, left[exact(QUERIES, VECTORS[left], 10)]) > 0.95
    index.compact()
    assert np.array_equal(index.ids, left)
    assert not np.isin(index.search(QUERIES, 10).ids, gone).any()


def test_an_id_can_come_back_after_removal() -> None:
    index = made(VECTORS)
    index.remove([3])
    index.add([3], QUERIES[:1])
    assert index.search(QUERIES[0], 1).ids[0] == 3


def test_hamming_counts_the_bits_of_the_two_codes_that_differ() -> None:
    index = made(VECTORS, codes="hyperplanes", center=False)
    planes = np.random.default_rng(0).standard_normal((256, DIM)).astype(np.float32)
    query = QUERIES[0]
    stored = VECTORS[:40].astype(np.float16).astype(np.float32)
    expected = ((stored @ planes.T > 0) != (query @ planes.T > 0)).sum(axis=1)
    assert np.abs(index.hamming(query, np.arange(40)) - expected).max() <= 1  # a bit on the plane
    assert index.hamming(VECTORS[7], [7])[0] <= 2


def test_few_ids_and_many_are_found_alike_and_unknown_ones_are_not() -> None:
    ids = np.random.default_rng(0).permutation(1500) * 2
    index = LSHIndex(DIM)
    index.add(ids, clustered(1500, 1))
    (segment,) = index.segments()
    wanted = np.arange(-1, 3002)
    rows = segment.find(wanted)
    assert np.array_equal(rows >= 0, np.isin(wanted, ids))
    assert np.array_equal(segment.ids[rows[rows >= 0]], wanted[rows >= 0])
    assert len(segment) > AT_ONCE, "so that one is looked up by itself"
    assert [segment.find(wanted[i : i + 1])[0] for i in range(len(wanted))] == rows.tolist()


def test_a_search_that_may_choose_compares_few_items_and_hashes_many() -> None:
    vectors, query = clustered(EXACT_AT_ONCE + 1, 2, 8), clustered(1, 3, 8)[0]
    index = LSHIndex(8)
    index.add(np.arange(EXACT_AT_ONCE), vectors[:-1])
    few = {"candidates": 1, "rerank": 1}
    true = index.search(query, 50, exact=True)
    assert np.array_equal(index.search(query, 50, exact=None, **few).ids, true.ids)
    index.add([EXACT_AT_ONCE], vectors[-1:])
    chosen, hashed = (index.search(query, 50, exact=way, **few) for way in (None, False))
    assert np.array_equal(chosen.ids, hashed.ids)
    assert not np.array_equal(chosen.ids, true.ids)
    bare = LSHIndex(settings=LSHSettings(dim=8, vectors="none"))
    bare.add(np.arange(100), vectors[:100])
    chosen, hashed = (bare.search(query, 5, exact=way) for way in (None, False))
    assert np.array_equal(chosen.ids, hashed.ids)


@pytest.mark.parametrize("dim", [DIM, 256, 1024])  # a matrix, fast rotations, and of leading axes
def test_a_process_that_searches_once_among_few_loads_no_compiler(tmp_path: Path, dim: int) -> None:
    index = made(clustered(300, 5, dim))
    index.save(tmp_path)
    program = """
import sys, numpy as np
from lookalike.lsh import LSHIndex
index = LSHIndex.open(sys.argv[1])
query = index.vectors([7])[0]
print(*index.search(query, 3, exact=None).ids, *index.hamming(query, [7, 8]))
assert not {"numba", "scipy"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    query = index.vectors([7])[0]
    wanted = [*index.search(query, 3, exact=True).ids, *index.hamming(query, [7, 8])]
    assert done.stdout.split() == [str(number) for number in wanted] and wanted[3] == 0


def test_range_search_returns_exactly_what_is_near() -> None:
    index = made(VECTORS, vectors="float32")
    cosines = QUERIES[0] @ VECTORS.T
    threshold = float(np.sort(cosines)[-150] - 1e-5)
    found = index.range_search(QUERIES[0], threshold)
    assert set(found.ids.tolist()) == set(np.flatnonzero(cosines >= threshold).tolist())
    assert len(index.range_search(QUERIES[0], 0.9999)) == 2
    assert index.range_search(QUERIES[0], 0.99999).ids.size == 0


def test_any_length_of_vector_gives_the_same_cosine() -> None:
    index = made(VECTORS * 37, vectors="float32")
    found = index.search(QUERIES[0] * 0.01, 1)
    assert found.cosines[0] == pytest.approx(float(QUERIES[0] @ VECTORS[found.ids[0]]), abs=1e-5)


def test_a_query_is_searched_again_as_before_however_it_is_given() -> None:
    index = made(VECTORS)
    found = index.search(QUERIES[:9], 5)
    for i in range(9):
        query, here = QUERIES[i], QUERIES[i : i + 1]
        read_only = query.copy()
        read_only.flags.writeable = False
        ways = query, here, 37 * query, 1e-20 * query, query.astype(np.float64), query.tolist()
        for way in (*ways, np.repeat(query, 2)[::2], np.asfortranarray(here), read_only):
            again = index.search(way, 5)
            assert again.ids.shape == (*np.shape(way)[:-1], 5)
            assert np.array_equal(again.ids.ravel(), found.ids[i])
            assert again.cosines.ravel() == pytest.approx(found.cosines[i], abs=1e-6)
    zero, bad = np.zeros(DIM, np.float32), np.full(DIM, np.nan, np.float32)
    for wrong, message in ((zero, "zero"), (bad, "not finite"), (QUERIES[0, 1:], "shape")):
        with pytest.raises(ValueError, match=message):
            index.search(wrong, 5)
    for k in ([5], 5.5, 0):
        with pytest.raises(ValueError, match="k is"):
            index.search(QUERIES[0], k)  # type: ignore[arg-type]
    index.remove(found.ids[0, :1])
    assert index.search(QUERIES[0], 5).ids[0] == found.ids[0, 1]
    index.settings = replace(index.settings, search=SearchSettings(candidates=1, rerank=1))
    few = made(VECTORS, search=SearchSettings(candidates=1, rerank=1))
    assert np.array_equal(index.search(QUERIES[3], 5).ids, few.search(QUERIES[3:4], 5).ids[0])


def test_centring_evens_out_the_buckets_of_vectors_in_one_half_space() -> None:
    shifted = VECTORS + np.float32(0.5)
    largest = {
        center: np.diff(
            made(shifted, center=center, keys="orthogonal", codes="orthogonal", key_bits=4)
            .segments()[0]
            .offsets[0]
        ).max()
        for center in (True, False)
    }
    assert largest[True] < 0.5 * largest[False]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda i: i.add([1], np.ones((1, 3))), r"\(1, 3\).*\(n, 48\)"),
        (lambda i: i.add([1], np.full((1, DIM), np.nan)), "vector 0 is not finite"),
        (lambda i: i.add([1], np.full((1, DIM), 1e39)), "infinity or above 3.4e38"),
        (lambda i: i.add([1], np.ones((1, DIM)) * 1j), "vectors are complex"),
        (lambda i: i.search(np.ones(DIM) * 1j), "vectors are complex"),
        (lambda i: i.range_search(np.ones(DIM) * 1j, 0.5), "vectors are complex"),
        (lambda i: i.add([1, 2], np.zeros((2, DIM))), "vector 0 is zero"),
        (lambda i: i.add([1, 1], np.ones((2, DIM))), "repeat"),
        (lambda i: i.add([5], np.ones((1, DIM))), "id 5 is in the index already"),
        (lambda i: i.add([-1], np.ones((1, DIM))), "integers from 0"),
        (lambda i: i.add([0.5], np.ones((1, DIM))), "integers from 0"),
        (lambda i: i.add([100, 101], np.ones((1, DIM))), "2 ids for 1 vectors"),
        (lambda i: i.search(np.ones(DIM), 0), "k is 0"),
        (lambda i: i.search(np.zeros(DIM), 1), "zero"),
        (lambda i: i.search(np.ones(DIM - 1), 1), "takes"),
        (lambda i: i.search(np.ones(DIM), 2.5), "k is 2.5"),
        (lambda i: i.search(np.ones(DIM), candidates=-5), "candidates is -5"),
        (lambda i: i.search(np.ones(DIM), candidates=0), "candidates is 0"),
        (lambda i: i.search(np.ones(DIM), rerank=-5), "rerank is -5"),
        (lambda i: i.search(np.ones(DIM), rerank=True), "rerank is True"),
        (lambda i: i.search(np.ones((2, DIM)), threads=0), "threads is 0"),
        (lambda i: i.search(np.ones(DIM), allowed=[-1]), "integers from 0"),
        (lambda i: i.range_search(np.ones(DIM), np.nan), "threshold is nan"),
        (lambda i: i.range_search(np.ones((1, DIM)), 0.5), "query has shape"),
        (lambda i: i.hamming(np.ones((1, DIM)), [1]), "query has shape"),
        (lambda i: i.contains(np.array([1 << 63], np.uint64)), "2\\^63 - 1"),
        (lambda i: i.replace([1, 1], VECTORS[:2]), "repeat"),
        (lambda i: i.replace([2, 3], VECTORS[:1]), "2 ids for 1 vectors"),
        (lambda i: i.replace([4, -4], VECTORS[:2]), "integers from 0"),
        (lambda i: i.replace([5], np.zeros((1, DIM))), "zero"),
        (lambda i: i.tune(1.5), "target_recall"),
        (lambda i: i.tune(0.5, 0), "k is 0"),
        (lambda i: i.tune(queries=np.empty((0, DIM))), "no queries"),
        (lambda i: i.link(queries=np.empty((0, DIM))), "no queries"),
        (lambda i: i.with_settings(LSHSettings(3)), "for dim 3; this index has dim 48"),
        (lambda i: i.evaluate(np.empty((0, DIM))), "no queries"),
        (lambda i: i.sample(-1), "count is -1"),
        *(
            (lambda i, call=call, value=value: getattr(i, call)(value), "threshold is")
            for call in ("join", "groups")
            for value in (2.0, -1.0, np.nan, np.inf, -np.inf)
        ),
        (lambda i: i.groups(0.9, recall=np.nan), "recall nan"),
        (lambda i: i.join(0.9, limit=0), "limit is 0"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(action: Any, message: str) -> None:
    index = made(VECTORS[:60])
    before = index.search(QUERIES, 5)
    with pytest.raises(ValueError, match=message):
        action(index)
    after = index.search(QUERIES, 5)
    assert np.array_equal(before.ids, after.ids)
    assert len(index) == 60


@pytest.mark.parametrize("call", ["remove", "vectors"])
def test_an_unknown_id_is_named(call: str) -> None:
    index = made(VECTORS[:60])
    with pytest.raises(KeyError, match="id 777 is not in the index"):
        getattr(index, call)([3, 777])
    assert len(index) == 60


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({"dim": value}, f"dim is '?{value}") for value in (0, True, 1.5, "8")),
        *(({"tables": value}, f"tables is {value}") for value in (0, True)),
        *(({"key_bits": value}, f"key_bits is {value}") for value in (15, False, 2.0)),
        *(({"code_bits": value}, f"code_bits is {value}") for value in (100, 64.0)),
        *(({"keys": value}, "keys is") for value in ("md5", None, ["voronoi"])),
        ({"codes": "md5"}, "codes is 'md5'"),
        ({"ranking": "x"}, "ranking is 'x'"),
        ({"vectors": "int3"}, "vectors is 'int3'"),
        *(({"center": value}, f"center is {value}") for value in (1, None)),
        *(({"seed": value}, f"seed is {value}") for value in (-1, True)),
        ({"search": None}, "."),
        ({"search": {"candidates": True, "rerank": None}}, "candidates is True"),
        ({"search": {"candidates": 0, "rerank": None}}, "candidates is 0"),
        ({"search": {"candidates": None, "rerank": 1 << 33}}, "rerank is 8589934592"),
        ({"search": {"candidates": None}}, "unknown or missing"),
        ({"other": 1}, "other"),
    ],
)
def test_settings_of_another_type_or_range_are_refused(
    values: dict[str, object], message: str
) -> None:
    good = LSHSettings(DIM).as_dict()
    assert LSHSettings.from_dict(good) == LSHSettings(DIM)
    with pytest.raises(ValueError, match=message):
        LSHSettings.from_dict({**good, **values})


@pytest.mark.parametrize("value", [None, [], 5, "x"])
def test_settings_that_are_not_a_dictionary_are_refused(value: object) -> None:
    with pytest.raises(ValueError):
        LSHSettings.from_dict(value)


def test_search_settings_are_checked_and_used() -> None:
    with pytest.raises(ValueError, match="rerank is 0"):
        SearchSettings(rerank=0)
    narrow = made(VECTORS, search=SearchSettings(candidates=1, rerank=10), key_bits=8)
    wide = made(VECTORS, search=SearchSettings(candidates=6000, rerank=2000), key_bits=8)
    oracle = exact(QUERIES, VECTORS, 10)
    assert recall(narrow.search(QUERIES, 10).ids, oracle) < 0.8
    assert recall(wide.search(QUERIES, 10).ids, oracle) > 0.99


def test_compacting_codes_alone_keeps_segments_of_different_key_bits_apart() -> None:
    vectors = np.random.default_rng(3).standard_normal((6000, 32))
    index = LSHIndex(settings=LSHSettings(32, vectors="none"))
    for start, stop in ((0, 5000), (5000, 5500), (5500, 5900), (5900, 6000)):
        index.add(np.arange(start, stop), vectors[start:stop])
    bits = [segment.key_bits for segment in index.segments()]
    assert len(set(bits)) > 1
    index.remove([3, 5200])
    index.compact()
    assert [segment.key_bits for segment in index.segments()] == list(dict.fromkeys(bits))
    assert index.ids.tolist() == [i for i in range(6000) if i not in (3, 5200)]
    assert sum(len(segment) for segment in index.segments()) == 5998
    hits = index.search(vectors[[0, 5100, 5950]], 1, candidates=6000).ids[:, 0]
    assert hits.tolist() == [0, 5100, 5950]


def test_a_range_without_a_lower_end_is_all_items_that_count() -> None:
    assert LSHIndex(DIM).range_search(QUERIES[0], -np.inf).ids.tolist() == []
    index = made(VECTORS[:300])
    for allowed in ([3], [3, 70, 5000], []):
        found = index.range_search(QUERIES[0], -np.inf, allowed=allowed)
        assert sorted(found.ids.tolist()) == [i for i in allowed if i < 300]
    index.remove([7])
    assert len(index.range_search(QUERIES[0], -np.inf).ids) == 299
    assert index.range_search(VECTORS[0], np.inf).ids.tolist() == []


@pytest.mark.parametrize("vectors", ["float16", "float32", "none"])
@pytest.mark.parametrize("exactly", [False, True])
def test_cosines_are_from_minus_one_to_one(vectors: Any, exactly: bool) -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((40, 64)), 50, axis=0)
    index = made(rows.astype(np.float32), vectors=vectors)
    if exactly and vectors == "none":
        return
    for sign in (1, -1):
        found = index.search(sign * rows[::50], 3, exact=exactly).cosines
        assert -1 <= found.min() <= found.max() <= 1


@pytest.mark.slow
def test_a_search_while_items_are_replaced_finds_the_old_ones_or_the_new() -> None:
    index = made(VECTORS[:300])
    began, wrong = threading.Event(), list[int]()

    def watch() -> None:
        began.set()
        while not done.is_set():
            wrong.extend({300} - {len(index.range_search(QUERIES[0], -np.inf).ids)})

    done = threading.Event()
    watching = threading.Thread(target=watch)
    watching.start()
    began.wait()
    for start in range(60):
        index.replace(np.arange(300), np.roll(VECTORS[:300], start, axis=0))
    done.set()
    watching.join()
    assert wrong == []


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("vectors", ["float16", "none"])
def test_a_pickled_index_answers_as_the_first(tmp_path: Path, saved: bool, vectors: Any) -> None:
    index = made(VECTORS[:900], vectors=vectors)
    index.add([1000], QUERIES[:1])
    index.remove([3])
    if saved:
        index.save(tmp_path)
    pickled = pickle.dumps(index)
    assert (len(pickled) < 1000) == saved
    for other in (pickle.loads(pickled), copy.deepcopy(index)):
        assert other.settings == index.settings
        ours, theirs = other.search(QUERIES, 5), index.search(QUERIES, 5)
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.cosines, theirs.cosines)
        other.add([3], VECTORS[3:4])
        assert len(other) == len(index) + 1


def test_changes_that_are_not_saved_are_pickled(tmp_path: Path) -> None:
    index = made(VECTORS[:50])
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    opened.remove([7])
    assert pickle.loads(pickle.dumps(opened)).ids.tolist() == opened.ids.tolist()
    index.settings = replace(index.settings, search=SearchSettings(rerank=9))
    assert pickle.loads(pickle.dumps(index)).settings.search.rerank == 9


@pytest.mark.parametrize("tables", [1, 2])
def test_re_ranking_more_than_there_is_costs_no_memory_and_finds_what_exact_search_finds(
    tables: int,
) -> None:
    rows = np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
    search = SearchSettings(candidates=1 << 32, rerank=1 << 32)
    index = LSHIndex(settings=LSHSettings(32, tables=tables, search=search))
    index.add(np.arange(3000), rows)
    found, expected = index.search(rows[:5], 20), index.search(rows[:5], 20, exact=True)
    assert np.array_equal(found.ids, expected.ids)
