"""The compiled loops against plain NumPy."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lookalike.errors import LookalikeWarning
from lookalike.lsh import coding, compiled, lookup, probing, simd, walk
from lookalike.lsh.links import record_bytes
from lookalike.lsh.segment import Segment
from lookalike.lsh.vectors import widened


@numba.njit
def score(codes, at, table, width, corrections, additions, c, query, threshold, out):  # type: ignore[no-untyped-def]
    return simd.score_block(
        codes,
        np.int64(at),
        table,
        np.int64(width),
        corrections,
        additions,
        np.int64(c),
        (np.int16(query[0]), np.int16(query[1]), np.int16(query[2])),
        np.int16(threshold),
        out,
    )


widen: Any = intrinsic(lambda _, half: (types.float32(types.uint16), simd.half_to_float))
narrow: Any = intrinsic(lambda _, number: (types.uint16(types.float32), simd.float_to_half))


@numba.njit
def convert(halves, numbers, wide, back):  # type: ignore[no-untyped-def]
    for i in range(len(halves)):
        wide[i] = widen(halves[i])
    for i in range(len(numbers)):
        back[i] = narrow(numbers[i])


def pack(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One bucket of (n, bytes) codes in blocks, by the layout's definition."""
    n, width = codes.shape
    blocks = -(-n // 32)
    out = np.zeros((blocks, width, 32), np.uint8)
    for i in range(n):
        out[i // 32, :, 2 * (i % 32 % 16) + i % 32 // 16] = codes[i]
    return out.ravel()


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_block_scores_equal_their_formula(width: int) -> None:
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 256, (64, width), dtype=np.uint8)
    limit = min(63, (4096 - 2 * width) // (2 * width))
    table = rng.integers(0, limit + 1, 2 * width * 16, dtype=np.uint8)
    corrections = rng.integers(0, 32768, 64).astype(np.int16)
    additions = rng.integers(-16383, 16384, 64).astype(np.int16)
    additions[:2] = -16383, 16383
    offset, gain, base, threshold = int(table.mean() * 2 * width), 3000, 2048, 2060
    sums, wide = np.zeros(64, np.int64), codes.astype(int)
    for r in range(width):
        sums += table[32 * r + (wide[:, r] & 15)]
        sums += table[32 * r + 16 + (wide[:, r] >> 4)]
    expected = ((sums - offset) * 2 * corrections.astype(np.int64) >> 16) + base
    expected += additions.astype(np.int64) * 2 * gain >> 16
    expected = np.maximum(expected, 0)
    out = np.empty(32, np.int16)
    for function in (score, simd.score_block_portably):
        for block in (0, 1):
            mask = function(
                pack(codes),
                block * width * 32,
                table,
                width,
                corrections,
                additions,
                block * 32,
                (offset, gain, base),
                threshold,
                out,
            )
            here = expected[32 * block : 32 * block + 32]
            assert np.array_equal(out, here)
            assert [bool(mask >> i & 1) for i in range(32)] == (here >= threshold).tolist()


@compiled.compiled()
def merged(fresh: NDArray[np.int64], count: int, pool: NDArray[np.int64], first: int) -> Any:
    simd.merge(fresh, count, pool, first, pool.shape[0])
    return [simd.unmarked(pool, at) for at in range(0, pool.shape[0], 8)]


@pytest.mark.parametrize("places", [8, 24, 64])
def test_what_is_merged_into_a_pool_leaves_the_largest_in_order(places: int) -> None:
    rng = np.random.default_rng(places)
    for count in range(41):
        some = rng.integers(-(1 << 63), (1 << 63) - 1, (2, places))
        pool = np.sort(some[0])[::-1].copy()
        fresh = np.full(48, walk.NOTHING)
        fresh[:count] = rng.choice(some.ravel(), count)
        expected = np.sort(np.concatenate([pool, fresh[: -(-count // 8) * 8]]))[::-1][:places]
        first = int(np.count_nonzero(pool > fresh.max())) // 8 * 8 if count % 2 else 0
        masks = merged(fresh, count, pool, first)
        assert np.array_equal(pool, expected)
        even = [bool(mask >> i & 1) for mask in masks for i in range(8)]
        assert even == (expected % 2 == 0).tolist()


def walked(query: Any, table: Any, scoring: Any, vectors: Any, links: Any, start: Any) -> Any:
    """`walk.walk` in plain Python: cosines of rows, of a pool of ``start[0]`` from row start[1]."""
    (beam, first), (offset, gain, unit), n = start, scoring, len(vectors)
    width = links.shape[1] // 32 - 8
    best: dict[int, int] = {first: walk.entry_of(np.float32(0), first)}
    pool, compared = [best[first]], dict[int, float]()
    places, followed = (beam // 8 + 1) * 8, max(1, int(0.6 * beam))
    out = np.empty(32, np.int16)

    def row_of(entry: int) -> int:
        return entry >> 1 & (1 << 32) - 1

    while True:
        left = [entry for entry in pool[:followed] if row_of(entry) not in compared]
        if not left:
            break
        row = row_of(left[0])
        compared[row] = product = vectors[row] @ query
        worst = pool[beam - 1] if len(pool) >= beam else walk.NOTHING
        shorts = links[row].view(np.int16)[32 * width // 2 :]
        its = links[row], 0, table, width, shorts, shorts[32:], 0, (offset, gain, walk.MIDDLE)
        simd.score_block_portably(*its, 0, out)
        rows = links[row].view(np.uint32)[-32:]
        for other, score in zip(rows.tolist(), out.tolist(), strict=True):
            level = max((walk.estimate_of(worst) - product) / unit + walk.MIDDLE, 0)
            entry = walk.entry_of(np.float32(product + (score - walk.MIDDLE) * unit), other)
            if other >= n or other in compared or score < int(level) or entry <= worst:
                continue
            if entry > best.get(other, worst):
                pool.append(entry)
                best[other] = entry
        pool = sorted(pool, reverse=True)[:places]
        pool = [entry for entry in pool if entry == best[row_of(entry)]]
    for entry in pool[:beam]:
        compared[row_of(entry)] = vectors[row_of(entry)] @ query
    return compared


@pytest.mark.parametrize("beam", [1, 5, 8, 19, 40, 100])
def test_a_walk_compares_what_a_plain_one_does_and_each_once(beam: int) -> None:
    rng = np.random.default_rng(beam)
    n, dim, width = 400, 16, 8
    vectors = (rng.integers(-8, 9, (n, dim)) / 32).astype(np.float32)  # whose products are exact
    links = rng.integers(0, 256, (n, record_bytes(width)), dtype=np.uint8)
    links.view(np.uint32)[:, -32:] = rng.integers(0, n + 20, (n, 32))  # some twice
    shorts = links.view(np.int16)[:, 16 * width : 16 * width + 64]
    shorts[:, :32] = rng.integers(0, 32768, (n, 32))
    shorts[:, 32:] = rng.integers(-16383, 16384, (n, 32))
    table = rng.integers(0, 64, 32 * width, dtype=np.uint8)
    scoring = 512, 900, np.float32(2.0**-12)
    for first in range(0, n, 40):
        query = vectors[first] / 2 + vectors[first - 1] / 4
        pool = np.full((beam // 8 + 1) * 8, walk.NOTHING)
        pool[0] = walk.entry_of(np.float32(0), first)
        best, rows = np.full(n, -np.inf, np.float32), np.full(n, -1)
        seen, no = walk.empty_set(8 * beam), np.empty(0, np.bool_)
        ids, its = np.arange(n), (table, scoring, vectors)
        walk.walk(query, *its, ids, links, no, seen, pool, beam, best, rows)
        expected = walked(query, *its, links, (beam, first))
        assert sorted(rows[rows >= 0].tolist()) == sorted(expected)
        met = rows[rows >= 0]
        lengths = np.linalg.norm(vectors[met], axis=1)
        cosines = np.clip([expected[row] for row in met] / lengths, -1, 1)
        assert np.allclose(best[rows >= 0], cosines, atol=1e-6)


def test_table_scores_are_the_scaled_inner_product_with_the_signs() -> None:
    rng = np.random.default_rng(0)
    margins = rng.standard_normal(256).astype(np.float32)
    table = np.empty(1024, np.uint8)
    (offset, gain, base), used = lookup.make_table(margins, 0, 0.0, 0.0, np.inf, table)
    assert (gain, base) == (0, 2048)
    scale = 63 / (2 * np.abs(margins).reshape(-1, 4).sum(axis=1)).max()
    assert used == pytest.approx(scale)
    bits = rng.integers(0, 2, (200, 256))
    nibbles = (bits.reshape(200, 64, 4) * [1, 2, 4, 8]).sum(axis=2)
    sums = table.reshape(64, 16)[np.arange(64), nibbles].astype(int).sum(axis=1)
    inner = (2 * bits - 1) @ margins
    # each of 64 entries is rounded by at most 1/2, the offset once more
    assert np.abs(sums - offset - scale * inner).max() <= 32.5
    assert np.abs(sums - offset - scale * inner).std() < 3  # sqrt(64 / 12) = 2.3


def test_an_item_that_has_the_most_in_common_scores_the_top_and_additions_their_share() -> None:
    margins = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    widest = (2 * np.abs(margins).reshape(-1, 4).sum(axis=1)).max()
    (_, gain, base), _ = lookup.make_table(margins, 0, 1e-3, 20.0, np.inf, np.empty(1024, np.uint8))
    assert gain == round(63 / widest * 1e-3 * 2**15)
    assert base == pytest.approx(lookup.TOP - 63 / widest * 20.0, abs=1)
    # A query at the mean: the table is coarser, so that additions fit their 16 bits.
    (_, gain, _), _ = lookup.make_table(
        1e-6 * margins, 0, 1e-3, 20.0, np.inf, np.empty(1024, np.uint8)
    )
    assert gain < 2**15


def test_hamming_tables_count_equal_bits_without_rounding() -> None:
    rng = np.random.default_rng(1)
    query = rng.integers(0, 2, 256)
    table = np.empty(1024, np.uint8)
    margins = (2.0 * query - 1).astype(np.float32)
    lookup.make_table(margins, 7, 0.0, 0.0, np.inf, table)
    bits = rng.integers(0, 2, (300, 256))
    nibbles = (bits.reshape(300, 64, 4) * [1, 2, 4, 8]).sum(axis=2)
    sums = table.reshape(64, 16)[np.arange(64), nibbles].astype(int).sum(axis=1)
    assert np.array_equal(sums, 14 * (bits == query).sum(axis=1))


@pytest.mark.parametrize("bits", [0, 1, 5, 8])
def test_sign_scores_equal_the_sum_of_squares_over_every_perturbation(bits: int) -> None:
    margins = np.random.default_rng(bits).standard_normal((3, bits)).astype(np.float32)
    out = np.empty((3, 1 << bits), np.float32)
    probing.sign_scores(margins, out)
    for i in range(3):
        own = margins[i] > 0
        for v in range(1 << bits):
            flipped = np.array([bool(v >> j & 1) for j in range(bits)], bool) != own
            assert out[i, v] == pytest.approx(-np.square(margins[i][flipped]).sum(), abs=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_buckets_are_chosen_in_exact_order_until_the_budget_is_met(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 3000))
    scores = rng.standard_normal(count).astype(np.float32)
    sizes = rng.integers(0, 50, count).astype(np.uint32)
    budget = int(rng.integers(1, 1 + sizes.sum() + 10))
    chosen = np.empty(count, np.int64)
    number = probing.choose_buckets(scores, sizes, budget, chosen, np.empty(count, np.int64))
    order = np.argsort(-scores, kind="stable")
    order = order[sizes[order] > 0]
    enough = np.searchsorted(np.cumsum(sizes[order]), budget) + 1
    assert chosen[:number].tolist() == order[:enough].tolist()


def test_the_largest_of_each_row_is_the_first_one() -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 5, (100, 300)).astype(np.float32)
    out = np.empty(100, np.uint32)
    coding.argmax_rows(scores, out)
    assert np.array_equal(out, scores.argmax(axis=1))


def test_codes_come_back_from_their_blocks() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([5, 0, 64, 33, 1])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)
    blocks = np.concatenate([[0], np.cumsum(-(-sizes // 32))]).astype(np.uint32)
    codes = rng.integers(0, 256, (sizes.sum(), 16), dtype=np.uint8)
    corrections = rng.integers(0, 32767, len(codes)).astype(np.int16)
    flat = np.zeros(int(blocks[-1]) * 16 * 32, np.uint8)
    flat_corrections, flat_additions = np.zeros((2, int(blocks[-1]) * 32), np.int16)
    order = np.arange(len(codes))
    out_of_rows = codes, corrections, corrections[::-1].copy()
    into = flat, flat_corrections, flat_additions
    coding.pack_blocks(*out_of_rows, order, offsets, blocks, *into)
    assert np.array_equal(flat_corrections[:5], corrections[:5])
    assert np.array_equal(flat_additions[:5], corrections[:-6:-1])
    assert np.array_equal(flat[: 16 * 32], pack(codes[:5]))
    by_id, vectors = order.astype(np.uint32), np.empty((0, 128), np.float16)
    buckets = offsets[np.newaxis], blocks[np.newaxis], np.empty((1, 0), np.uint32)
    segment = Segment(3, order, by_id, vectors, *into, *buckets)
    rows = rng.permutation(len(codes))
    assert np.array_equal(segment.codes_of(rows, 16), codes[rows].view(np.uint64))


def test_encoding_gives_signs_and_the_length_ratio() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((60, 33)).astype(np.float32)
    mean = rng.standard_normal(33).astype(np.float32)
    projected = rng.standard_normal((60, 64 + 7)).astype(np.float32)
    codes, (ratios, squares) = np.empty((60, 8), np.uint8), np.empty((2, 60), np.float32)
    coding.encode(projected, vectors, mean, codes, ratios, squares)
    assert np.array_equal(codes, np.packbits(projected[:, :64] > 0, axis=1, bitorder="little"))
    assert np.allclose(squares, np.square(vectors - mean).sum(axis=1), rtol=1e-5)
    expected = squares / np.abs(projected[:, :64]).sum(axis=1)
    assert np.allclose(ratios, expected, rtol=1e-5)


def test_half_floats_without_the_instruction_equal_those_of_numpy() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    exact = halves.view(np.float16).astype(np.float32)
    bits = np.random.default_rng(0).integers(0, 1 << 32, 300_000, dtype=np.uint32)
    with np.errstate(all="ignore"):
        ties = (exact[:-1] + exact[1:]) / 2  # and what lies beside them
        edges = [ties, np.nextafter(ties, np.float32(1)), np.nextafter(ties, np.float32(-1))]
        numbers = np.concatenate([bits.view(np.float32), exact, *edges])
        expected = numbers.astype(np.float16)
    wide, back = np.empty(len(halves), np.float32), np.empty(len(numbers), np.uint16)
    convert(halves, numbers, wide, back)
    numeric = ~np.isnan(exact)
    assert np.array_equal(wide[numeric].view(np.uint32), exact[numeric].view(np.uint32))
    assert np.isnan(wide[~numeric]).all()
    numeric = ~np.isnan(numbers)
    assert np.array_equal(back[numeric], expected.view(np.uint16)[numeric])
    assert np.isnan(back[~numeric].view(np.float16)).all()


SEARCH = """
import sys
import numpy as np
from lookalike.lsh import LSHIndex, simd
from lookalike.lsh.vectors import widened
v = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
index = LSHIndex(dim=64)
index.add(np.arange(500), v)
print(repr(simd.SHUFFLE), simd.HALVES, *index.search(v[:50], k=3).ids.ravel())
"""


def ids_found(**environment: str) -> tuple[str, str]:
    """What SEARCH prints, split after the instructions, and its standard error."""
    ran = subprocess.run(
        [sys.executable, "-c", SEARCH],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout, ran.stderr


@pytest.mark.slow
def test_without_vector_instructions_or_a_place_for_compiled_code_the_same_is_found(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    usual, _ = ids_found()
    plain, _ = ids_found(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(tmp_path))
    if "x86" in os.uname().machine:
        assert plain.startswith("'' False ")
    assert plain.split()[2:] == usual.split()[2:]
    found, stderr = ids_found(
        NUMBA_CACHE_DIR=str(tmp_path / "file"),
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator",  # others can be written here
    )
    assert found == usual
    assert stderr.count("LookalikeWarning") == 1
    assert "set NUMBA_CACHE_DIR" in stderr


def doubled(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("full", [False, True])
def test_a_damaged_or_full_cache_costs_a_compilation_and_no_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    full: bool,
) -> None:
    monkeypatch.setattr(logging.getLogger(compiled.__name__), "disabled", False)
    caplog.set_level(logging.INFO, compiled.__name__)
    compiled._say_that_it_takes_a_while.cache_clear()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_warned", False)
    assert compiled.compiled()(doubled)(2) == 4
    kept = list(tmp_path.rglob("*.doubled*"))
    assert {path.suffix for path in kept} == {".nbi", ".nbc"}
    for path in kept:
        if full:  # as where no file can be written
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(b"other content")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(2):
            assert compiled.compiled()(doubled)(3) == 6
    assert [item.category for item in warned] == [LookalikeWarning] * full
    assert [line.split(",")[0] for line in caplog.messages] == [
        "compiling search code for its first use here"
    ]
    assert full or all(path.read_bytes() != b"other content" for path in kept)


def test_every_float16_is_widened_to_the_bit_and_nan_is_large() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    finite, wide = np.isfinite(halves), widened(halves)
    assert np.array_equal(
        wide[finite].view(np.uint32), halves[finite].astype(np.float32).view(np.uint32)
    )
    assert (np.abs(wide[~finite]) >= 1 << 16).all()
    assert np.array_equal(widened(halves[::2, ::3]), wide[::2, ::3])  # also strided
