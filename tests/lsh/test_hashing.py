"""Hash functions of one index against their formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.lsh import LSHIndex, LSHSettings, lookup
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.probing import product, project
from lookalike.lsh.vectors import unit_rows

BITS = 64


def clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors (n, dim) whose variance falls axis by axis, as image features' does."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    drawn = rng.standard_normal((n, dim)) * np.exp(-np.arange(dim) / 12)
    return unit_rows(drawn @ rotation + 0.02 * rng.standard_normal((n, dim)) + 0.1, dim)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "axes"), [(4 * BITS, BITS // 2), (4 * BITS - 1, 0)])
def test_long_vectors_are_hashed_by_half_as_many_axes_as_bits(dim: int, axes: int) -> None:
    vectors = clustered(1000, dim)
    hasher = Hasher.fit(LSHSettings(dim, code_bits=BITS), vectors)
    assert hasher.basis.shape == (axes, dim)
    if not axes:
        return
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    strongest = np.linalg.svd(centred, full_matrices=False)[2][:axes]
    overlap = np.linalg.svd(hasher.basis @ strongest.T)[1]  # 1: the same space
    assert overlap == pytest.approx(np.ones(axes), abs=1e-3)


def test_codes_of_long_vectors_are_the_signs_of_planes_in_the_basis() -> None:
    vectors = clustered(500, 300)
    hasher = Hasher.fit(LSHSettings(300, code_bits=BITS), vectors)
    planes = hasher.code_planes.astype(np.float64) @ hasher.basis
    projected = (vectors.astype(np.float64) - hasher.mean) @ planes.T
    bits = np.unpackbits(hasher.codes(vectors)[0], axis=1, bitorder="little")
    sure = np.abs(projected) > 1e-5
    assert sure.mean() > 0.99
    assert (bits[sure] == (projected > 0)[sure]).all()
    margins = hasher.prepare(vectors[:7]).margins
    assert margins == pytest.approx(projected[:7], abs=1e-5)


@pytest.mark.parametrize(  # hashed as they are; by fast rotations; by their leading axes; both
    ("dim", "bits", "axes", "rotations"),
    [
        *((3, 64, 0, 0), (50, 64, 0, 0), (128, 64, 0, 0), (258, 64, 32, 0)),
        *((128, 256, 0, 2), (256, 256, 0, 1), (1026, 256, 128, 2)),
    ],
)
def test_one_query_is_projected_as_the_formulas_say(
    dim: int, bits: int, axes: int, rotations: int
) -> None:
    vectors = clustered(400, dim)
    hasher = Hasher.fit(LSHSettings(dim, code_bits=bits), vectors)
    assert hasher.basis.shape == (axes, dim)
    assert len(hasher.signs) == rotations
    for matrix in (hasher.basis, hasher.code_planes, hasher.key_map, hasher.key_points):
        assert (matrix.view(np.uint32) % (1 << 16) == 0).all()  # bfloat16
    assert hasher.is_short
    older = replace(hasher, code_planes=hasher.code_planes * np.float32(1.0001))
    assert not older.is_short  # and so it is not projected by rounded planes
    query = vectors[7]
    projection = hasher.projection(5)
    projected = np.empty(len(projection.of_mean) + 1, np.float32)
    scores = np.empty(32, np.float32)
    project(query, tuple(projection), projected)
    margins, mapped = np.split(projected[:-1], [bits])
    of_codes = np.empty(bits + 1, np.float32)
    project(query, tuple(hasher.projection(None)), of_codes)
    assert (of_codes[:-1] == margins).all()
    product(mapped, projection.anchors, scores)
    centred = query.astype(np.float64) - hasher.mean
    narrowed = hasher.basis @ centred if hasher.basis.size else centred
    assert margins == pytest.approx(hasher.code_planes @ narrowed, abs=2e-6)
    assert hasher.prepare(vectors[:9]).margins[7] == pytest.approx(margins, abs=1e-6)
    wanted = hasher.key_points[0, :32] @ (hasher.key_map @ narrowed)
    assert scores == pytest.approx(wanted, abs=1e-5 * float(np.abs(wanted).max()))


def test_codes_and_additions_estimate_the_cosine_also_of_vectors_with_a_common_offset() -> None:
    rng = np.random.default_rng(3)
    vectors = unit_rows(rng.random((2000, 64)) + 5, 64)
    hasher = Hasher.fit(LSHSettings(64), vectors)
    codes, corrections, additions = hasher.codes(vectors)
    signs = 2.0 * np.unpackbits(codes, axis=1, bitorder="little") - 1
    queries = hasher.prepare(vectors[:50])
    inner = queries.margins @ signs.T * corrections / 32767 * hasher.correction_unit
    sums = inner + additions * hasher.addition_unit
    constant = queries.queries @ hasher.mean
    constant += (1 - hasher.mean @ hasher.mean - hasher.middle) / 2
    cosines = queries.queries.astype(np.float64) @ vectors.T.astype(np.float64)
    errors = sums + constant[:, np.newaxis] - cosines
    assert cosines.min() > 0.99
    assert errors.std() < 0.05 * (1 - cosines.min())
    assert np.abs(np.diagonal(errors)).max() < 1e-6  # itself: exact
    assert (np.argmax(sums, axis=1) == np.arange(50)).all()
    tops = np.array([lookup.most_in_common(query, *hasher.scoring) for query in queries.queries])
    assert (sums <= tops[:, np.newaxis] + 0.1 * (1 - cosines.min())).all()
    assert (np.diagonal(sums) >= tops - 0.01 * (1 - cosines.min())).all()


def test_half_the_axes_rank_long_vectors_as_well_as_all() -> None:
    vectors = clustered(3000, 4 * BITS)
    queries = clustered(3100, 4 * BITS)[3000:]
    found = {}
    for name, settings in {
        "basis": LSHSettings(4 * BITS, code_bits=BITS),
        "whole": LSHSettings(4 * BITS, code_bits=BITS, codes="orthogonal"),
    }.items():
        index = LSHIndex(settings=settings)
        index.add(np.arange(3000), vectors)
        exact = index.search(queries, 10, exact=True).ids
        ids = index.search(queries, 10, candidates=3000, rerank=60).ids
        found[name] = np.mean([np.isin(a, b).mean() for a, b in zip(exact, ids, strict=True)])
    assert found["basis"] > found["whole"]


def test_a_basis_comes_back_from_its_file(tmp_path: Path) -> None:
    vectors = clustered(400, 4 * BITS)
    settings = LSHSettings(4 * BITS, code_bits=BITS)
    index = LSHIndex(settings=settings)
    index.add(np.arange(400), vectors)
    index.save(tmp_path)
    opened = LSHIndex.open(tmp_path)
    for a, b in zip(opened.search(vectors[:20], 5), index.search(vectors[:20], 5), strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_what_learns_nothing_hashes_by_the_seed_alone_whatever_it_was_fitted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lookalike.lsh.hashing.SAMPLE", 100)
    settings = LSHSettings.paper(24, key_bits=6)
    few, many = (Hasher.fit(settings, clustered(n, 24, n)) for n in (3, 400))
    vectors = clustered(200, 24, 1)
    for one, other in zip(few.hash(vectors, 6), many.hash(vectors, 6), strict=True):
        np.testing.assert_array_equal(one, other)
