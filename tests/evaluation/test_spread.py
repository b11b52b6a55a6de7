"""Means and deviations against values computed by hand."""

from __future__ import annotations

import math

import pytest

from lookalike.evaluation.spread import spread


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
