"""The compiled loops against plain NumPy."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import coding, kernels, simd


@numba.njit
def score(codes, at, table, width, corrections, c, offset, threshold, out):  # type: ignore[no-untyped-def]
    return simd.score_block(
        codes,
        np.int64(at),
        table,
        np.int64(width),
        corrections,
        np.int64(c),
        np.int16(offset),
        np.int16(threshold),
        out,
    )


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
    offset, threshold = int(table.mean() * 2 * width), 2060
    sums, wide = np.zeros(64, np.int64), codes.astype(int)
    for r in range(width):
        sums += table[32 * r + (wide[:, r] & 15)]
        sums += table[32 * r + 16 + (wide[:, r] >> 4)]
    expected = ((sums - offset) * 2 * corrections.astype(np.int64) >> 16) + 2048
    out = np.empty(32, np.int16)
    for function in (score, simd.score_block_portably):
        for block in (0, 1):
            mask = function(
                pack(codes),
                block * width * 32,
                table,
                width,
                corrections,
                block * 32,
                offset,
                threshold,
                out,
            )
            here = expected[32 * block : 32 * block + 32]
            assert np.array_equal(out, here)
            assert [bool(mask >> i & 1) for i in range(32)] == (here >= threshold).tolist()


def test_table_scores_are_the_scaled_inner_product_with_the_signs() -> None:
    rng = np.random.default_rng(0)
    margins = rng.standard_normal(256).astype(np.float32)
    table = np.empty(1024, np.uint8)
    offset = kernels.make_table(margins, 0, table)
    scale = 63 / (2 * np.abs(margins).reshape(-1, 4).sum(axis=1)).max()
    bits = rng.integers(0, 2, (200, 256))
    nibbles = (bits.reshape(200, 64, 4) * [1, 2, 4, 8]).sum(axis=2)
    sums = table.reshape(64, 16)[np.arange(64), nibbles].astype(int).sum(axis=1)
    inner = (2 * bits - 1) @ margins
    # each of 64 entries is rounded by at most 1/2, the offset once more
    assert np.abs(sums - offset - scale * inner).max() <= 32.5
    assert np.abs(sums - offset - scale * inner).std() < 3  # sqrt(64 / 12) = 2.3


def test_hamming_tables_count_equal_bits_without_rounding() -> None:
    rng = np.random.default_rng(1)
    query = rng.integers(0, 2, 256)
    table = np.empty(1024, np.uint8)
    margins = (2.0 * query - 1).astype(np.float32)
    kernels.make_table(margins, 7, table)
    bits = rng.integers(0, 2, (300, 256))
    nibbles = (bits.reshape(300, 64, 4) * [1, 2, 4, 8]).sum(axis=2)
    sums = table.reshape(64, 16)[np.arange(64), nibbles].astype(int).sum(axis=1)
    assert np.array_equal(sums, 14 * (bits == query).sum(axis=1))


@pytest.mark.parametrize("bits", [0, 1, 5, 8])
def test_sign_scores_equal_the_sum_of_squares_over_every_perturbation(bits: int) -> None:
    margins = np.random.default_rng(bits).standard_normal((3, bits)).astype(np.float32)
    out = np.empty((3, 1 << bits), np.float32)
    kernels.sign_scores(margins, out)
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
    number = kernels.choose_buckets(scores, sizes, budget, chosen, np.empty(count, np.int64))
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
    flat_corrections = np.zeros(int(blocks[-1]) * 32, np.int16)
    order = np.arange(len(codes))
    coding.pack_blocks(codes, corrections, order, offsets, blocks, flat, flat_corrections)
    assert np.array_equal(flat[: 16 * 32], pack(codes[:5]))
    rows = rng.permutation(len(codes))
    out = np.empty((len(codes), 16), np.uint8)
    coding.gather_codes(rows, offsets, blocks, flat, out)
    assert np.array_equal(out, codes[rows])


def test_hamming_distance_counts_bits() -> None:
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 2, (50, 128))
    words = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    expected = (bits != bits[7]).sum(axis=1)
    assert np.array_equal(coding.hamming_rows(words, words[7]), expected)


def test_encoding_gives_signs_and_the_length_ratio() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((60, 33)).astype(np.float32)
    mean = rng.standard_normal(33).astype(np.float32)
    projected = rng.standard_normal((60, 64 + 7)).astype(np.float32)
    codes, ratios = np.empty((60, 8), np.uint8), np.empty(60, np.float32)
    coding.encode(projected, vectors, mean, codes, ratios)
    assert np.array_equal(codes, np.packbits(projected[:, :64] > 0, axis=1, bitorder="little"))
    expected = np.square(vectors - mean).sum(axis=1) / np.abs(projected[:, :64]).sum(axis=1)
    assert np.allclose(ratios, expected, rtol=1e-5)
