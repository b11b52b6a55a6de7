"""Paired intervals against values computed by hand."""

from __future__ import annotations

import math

import pytest

from reproduction.tables import half_width, paired_difference


def test_the_interval_is_students() -> None:
    # Deviation 0.02 of three, so the half width is 4.303 * 0.02 / sqrt(3).
    assert half_width([0.01, 0.03, 0.05]) == pytest.approx(4.302652730 * 0.02 / math.sqrt(3))
    assert math.isnan(half_width([0.01]))
    # Deviation 1 of 21, so the half width is 2.086 / sqrt(21); 2.086 has three decimals.
    assert half_width([1.0, -1.0] * 10 + [0.0]) == pytest.approx(2.086 / math.sqrt(21), rel=3e-4)


def test_a_difference_pairs_the_splits_that_both_have() -> None:
    first = {0: 0.6, 1: 0.9, 2: 0.8, 7: 0.0}
    second = {0: 0.5, 1: 0.7, 2: 0.5, 9: 1.0}
    found = paired_difference(first, second)
    assert found is not None
    assert found.count == 3
    assert found.mean == pytest.approx(0.2)
    half = 4.302652730 * 0.1 / math.sqrt(3)
    assert found.low == pytest.approx(0.2 - half)
    assert found.high == pytest.approx(0.2 + half)
    assert str(found) == "+0.2000 [-0.0484, +0.4484]"
    assert paired_difference({1: 0.0}, {2: 0.0}) is None
