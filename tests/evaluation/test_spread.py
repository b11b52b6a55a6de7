"""Means, deviations and paired intervals against figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from lookalike.evaluation.spread import half_width, paired_difference, spread, student


def test_the_deviation_is_that_of_a_sample() -> None:
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.deviation == pytest.approx(math.sqrt(7 / 3))
    assert str(found) == "2.3333 ± 1.5275"


def test_a_single_value_has_no_deviation() -> None:
    found = spread([0.5])
    assert math.isnan(found.deviation)
    assert str(found) == "0.5000"


def test_no_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no value"):
        spread([])


def test_the_interval_is_students() -> None:
    # Deviation 0.02 of three, so the half width is 4.303 * 0.02 / sqrt(3).
    assert half_width([0.01, 0.03, 0.05]) == pytest.approx(4.303 * 0.02 / math.sqrt(3))
    assert math.isnan(half_width([0.01]))
    # Deviation 1 of 21, so the half width is 2.086 / sqrt(21); 2.086 has three decimals.
    assert half_width([1.0, -1.0] * 10 + [0.0]) == pytest.approx(2.086 / math.sqrt(21), rel=3e-4)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (9, 2.262), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (100, 1.984)],
)
def test_students_t_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert round(student(freedom), 3) == expected
    with pytest.raises(ValueError, match="freedom is 0; it must be at least 1"):
        student(0)


def test_a_difference_pairs_the_splits_that_both_have() -> None:
    first = {0: 0.6, 1: 0.9, 2: 0.8, 7: 0.0}
    second = {0: 0.5, 1: 0.7, 2: 0.5, 9: 1.0}
    found = paired_difference(first, second)
    assert found is not None
    assert found.count == 3
    assert found.mean == pytest.approx(0.2)
    half = 4.303 * 0.1 / math.sqrt(3)
    assert found.low == pytest.approx(0.2 - half)
    assert found.high == pytest.approx(0.2 + half)
    assert str(found) == "+0.2000 [-0.0484, +0.4484]"
    assert paired_difference({1: 0.0}, {2: 0.0}) is None
