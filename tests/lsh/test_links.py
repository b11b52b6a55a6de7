"""Links between near items: made as published, followed to what a scan finds, never to anything
that does not count.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh import LSHIndex, linking
from lookalike.lsh.exact import search_exactly
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.links import LINKS, Links
from lookalike.lsh.search import LONG_WAY, Asked, beam_for
from lookalike.lsh.segment import Factors
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.simd import CORRECTION_ONE
from lookalike.lsh.tuning import recall_of

N, DIM, K = 8000, 32, 10
Floats = NDArray[np.float32]


def rows(count: int, seed: int) -> Floats:
    """Unit vectors as of images: clusters whose items differ in few directions."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres = fixed.standard_normal((40, DIM))
    spread = fixed.standard_normal((6, DIM))
    found = centres[rng.integers(0, 40, count)] + rng.standard_normal((count, 6)) @ spread
    found += 0.1 * rng.standard_normal((count, DIM))
    unit: Floats = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


ITEMS, QUERIES = rows(N, 1), rows(300, 2)


def made(items: Floats = ITEMS) -> LSHIndex:
    index = LSHIndex(dim=items.shape[1])
    index.add(np.arange(len(items)), items)
    return index


@pytest.fixture(autouse=True)
def few_are_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "LINKED_FROM", 1000)
    monkeypatch.setattr(linking, "SCANNED", 50)


@pytest.fixture(scope="module")
def linked() -> LSHIndex:
    index = made()
    with pytest.MonkeyPatch.context() as patched:
        few_are_linked.__wrapped__(patched)  # type: ignore[attr-defined]
        index.link()
    return index


def links_of(index: LSHIndex) -> Links:
    (segment,) = index.segments()
    assert segment.links is not None
    return segment.links


def found_of(index: LSHIndex, queries: Floats = QUERIES) -> int:
    exact, found = index.search(queries, K, exact=True).ids, index.search(queries, K).ids
    return sum(len(np.intersect1d(*pair)) for pair in zip(exact, found, strict=True))


def test_links_are_those_of_the_published_algorithm() -> None:
    items = rows(1500, 3)
    index = made(items)
    graph = NeighbourGraph.build(index)
    index.link(graph)
    (segment,) = index.segments()
    vectors = segment.vectors.astype(np.float64)
    cosines = vectors @ vectors.T
    place = segment.find(graph.ids)
    near = dict(zip(place.tolist(), place[graph.near[:, : linking.NEAREST]].tolist(), strict=True))
    back: dict[int, list[int]] = {row: [] for row in near}
    for rank in range(linking.NEAREST):
        for row in range(len(items)):
            back[near[row][rank]].append(row)
    differing = 0
    for row in range(len(items)):
        others = list(dict.fromkeys(near[row] + back[row][: linking.NEAREST]))
        others.sort(key=lambda other: -cosines[row, other])
        chosen: list[int] = []
        for other in others:
            if all(1.21 * (1 - cosines[link, other]) >= 1 - cosines[row, other] for link in chosen):
                chosen.append(other)
        chosen += [other for other in others if other not in chosen]
        differing += set(chosen[:LINKS]) != set(links_of(index).rows[row].tolist())
    assert differing <= 5, "but for rounding"


def test_what_a_link_stores_estimates_the_cosine_as_its_formula_says(linked: LSHIndex) -> None:
    (segment,), hasher, links = linked.segments(), linked.hasher, links_of(linked)
    assert hasher is not None
    width, lanes = (
        hasher.settings.code_bits // 8,
        np.arange(LINKS) % 16 * 2 + np.arange(LINKS) // 16,
    )
    planes, mean = hasher.code_planes.astype(np.float64), hasher.mean.astype(np.float64)
    vectors = segment.vectors.astype(np.float64)
    errors, spreads = [], []
    for c in range(0, N, 160):
        r = vectors[links.rows[c]] - vectors[c]
        blocks = links.records[c, : LINKS * width].reshape(width, LINKS)[:, lanes].T
        signs = 2.0 * np.unpackbits(blocks, axis=1, bitorder="little") - 1
        clear = np.abs(r @ planes.T) > 1e-5
        assert (np.sign(r @ planes.T) == signs)[clear].all()
        shorts = links.records[c, LINKS * width :].view(np.int16)[: 2 * LINKS]
        corrections = shorts[:LINKS] * links.units[0] / CORRECTION_ONE
        additions = shorts[LINKS:] * links.units[1]
        expected = (r**2).sum(axis=1) / np.maximum(np.abs(r @ planes.T).sum(axis=1), 1e-12)
        np.testing.assert_allclose(corrections, expected, atol=2 * links.units[0] / CORRECTION_ONE)

        def estimate(queries: NDArray[np.float64]) -> Any:
            sums = (queries - mean) @ planes.T @ signs.T  # noqa: B023
            return (queries @ vectors[c])[:, np.newaxis] + corrections * sums + additions  # noqa: B023

        along = vectors[c] + 0.3 * r  # for which it is exact
        exact = np.einsum("ld,ld->l", along, vectors[links.rows[c]])
        np.testing.assert_allclose(np.diag(estimate(along)), exact, atol=1e-3)
        near = QUERIES[np.argsort(-(QUERIES @ vectors[c]))[:10]].astype(np.float64)
        errors.append(estimate(near) - near @ vectors[links.rows[c]].T)
        spreads.append(near @ r.T)
    assert abs(np.mean(errors)) < 0.1 * np.std(errors), "unbiased"
    assert np.std(errors) < 0.4 * np.std(spreads)


def test_links_that_lead_nowhere_leave_no_place_empty(linked: LSHIndex) -> None:
    (segment,) = linked.segments()
    records = links_of(linked).records.copy()
    records.view(np.uint32)[:, -LINKS:] = np.arange(N)[:, np.newaxis]  # each to itself
    index = made()
    alone = segment.linked(replace(links_of(linked), records=records))
    index._state = replace(index._state, segments=(alone,))
    found, exact = index.search(QUERIES, K), index.search(QUERIES, K, exact=True)
    assert (found.ids >= 0).all()
    assert all(len(set(ids)) == K for ids in found.ids.tolist())
    assert np.isin(found.ids[:, 0], exact.ids).mean() > 0.9
    one_by_one = [index.search(query, K).ids for query in QUERIES[:20]]
    assert np.array_equal(one_by_one, found.ids[:20])


def test_what_is_ranked_by_equal_bits_has_no_links() -> None:
    index = LSHIndex(settings=LSHSettings.paper(DIM))
    index.add(np.arange(N), ITEMS)
    index.link()
    assert index.segments()[0].links is None


def test_a_search_finds_at_least_as_many_and_looks_at_fewer(linked: LSHIndex) -> None:
    assert links_of(linked).beam in linking.BEAMS
    scanned = found_of(made())
    assert 0.9 * QUERIES.shape[0] * K < scanned <= found_of(linked) + 15
    few = linked.search(QUERIES, K, candidates=682, rerank=40).ids  # what it scans, without links
    exact = linked.search(QUERIES, K, exact=True).ids
    assert sum(len(np.intersect1d(*pair)) for pair in zip(exact, few, strict=True)) < scanned


def test_links_are_followed_for_as_long_as_the_scan_takes_that_finds_as_many(
    linked: LSHIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linking, "ENOUGH", 1.01)
    index = made()
    index.link()
    assert links_of(index).beam == 80  # of at most 4,096 / 50
    index = made()
    (segment,) = index.segments()
    slow = replace(segment, factors=Factors((4.0,) * 3, (8.0,) * 3))
    index._state = replace(index._state, segments=(slow,))
    index.link()
    assert links_of(index).beam == 256
    assert found_of(index) >= found_of(linked)


def test_links_are_not_followed_where_a_scan_as_long_finds_more() -> None:
    noise = np.random.default_rng(5).standard_normal((8300, 64)).astype(np.float32)
    index, queries = made(noise[:8000]), noise[8000:]
    index.link()
    assert links_of(index).beam == 0
    exact = index.search(queries, K, exact=True).ids
    scanned = found_of(index, queries)
    (segment,) = index.segments()
    wide = segment.linked(replace(links_of(index), beam=96))
    index._state = replace(index._state, segments=(wide,))
    assert found_of(index, queries) < scanned
    assert scanned > 0.93 * exact.size


def test_links_are_measured_with_the_queries_that_are_given() -> None:
    index, rng = made(), np.random.default_rng(5)
    elsewhere = rng.standard_normal((2, 500, DIM)).astype(np.float32)
    index.link()
    narrow = index.segments()[0].linked(replace(links_of(index), beam=16))
    index._state = replace(index._state, segments=(narrow,))
    index.link(queries=elsewhere[0])
    assert links_of(index).beam > 16
    assert found_of(index, elsewhere[1]) >= 0.99 * found_of(made(), elsewhere[1])
    with pytest.raises(ValueError, match="vectors have shape"):
        index.link(queries=elsewhere[:, :, 1:])


def test_a_beam_grows_with_the_results_by_24_for_ten_at_most() -> None:
    def beam(linked: int, k: int) -> int:
        return beam_for(linked, 10**5, 10**5, Asked(k, None, None, None, k))

    assert [beam(16, k) for k in (1, 10, 50, 100)] == [16, 16, 80, 160]
    assert [beam(24, k) for k in (1, 10, 50, 100)] == [24, 24, 120, 240]
    assert [beam(128, k) for k in (1, 10, 50, 100)] == [128, 128, 224, 344]


def test_items_of_which_there_are_many_are_scanned_for_they_lead_to_their_equals() -> None:
    rng = np.random.default_rng(7)
    different = rng.standard_normal((200, DIM))
    index = made(np.repeat(different, 40, axis=0).astype(np.float32))
    index.link()
    queries = different + 0.1 * rng.standard_normal((200, DIM))
    for k in (10, 50):
        found, exact = index.search(queries, k), index.search(queries, k, exact=True)
        assert recall_of(found.cosines, exact.cosines) > 0.98


def test_cosines_are_exact_and_an_item_searched_by_itself_is_first(linked: LSHIndex) -> None:
    found = linked.search(ITEMS, K)
    assert (found.ids[:, 0] == np.arange(N)).all()
    own = np.einsum("qd,qkd->qk", ITEMS, ITEMS[found.ids])
    np.testing.assert_allclose(found.cosines, own, atol=1e-3)  # kept in float16
    assert (np.diff(found.cosines, axis=1) <= 0).all()
    assert (np.diff(np.sort(found.ids, axis=1), axis=1) > 0).all(), "nothing twice"


@pytest.mark.parametrize("dim", [DIM, 128])  # codes by a matrix; by fast rotations
def test_one_query_finds_what_it_finds_among_others(dim: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((dim, dim)))[0][:DIM]
    index, queries = made(ITEMS[:3000] @ turn), (QUERIES[:100] @ turn).astype(np.float32)
    index.link()
    found, exact = index.search(queries, K, beam=40), index.search(queries, K, exact=True)
    assert recall_of(found.cosines, exact.cosines) > 0.97
    for i, query in enumerate(queries):
        for length in (1, 1, 40):  # packed at the first; scaled where it is searched
            alone = index.search(np.float32(length) * query, K, beam=40)
            assert np.array_equal(alone.ids, found.ids[i])
            assert alone.cosines == pytest.approx(found.cosines[i], abs=1e-6)
    with pytest.raises(ValueError, match="not finite"):
        index.search(np.full(dim, np.inf, np.float32), K, beam=40)


def test_every_item_is_reached_though_links_do_not_leave_its_island() -> None:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((400, DIM)) / rng.zipf(1.5, (400, 1)).clip(1, 3)
    index = made(centres[np.arange(N) % 400] + 0.05 * rng.standard_normal((N, DIM)))
    index.link()
    (segment,), links = index.segments(), replace(links_of(index), entries=1)

    def missed(records: NDArray[np.uint8], beam: int) -> int:
        linked = segment.linked(replace(links, records=records[:], beam=beam))
        index._state = replace(index._state, segments=(linked,))
        found = index.search(index.vectors(np.arange(N)), 1, beam=beam)
        others = (found.ids[:, 0] != np.arange(N)) & (found.cosines[:, 0] < 1 - 2e-6)
        return int(np.count_nonzero(others))

    records = links.records.copy()
    assert missed(records, 20) > 100
    narrow = replace(links, records=records[:], beam=20)
    assert linking._reach_all(index._state.fitted, segment, records, narrow)
    assert [missed(records, beam) for beam in (20, 24, 64)] == [0, 0, 0]


@pytest.mark.slow
def test_links_made_to_what_was_missed_are_not_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(3).standard_normal((N, 128)) * np.arange(1, 129) ** -0.5
    index = made(noise.astype(np.float32))
    index.link()
    (segment,), links = index.segments(), links_of(index)
    records, write = links.records.copy(), linking._write
    leads = records.view(np.uint32)[:, -LINKS:]
    written = [leads.copy()]

    def noted(*given: Any) -> None:
        written.append(leads.copy())
        write(*given)

    monkeypatch.setattr(linking, "_write", noted)
    narrow = replace(links, records=records[:], beam=8)
    assert linking._reach_all(index._state.fitted, segment, records, narrow)
    assert len(written) > 5
    for before, after in pairwise(written):
        assert (leads == after)[before != after].all()


@pytest.mark.parametrize("n", [1, 2, 5, 31, 33, 70, 300])
def test_links_of_a_few_items_lead_to_each_once(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(linking, "LINKED_FROM", 1)
    index = made(ITEMS[:n])
    index.link()
    for beam in (1, 4, 16, 64):
        linked = index.segments()[0].linked(replace(links_of(index), beam=beam))
        index._state = replace(index._state, segments=(linked,))
        for k in (1, 10, 100):
            found = index.search(QUERIES, k).ids
            expected = np.arange(min(k, n))
            assert (np.count_nonzero(found >= 0, axis=1) == len(expected)).all()
            assert all(len(set(row)) == len(row) for row in found[:, : len(expected)].tolist())


def test_links_are_not_followed_where_some_items_would_not_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linking, "ROUNDS", 0)
    index = made()
    index.link()
    assert links_of(index).beam == 0
    np.testing.assert_array_equal(index.search(QUERIES, K).ids, made().search(QUERIES, K).ids)


def test_what_is_held_up_on_its_way_takes_a_longer_one_before_all_is_looked_at(
    linked: LSHIndex,
) -> None:
    (segment,), index = linked.segments(), made()
    assert segment.links is not None
    assert segment.factors is not None
    least = segment.factors.least
    narrow = segment.linked(replace(segment.links, beam=16))
    index._state = replace(linked._state, segments=(narrow,))
    exact = index.search(QUERIES, K, exact=True)
    nearest = index.search(QUERIES, K, beam=16).cosines[:, 0]
    held_up = (nearest < least) & (exact.cosines[:, 0] >= least)
    assert held_up.any()
    found = index.search(QUERIES[held_up], K)
    assert recall_of(found.cosines, exact.cosines[held_up]) >= 0.95
    asked = {(one[1], one[3]) for one in index._state.searches}
    assert (None, LONG_WAY) in asked
    assert (N, None) not in asked
    elsewhere = exact.cosines[:, 0] < least
    found = index.search(QUERIES[elsewhere], K)
    assert np.allclose(found.cosines, exact.cosines[elsewhere], atol=1e-6)
    assert (N, None) in {(one[1], one[3]) for one in index._state.searches}


def test_removed_items_lead_on_and_are_not_found() -> None:
    index = made()
    index.link()
    gone = np.arange(0, N, 20)
    index.remove(gone)
    assert links_of(index).beam > 0
    assert not np.isin(index.search(QUERIES, K).ids, gone).any()
    assert found_of(index) >= 0.97 * found_of(made())


def test_where_a_filter_leaves_few_or_depth_is_given_links_are_not_followed(
    linked: LSHIndex,
) -> None:
    plain, some = made(), np.arange(0, N, 2)
    options: tuple[dict[str, Any], ...] = (
        {"allowed": some},
        {"candidates": 900},
        {"rerank": 50},
        {"effort": 300},
        {"k": 200, "effort": K},
    )
    for how in options:
        found, expected = (index.search(QUERIES, **{"k": K, **how}) for index in (linked, plain))
        np.testing.assert_array_equal(found.ids, expected.ids)


def test_vectors_without_neighbourhoods_are_scanned() -> None:
    noise = np.random.default_rng(5).standard_normal((6000, 200)).astype(np.float32)
    index = made(noise)
    index.link()
    assert links_of(index).beam == 0
    queries = noise[:50] + 1
    np.testing.assert_array_equal(index.search(queries).ids, made(noise).search(queries).ids)


def test_they_are_stored_pickled_kept_by_removals_and_dropped_by_merging(
    linked: LSHIndex, tmp_path: Path
) -> None:
    expected = linked.search(QUERIES, K)
    linked.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    assert opened.damaged() == []
    for index in (opened, pickle.loads(pickle.dumps(linked)), pickle.loads(pickle.dumps(opened))):
        np.testing.assert_array_equal(index.search(QUERIES, K).ids, expected.ids)
        assert links_of(index).beam == links_of(linked).beam
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("links-*")}
    opened.remove([3])
    opened.link()
    opened.save(tmp_path)
    assert {path.name: path.stat().st_ino for path in tmp_path.glob("links-*")} == before
    opened.add([N], QUERIES[:1])
    opened.compact()
    opened.save(tmp_path)
    assert opened.segments()[0].links is None
    assert not list(tmp_path.glob("links-*"))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 3.0])  # found by scanning; by links
def test_neighbours_are_found_and_the_same_links_made_of_them_again(factor: float) -> None:
    exact = made().search(ITEMS, linking.NEAREST + 1, exact=True).ids

    def linked() -> LSHIndex:
        index = made()
        (segment,) = index.segments()
        wide = replace(segment, factors=Factors((factor,) * 3, (1.0,) * 3))
        index._state = replace(index._state, segments=(wide,))
        near = linking._found(index._state.fitted, wide)
        assert near.shape == (N, linking.NEAREST * (1 + (factor > linking.WIDENED)))
        assert not (near == np.arange(N)[:, np.newaxis]).any()
        ids = np.append(wide.ids, -1)[near[:, : linking.NEAREST]][wide.by_id]
        shares = [np.isin(row[row != i], ids[i]).mean() for i, row in enumerate(exact)]
        assert np.mean(shares) > 0.9
        index.link()
        return index

    index, known = linked(), made()
    known.link(NeighbourGraph.build(known))
    assert found_of(index) >= found_of(known) - 15
    np.testing.assert_array_equal(links_of(linked()).records, links_of(index).records)


def test_a_search_begins_at_more_items_where_links_do_not_lead_from_cluster_to_cluster(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    centres, spread = rng.standard_normal((400, 128)), rng.standard_normal((400, 2, 128))
    cluster = rng.integers(0, 400, N + 300)
    vectors = np.einsum("nr,nrd->nd", rng.standard_normal((N + 300, 2)), spread[cluster]) * 0.7
    vectors += centres[cluster] + 1 + 0.02 * rng.standard_normal(vectors.shape)
    index, queries = made(vectors[:N].astype(np.float32)), vectors[N:].astype(np.float32)
    index.link()
    links = links_of(index)
    assert links.beam in linking.BEAMS, "codes by fast rotations, whose queries are scaled"
    assert links.entries > 1
    found = found_of(index, queries)
    assert found > 0.96 * queries.shape[0] * K
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    for other in (opened, pickle.loads(pickle.dumps(index))):
        assert links_of(other).entries == links.entries
        assert found_of(other, queries) == found
    (segment,) = index.segments()
    few = segment.linked(replace(links, entries=1))
    index._state = replace(index._state, segments=(few,))
    exact = index.search(queries, K, exact=True).cosines
    more, fewer = (other.search(queries, K, beam=16).cosines for other in (opened, index))
    assert recall_of(more, exact) > recall_of(fewer, exact) + 0.02


def test_links_of_another_segment_are_refused(linked: LSHIndex, tmp_path: Path) -> None:
    other = made(rows(N, 7))
    other.owner = linked.owner
    other.link()
    other.save(tmp_path / "other")
    linked.save(tmp_path / "index")
    (theirs,), (ours,) = ((tmp_path / name).glob("links-*") for name in ("other", "index"))
    ours.write_bytes(theirs.read_bytes())
    with pytest.raises(IndexFormatError, match="is of another segment"):
        LSHIndex.open(tmp_path / "index")


def test_rows_out_of_bounds_in_a_large_file_are_passed_over(linked: LSHIndex) -> None:
    (segment,) = linked.segments()
    links = links_of(linked)
    wrong = links.records.copy()
    wrong.view(np.uint32)[::2, -LINKS::2] = 2**32 - 1
    damaged = segment.linked(Links(wrong, links.units, 16))
    assert damaged.problem() == "links lead out of it"
    index = made()
    index._state = replace(index._state, segments=(damaged,))
    found = index.search(QUERIES, K)
    exact = search_exactly(segment, QUERIES, N, np.empty(0, np.bool_))
    for ids, cosines, all_ids, all_cosines in zip(*found, *exact, strict=True):
        known = dict(zip(all_ids.tolist(), all_cosines.tolist(), strict=True))
        assert [known[i] for i in ids.tolist()] == pytest.approx(cosines.tolist(), abs=1e-3)
