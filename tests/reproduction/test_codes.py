from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproduction.hashing import (
    CodeLoss,
    DivideAndEncode,
    TripletRankingLoss,
    _descend,
    _make_distinct,
    _step,
    class_codes,
    hamming_rank,
    itq_codes,
    pack,
    pca,
    tie_order,
)

# ---- CNNH ----------------------------------------------------------------------------------------


def written_out(codes: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
    """|S - H H^T / q|^2 with S and H H^T as arrays."""
    similar = np.where(labels[:, None] == labels, 1.0, -1.0)
    rows = codes.astype(np.float64)
    return float(np.square(similar - rows @ rows.T / codes.shape[1]).sum())


def codes_of(labels: NDArray[np.generic], bits: int, seed: int) -> NDArray[np.int8]:
    """Of each image, that of its class."""
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return class_codes(sizes, bits, seed)[classes]


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "bits"), [(10, 48), (10, 256), (50, 48)])
def test_target_codes_are_near_the_least_that_any_codes_can_cost(classes: int, bits: int) -> None:
    """For c equal classes at best each pair of classes has the cosine -1 / (c - 1), a simplex.

    Then a pair costs (1 - 1 / (c - 1))^2; random codes cost 1 + 1 / bits.
    """
    labels = np.random.default_rng(4).permutation(np.repeat(np.arange(classes), 90))
    codes = codes_of(labels, bits, seed=0)
    assert codes.shape == (90 * classes, bits) and codes.dtype == np.int8
    assert set(np.unique(codes)) == {-1, 1}
    least = 90**2 * classes * (classes - 1) * (1 - 1 / (classes - 1)) ** 2
    random = np.random.default_rng(5).choice([-1, 1], (classes, bits))[labels]
    cost, cost_of_random = written_out(codes, labels), written_out(random, labels)
    assert least <= cost
    assert cost - least < 0.35 * (cost_of_random - least)
    assert len(np.unique(codes, axis=0)) == classes
    assert all(len(np.unique(codes[labels == c], axis=0)) == 1 for c in range(classes))


@pytest.mark.parametrize("seed", range(4))
def test_as_many_classes_as_there_are_codes_still_differ(seed: int) -> None:
    codes = class_codes(np.full(8, 5), 3, seed)
    assert len(np.unique(codes, axis=0)) == 8
    with pytest.raises(ValueError, match="3 bits are too few for different codes of 9 classes"):
        class_codes(np.full(9, 5), 3, seed)


def test_two_classes_get_opposite_codes() -> None:
    codes = class_codes(np.array([4, 9]), 48, seed=1)
    assert np.array_equal(codes[0], -codes[1])


def test_a_step_of_a_class_gains_what_the_written_out_objective_loses() -> None:
    """And residual and codes are those of the step; a step never makes it worse."""
    rng = np.random.default_rng(3)
    sizes, codes = np.array([1.0, 4.0, 9.0, 2.0]), rng.uniform(-1, 1, (4, 6))
    similar = 2 * np.eye(4) - 1

    def objective() -> float:
        return float(sizes @ np.square(similar - codes @ codes.T / 6) @ sizes)

    residual = similar - codes @ codes.T / 6
    for a in (0, 2, 1, 3):
        before = objective()
        gain = _descend(codes, residual, sizes, a)
        assert gain == pytest.approx(before - objective(), rel=1e-9)
        assert gain >= 0 and (gain > 1 or a > 0)
        np.testing.assert_allclose(residual, similar - codes @ codes.T / 6, atol=1e-12)
        assert np.abs(codes).max() <= 1


def test_a_step_where_the_objective_bends_down_goes_to_the_bound() -> None:
    assert _step(1.0, -1.0, 0.5, 0.0) == (-1.5, -1.5 - 1.5**2 / 2)
    assert _step(-1.0, -1.0, -0.9, 0.0) == pytest.approx((1.9, -1.9 - 1.9**2 / 2))
    # Halved while it is for the worse: x gains x and costs 4 x^4.
    assert _step(-1.0, 0.0, 0.0, 2.0) == (0.5, -0.25)


def test_an_equal_code_differs_in_the_bit_that_costs_least() -> None:
    sizes = np.array([3.0, 5.0, 2.0, 7.0])
    rows = np.array([[1, 1, -1, 1, -1], [1, -1, -1, -1, 1], [-1, 1, 1, 1, 1], [1, 1, -1, 1, -1]])
    codes = rows.astype(np.int8)
    _make_distinct(codes, sizes)
    assert np.array_equal(codes[:3], rows[:3])

    def cost(code: NDArray[np.int_]) -> float:
        return float(np.square(rows[:3] @ code / 5 + 1) @ sizes[:3])  # of classes that differ

    flipped = rows[3] * (1 - 2 * np.eye(5, dtype=int))
    assert np.array_equal(codes[3], min(flipped, key=cost))


def test_the_code_loss_is_the_cross_entropy_of_each_bit() -> None:
    codes = np.array([[1, -1, 1], [-1, -1, 1]], np.int8)
    outputs = torch.tensor([[2.0, 1.0, -0.5], [0.0, -3.0, 4.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    margins = 1.5 * outputs.numpy().astype(np.float64) * codes[[0, 1, 1]]
    expected = np.log1p(np.exp(-margins)).mean()
    loss = CodeLoss(codes, scale=1.5)
    assert loss(outputs, labels).item() == pytest.approx(expected, rel=1e-6)
    assert "targets" in loss.state_dict() and not list(loss.parameters())


# ---- DNNH ----------------------------------------------------------------------------------------


def test_each_bit_reads_its_own_slice() -> None:
    torch.manual_seed(0)
    module = DivideAndEncode(12, 4).double()
    features = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    soft = module(features)
    for bit in range(4):
        part = features[:, 3 * bit : 3 * bit + 3] @ module.weight[bit]
        torch.testing.assert_close(soft[:, bit], 1 / (1 + torch.exp(-part)))
    (gradient,) = torch.autograd.grad(soft[:, 1].sum(), features)
    assert bool((gradient[:, 3:6] != 0).all())
    assert not gradient[:, :3].any() and not gradient[:, 6:].any()
    assert torch.autograd.gradcheck(module, (features,))
    signs = features @ module.matrix().T > 0
    assert torch.equal(signs, soft > 0.5)


LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def soft_bits() -> Tensor:
    return torch.rand(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_ranking_loss_equals_a_loop_over_triplets() -> None:
    codes, labels = soft_bits().numpy(), LABELS.tolist()
    hinges = []
    for a, p, n in permutations(range(6), 3):
        if labels[a] == labels[p] != labels[n]:
            near, far = np.square(codes[a] - codes[p]).sum(), np.square(codes[a] - codes[n]).sum()
            hinges.append(max(0.0, float(1 - far + near)))
    given = soft_bits().requires_grad_()
    assert TripletRankingLoss()(given, LABELS).item() == pytest.approx(np.mean(hinges), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: TripletRankingLoss()(x, LABELS), (given,))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_without_triplets_costs_nothing(labels: list[int]) -> None:
    codes = torch.rand(3, 4, requires_grad=True)
    loss = TripletRankingLoss()(codes, torch.tensor(labels))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert codes.grad is not None and not codes.grad.any()


# ---- ITQ and PCA ---------------------------------------------------------------------------------


def clusters(n: int = 400, dim: int = 24) -> NDArray[np.float32]:
    """Vectors whose variance lies in 8 directions, away from zero."""
    rng = np.random.default_rng(6)
    scales = np.r_[np.linspace(3, 1, 8), np.full(dim - 8, 0.05)]
    turned, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    rows = (rng.standard_normal((n, dim)) * scales) @ turned + 2
    return np.asarray(rows, np.float32)


def test_itq_turns_the_leading_axes_to_less_quantisation_loss() -> None:
    vectors = clusters()
    encode = itq_codes(vectors, 8, seed=0)
    mean = vectors.mean(0)
    planes = encode(np.eye(24, dtype=np.float32) + mean).T
    np.testing.assert_allclose(planes @ planes.T, np.eye(8), atol=1e-4)
    _, _, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    inside = np.square(planes @ axes[:8].T).sum(1)  # of each plane, within the leading axes
    np.testing.assert_allclose(inside, 1, atol=1e-4)

    def quantisation_loss(projected: NDArray[np.float32]) -> float:
        return float(np.square(projected - np.sign(projected)).sum())

    found = encode(vectors)
    assert quantisation_loss(found) < quantisation_loss((vectors - mean) @ axes[:8].T)
    assert np.array_equal(itq_codes(vectors, 8, seed=0)(vectors), found)


def test_pca_equals_normalise_project_normalise() -> None:
    vectors = clusters()
    reduced = pca(vectors, 6)(vectors)
    assert reduced.shape == (400, 6) and reduced.dtype == np.float32
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centred = rows - rows.mean(0)
    _, axes = np.linalg.eigh(np.cov(centred.T))
    projected = centred @ axes[:, ::-1][:, :6]
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    # Signs of axes are arbitrary, cosines are not.
    np.testing.assert_allclose(reduced @ reduced.T, projected @ projected.T, atol=1e-5)


# ---- ranking -------------------------------------------------------------------------------------


def test_packed_bits_are_little_endian_and_codes_of_any_kind_agree() -> None:
    signs = np.array([[1, -1, -1, 1, -1, -1, -1, -1, 1]], np.int8)
    expected = np.array([[0b1001, 1]], np.uint8)
    for codes in (signs, signs > 0, signs * 0.3):
        assert np.array_equal(pack(codes), expected)


@pytest.mark.parametrize("bits", [12, 48, 256])
def test_ranking_equals_sorting_by_distance_then_by_the_order_of_ties(bits: int) -> None:
    rng = np.random.default_rng(7)
    gallery, query = rng.random((200, bits)) > 0.5, rng.random(bits) > 0.5
    distances = (gallery != query).sum(1)
    packed, code = pack(gallery), pack(query[None])[0]
    order = tie_order(200)
    expected = sorted(range(200), key=lambda i: (distances[i], order[i]))
    for k in (1, 30, 200):
        found = hamming_rank(code, packed, k)
        assert found.dtype == np.int64 and found.tolist() == expected[:k]


def test_ties_follow_a_random_order_that_stays() -> None:
    """Of equal codes, a gallery sorted by class must not put its first class first."""
    gallery, query = np.zeros((1000, 6), np.uint8), np.zeros(6, np.uint8)
    first = hamming_rank(query, gallery, 1000)
    assert sorted(first.tolist()) == list(range(1000))
    assert abs(first[:500].mean() - 499.5) < 4 * 289 / 500**0.5  # uniform: deviation 289
    assert np.array_equal(hamming_rank(query, gallery, 10), first[:10])
