"""Figures: the finding in each title is that of the numbers, and every file is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lookalike.evaluation.metrics import spread
from reproduction.plots import (
    crossing,
    plot_buckets,
    plot_growth,
    plot_robustness,
    plot_table,
)


@pytest.fixture
def titled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The title of the figure that a function draws, without line ends."""

    def drawn(draw: Callable[..., None], *arguments: Any) -> str:
        titles = []
        suptitle = Figure.suptitle

        def noting(self: Figure, text: str, **options: Any) -> Any:
            titles.append(text)
            return suptitle(self, text, **options)

        monkeypatch.setattr(Figure, "suptitle", noting)
        draw(tmp_path / "figure.png", *arguments)
        monkeypatch.undo()
        with Image.open(tmp_path / "figure.png") as image:
            assert image.width == 1500
        return str(titles[0]).replace("\n", " ")

    return drawn


def test_a_table_names_the_best_and_how_far_it_is_ahead(titled: Callable[..., str]) -> None:
    far = {"a": spread([0.8, 0.82]), "b": spread([0.5, 0.52])}
    assert titled(plot_table, "set", far, {"b": 0.6}, "a") == (
        "set: a is best, mAP 0.810, 0.300 ahead of b"
    )
    near = {"a": spread([0.8, 0.9]), "b": spread([0.84, 0.85])}
    assert titled(plot_table, "set", near, {}, "a").endswith("is within a standard deviation of it")
    one = {"a": spread([0.8]), "b": spread([0.7])}
    assert titled(plot_table, "set", one, {}, "") == "set: a is best, mAP 0.800 on one split"


def test_robustness_names_the_largest_loss_within_the_levels_aimed_at(
    titled: Callable[..., str],
) -> None:
    levels = {"rotation": [0.0, 15.0, 90.0], "blur": [0.0, 1.0]}
    curves = {
        "rotation": {"ours": np.array([0.9, 0.88, 0.1]), "sift": np.array([0.5, 0.5, 0.5])},
        "blur": {"ours": np.array([0.9, 0.2]), "sift": np.array([0.5, 0.1])},
    }
    title = titled(plot_robustness, curves, levels, "P@10")
    assert title.endswith("ours loses at most 0.020 P@10: rotation, level 15")


def test_growth_says_from_which_size_hashing_pays(titled: Callable[..., str]) -> None:
    sizes, exhaustive, lsh = [100, 1000, 10_000], [1.0, 10.0, 100.0], [10.0, 10.0, 10.0]
    assert crossing(sizes, exhaustive, lsh) == pytest.approx(1000)
    assert crossing(sizes, lsh, exhaustive) is None
    assert crossing(sizes, [20.0] * 3, lsh) == -np.inf
    title = titled(plot_growth, sizes, exhaustive, lsh, [1.0, 0.99, 0.98])
    assert title == "LSH is faster from 1,000 images on; at 10,000 it is 10 times as fast"


def test_buckets_say_how_full_they_are(titled: Callable[..., str]) -> None:
    sizes = [np.array([1, 2, 0, 5]), np.array([4, 4])]
    title = titled(plot_buckets, sizes, 10)
    assert title == (
        "2 tables of 10 buckets: 75 % are empty, the largest holds 5 of 8 images, the median of "
        "those in use 4"
    )
