"""Hash families against their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex, LSHSettings, families
from lookalike.lsh.simd import rotate_all

PAIRS = 100_000
DIM = 24


def pairs_at(theta: float, count: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    """Random unit pairs (count, DIM) at exactly the angle ``theta``."""
    x = rng.standard_normal((count, DIM))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    u = rng.standard_normal((count, DIM))
    u -= (u * x).sum(axis=1, keepdims=True) * x
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return x, math.cos(theta) * x + math.sin(theta) * u


@pytest.mark.parametrize("theta", [0.1, 0.5, 1.0, math.pi / 2, 2.5])
@pytest.mark.parametrize("family", [families.hyperplanes, families.orthogonal])
def test_one_hyperplane_separates_a_pair_with_probability_theta_over_pi(family, theta):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    x, y = pairs_at(theta, PAIRS, rng)
    planes = family(rng, PAIRS, DIM)
    agree = ((x * planes).sum(axis=1) > 0) == ((y * planes).sum(axis=1) > 0)
    p = 1 - theta / math.pi
    assert abs(agree.mean() - p) < 4 * math.sqrt(p * (1 - p) / PAIRS)


def test_orthogonal_hyperplanes_are_orthonormal_within_each_group() -> None:
    planes = families.orthogonal(np.random.default_rng(0), 60, DIM)
    for start in range(0, 60, DIM):
        group = planes[start : start + DIM]
        assert np.allclose(group @ group.T, np.eye(len(group)), atol=1e-5)


@pytest.mark.parametrize(("count", "dim"), [(256, 128), (256, 256), (512, 512)])
def test_fast_rotations_are_two_transforms_of_random_signs(count: int, dim: int) -> None:
    planes = families.fast_rotations(np.random.default_rng(3), count, dim)
    signs = families.signs_of(planes)
    assert signs.shape == (count // dim, 2, dim)
    bits = np.arange(dim)
    transform = np.prod([1 - 2 * ((bits[:, None] & bits) >> b & 1) for b in range(9)], axis=0)
    for group, (first, second) in zip(planes.reshape(-1, dim, dim), signs, strict=True):
        assert (np.abs(first) == 1).all() and (np.abs(second) == 1 / dim).all()
        assert (group == transform * second @ transform * first).all()
        assert (group @ group.T == np.eye(dim)).all()
    assert (planes.view(np.uint32) % (1 << 16) == 0).all()  # bfloat16
    vectors = np.random.default_rng(4).standard_normal((5, dim)).astype(np.float32)
    rotated = np.empty((5, count), np.float32)
    rotate_all(vectors, signs, rotated)
    assert rotated == pytest.approx(vectors @ planes.T.astype(np.float64), abs=5e-6)
    assert np.array_equal(families.rotated(vectors, signs), rotated)


def test_other_planes_are_not_taken_for_fast_rotations() -> None:
    rng = np.random.default_rng(5)
    planes = families.fast_rotations(rng, 256, 128)
    assert len(families.signs_of(planes)) == 2
    one_off = planes.copy()
    one_off[200, 7] += 1 / 128
    shuffled = planes[rng.permutation(256)]
    others = one_off, shuffled, planes[:192], families.fast_rotations(rng, 64, 64)
    for each in (*others, families.orthogonal(rng, 128, 128), families.orthogonal(rng, 48, 24)):
        assert families.signs_of(each).shape == (0, 2, each.shape[1])


def test_orthogonal_hyperplanes_estimate_angles_with_less_spread_than_independent_ones() -> None:
    rng = np.random.default_rng(1)
    x, y = pairs_at(0.8, 400, rng)
    spread = {}
    for family in (families.hyperplanes, families.orthogonal):
        shares = []
        for i in range(400):
            planes = family(rng, DIM, DIM)
            shares.append((((x[i] @ planes.T) > 0) == ((y[i] @ planes.T) > 0)).mean())
        spread[family] = np.std(shares)
    assert spread[families.orthogonal] < 0.95 * spread[families.hyperplanes]


def test_principal_axes_are_eigenvectors_by_falling_variance() -> None:
    rng = np.random.default_rng(2)
    centred = (rng.standard_normal((5000, 6)) * [6, 5, 4, 3, 2, 1]).astype(np.float32)
    axes = families.Principal.of(centred)
    covariance = centred.T @ centred / len(centred)
    assert np.allclose(axes.axes @ covariance @ axes.axes.T, np.diag(axes.variance), atol=1e-2)
    assert (np.diff(axes.variance) < 0).all()


def test_principal_axes_of_few_vectors_are_those_of_their_covariance() -> None:
    centred = np.random.default_rng(9).standard_normal((30, 80)).astype(np.float32)
    centred -= centred.mean(axis=0)
    axes = families.Principal.of(centred)
    assert axes.axes.shape == (29, 80)
    assert np.allclose(axes.axes @ axes.axes.T, np.eye(29), atol=1e-4)
    expected = np.linalg.eigvalsh(centred.T.astype(np.float64) @ centred / 30)[::-1][:29]
    assert np.allclose(axes.variance, expected, rtol=1e-3)


def test_codes_of_a_sample_with_few_axes_use_the_whole_space() -> None:
    few = families.Principal.of(np.zeros((5, 20), np.float32))
    planes = families.principal(np.random.default_rng(0), 16, few)
    assert np.allclose(planes @ planes.T, np.eye(16), atol=1e-4)


def test_principal_hyperplanes_lie_in_the_leading_axes() -> None:
    rng = np.random.default_rng(3)
    centred = (rng.standard_normal((2000, 40)) * np.linspace(4, 0.1, 40)).astype(np.float32)
    axes = families.Principal.of(centred)
    planes = families.principal(rng, 16, axes)
    outside = planes @ axes.axes[16:].T
    assert np.abs(outside).max() < 1e-4
    assert np.allclose(planes @ planes.T, np.eye(16), atol=1e-4)


def test_itq_brings_projections_nearer_to_their_signs_than_a_random_rotation() -> None:
    rng = np.random.default_rng(4)
    corners = np.sign(rng.standard_normal((3000, 8))) + 0.2 * rng.standard_normal((3000, 8))
    rotation = families.orthogonal(rng, 8, 8)
    centred = (corners @ rotation).astype(np.float32)
    centred -= centred.mean(axis=0)
    axes = families.Principal.of(centred)

    def loss(planes: NDArray[np.float32]) -> float:
        projected = centred @ planes.T
        return float(np.square(np.sign(projected) - projected).mean())

    learned = families.itq(rng, 8, axes, centred)
    assert np.allclose(learned @ learned.T, np.eye(8), atol=1e-4)
    assert loss(learned) < 0.06  # the noise alone is 0.04
    assert loss(learned) < 0.5 * loss(families.orthogonal(rng, 8, 8))


def test_cross_polytope_anchors_are_signed_axes_of_rotations() -> None:
    anchors = families.cross_polytope(np.random.default_rng(5), 2 * DIM, DIM)
    axes = anchors[::2]
    assert np.array_equal(anchors[1::2], -axes)
    assert np.allclose(axes @ axes.T, np.eye(DIM), atol=1e-5)
    x = np.random.default_rng(6).standard_normal((50, DIM)).astype(np.float32)
    rotated = x @ axes.T
    largest = np.abs(rotated).argmax(axis=1)
    expected = 2 * largest + (rotated[np.arange(50), largest] < 0)
    assert np.array_equal((x @ anchors.T).argmax(axis=1), expected)


def test_voronoi_anchors_are_sample_points_in_whitened_axes() -> None:
    rng = np.random.default_rng(8)
    centred = (rng.standard_normal((500, 100)) * np.linspace(5, 0.5, 100)).astype(np.float32)
    axes = families.Principal.of(centred)
    anchors, whiten = families.voronoi(rng, 32, axes, centred), families.whitening(axes)
    mapped = centred @ whiten.T
    assert anchors.shape == (32, 48)
    # variance^(-1/4) on each axis turns a variance v into sqrt(v)
    assert np.allclose(mapped.var(axis=0), np.sqrt(axes.variance[:48]), rtol=0.05)
    unit = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    assert np.allclose((anchors @ unit.T).max(axis=1), 1, atol=1e-5)


def test_a_family_is_a_function_and_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CONTRIBUTING promises, with planes of entries +1 and -1 (Achlioptas 2003)."""

    def signs(sample: families.Sample, bits: int) -> NDArray[np.float32]:
        return sample.rng.choice(np.array([-1, 1], np.float32), (bits, sample.dim))

    monkeypatch.setitem(families.CODES, "signs", families.CodeFamily(signs))
    monkeypatch.setitem(
        families.KEYS,
        "signs",
        families.KeyFamily(lambda *drawn: np.stack([signs(*drawn[:2])] * drawn[2]), signs=True),
    )
    rows = np.random.default_rng(9).standard_normal((400, DIM)).astype(np.float32)
    index = LSHIndex(settings=LSHSettings(DIM, keys="signs", codes="signs", code_bits=256))
    index.add(np.arange(400), rows)
    index.save(tmp_path / "index")
    ids, cosines = LSHIndex.open(tmp_path / "index").search(rows[:50], 1)
    assert ids[:, 0].tolist() == list(range(50))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)  # vectors are kept in float16
