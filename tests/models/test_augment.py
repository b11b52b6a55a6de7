"""Augmentation: the same draw gives the same pixels, and each method does its own thing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.models.augment import (
    GREY,
    Transform,
    apply,
    augment,
    draw_transform,
)
from lookalike.models.settings import NO_AUGMENTATION, AugmentSettings

ALL = AugmentSettings()
METHODS = [field.name for field in fields(AugmentSettings)]
Pixels = NDArray[np.uint8]


def noise(width: int = 64, height: int = 64, seed: int = 0) -> Pixels:
    generator = np.random.default_rng(seed)
    return generator.integers(40, 216, (height, width, 3), dtype=np.uint8)


# ---- determinism ---------------------------------------------------------------------------------


def test_seed_epoch_and_index_decide_alone_whatever_the_thread() -> None:
    pixels = noise()
    calls = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)]
    alone = [augment(pixels, 48, ALL, *call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(augment, pixels, 48, ALL, *call) for call in reversed(calls)]
        threaded = [future.result() for future in reversed(futures)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, threaded, strict=True))
    assert len({a.tobytes() for a in alone}) == len(calls)


@pytest.mark.parametrize("method", METHODS)
def test_switching_a_method_off_leaves_the_other_draws_as_they_were(method: str) -> None:
    settings = replace(ALL, flip_vertical=0.5)
    changes = {
        "scale": {"zoom"},
        "rotation": {"degrees"},
        "crop": {"window"},
        "flip": {"mirrored"},
        "flip_vertical": {"upside_down"},
    }
    seen = set()
    for index in range(20):
        on = draw_transform(settings, 3, 1, index)
        off = draw_transform(replace(settings, **{method: 0.0}), 3, 1, index)
        names = [field.name for field in fields(Transform)]
        seen |= {name for name in names if getattr(on, name) != getattr(off, name)}
    assert seen == changes.get(method, {method})


def test_draws_stay_within_their_strengths_and_use_them() -> None:
    settings = AugmentSettings(scale=0.5, rotation=20, crop=0.4, noise=10, contrast=1)
    drawn = [draw_transform(settings, 0, 0, index) for index in range(500)]
    zoom = np.array([t.zoom for t in drawn])
    assert zoom.min() >= 1 / 1.5 and zoom.max() <= 1.5
    assert zoom.min() < 0.68 and zoom.max() > 1.47
    assert abs(np.median(np.log(zoom))) < 0.05  # as often smaller as larger
    degrees = np.array([t.degrees for t in drawn])
    assert -20 <= degrees.min() < -19 and 19 < degrees.max() <= 20
    left, top, width, height = np.array([t.window for t in drawn]).T
    assert min(width.min(), height.min()) >= 0.6
    assert left.min() >= 0 and (left + width).max() <= 1 and (top + height).max() <= 1 + 1e-12
    assert max(t.noise for t in drawn) <= 10
    assert 0.4 < np.mean([t.mirrored for t in drawn]) < 0.6  # 500 coins: deviation 0.022
    assert not any(t.upside_down for t in drawn)


# ---- what each method does -----------------------------------------------------------------------


def test_everything_off_is_the_identity() -> None:
    pixels = noise()
    assert np.array_equal(augment(pixels, 64, NO_AUGMENTATION, 0, 0, 0), pixels)
    assert not NO_AUGMENTATION.on and ALL.on


def greys(pixels: Pixels) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (pixels @ GREY)[..., None]
    return found


@pytest.mark.parametrize(
    ("transform", "side", "expected", "tolerance"),
    [
        (Transform(mirrored=True), 64, lambda p: p[:, ::-1], 0),
        (Transform(upside_down=True), 64, lambda p: p[::-1], 0),
        (Transform(degrees=90), 64, np.rot90, 1),  # Pillow cuts its interpolation off
        (Transform(window=(0.25, 0.125, 0.5, 0.5)), 32, lambda p: p[8:40, 16:48], 0),
        (Transform(zoom=2), 32, lambda p: p[16:48, 16:48], 0),
        (Transform(zoom=0.8), 80, lambda p: np.pad(p, ((8, 8), (8, 8), (0, 0)), "symmetric"), 0),
        (Transform(brightness=1.15), 64, lambda p: 1.15 * p, 0.51),
        # about the mean grey, which is taken from an eighth of the size
        (Transform(contrast=1.2), 64, lambda p: 1.2 * p - 0.2 * greys(p).mean(), 0.71),
        (Transform(colour=1.2), 64, lambda p: 1.2 * p - 0.2 * greys(p), 0.51),
        (Transform(colour=0.0), 64, greys, 0.51),
    ],
)
def test_a_transform_is_its_formula(
    transform: Transform, side: int, expected: Callable[[Pixels], Any], tolerance: float
) -> None:
    pixels = noise()
    found = apply(pixels, transform, (side, side)).astype(float)
    assert found.shape == (side, side, 3)
    assert np.abs(found - expected(pixels)).max() <= tolerance


def test_noise_has_its_standard_deviation_and_no_bias() -> None:
    pixels = np.full((128, 128, 3), 128, np.uint8)
    noise = apply(pixels, Transform(noise=12.0, noise_seed=4), (128, 128)).astype(float) - 128
    assert noise.std() == pytest.approx(12, rel=0.02)  # 49,152 numbers: deviation 0.3 %
    assert abs(noise.mean()) < 0.3
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    assert 0.26 < np.mean(np.abs(noise) > 12.5) < 0.34  # 0.30 of a Gaussian beyond 1.04 sigma


@pytest.mark.parametrize(
    ("method", "value"), [("scale", -0.1), ("crop", 0.95), ("flip", 2), ("noise", float("nan"))]
)
def test_a_strength_out_of_range_is_refused(method: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{method} is .*a number at least 0 and at most"):
        AugmentSettings(**{method: value})
