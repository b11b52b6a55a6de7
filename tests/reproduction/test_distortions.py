"""The distortions of robustness, against formulas, slices and the libraries' own results."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("cv2")

from reproduction.collection import Pixels
from reproduction.confs import DISTORTIONS
from reproduction.distortions import KINDS, NEUTRAL, distort


def noise(height: int = 48, width: int = 64, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gradient(side: int = 101) -> NDArray[np.float64]:
    """A plane over the square, which bilinear interpolation gives back exactly, (side, side)."""
    y, x = np.mgrid[:side, :side]
    plane: NDArray[np.float64] = 20 + 1.2 * x + 0.8 * y
    return plane


def grey(values: NDArray[np.float64]) -> Pixels:
    return np.repeat(np.rint(values).astype(np.uint8)[:, :, None], 3, axis=2)


# ---- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_neutral_level_is_the_image_itself_in_an_array_of_its_own(kind: str) -> None:
    image = noise()
    found = distort(image, kind, NEUTRAL[kind], seed=3)
    assert np.array_equal(found, image)
    assert not np.shares_memory(found, image)


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_is_deterministic_and_leaves_its_image_alone(kind: str) -> None:
    image = noise(96, 128)  # so large that the least blur is more than rounding
    before = image.copy()
    seen = set()
    for level in DISTORTIONS[kind]:
        found = distort(image, kind, level, seed=7)
        assert found.dtype == np.uint8 and found.shape[2] == 3
        assert kind == "crop" or found.shape == image.shape
        assert np.array_equal(found, distort(image, kind, level, seed=7))
        assert not np.shares_memory(found, image)
        seen.add(found.tobytes())
    assert len(seen) == len(DISTORTIONS[kind])
    assert np.array_equal(image, before)


# ---- each kind -----------------------------------------------------------------------------------


def test_a_rotated_plane_is_the_plane_over_rotated_places() -> None:
    side, degrees = 101, 30.0
    found = distort(grey(gradient(side)), "rotation", degrees, 0)[:, :, 0]
    angle, middle = math.radians(degrees), (side - 1) / 2
    y, x = np.mgrid[:side, :side] - middle
    from_x = math.cos(angle) * x - math.sin(angle) * y
    from_y = math.sin(angle) * x + math.cos(angle) * y
    expected = 20 + 1.2 * (from_x + middle) + 0.8 * (from_y + middle)
    inside = (np.abs(from_x) < middle) & (np.abs(from_y) < middle)
    # rounded before and after, half a grey level each, and OpenCV's places are in 1/32 pixels
    assert np.abs(found[inside] - expected[inside]).max() < 1.1
    assert np.count_nonzero(inside) > 0.8 * side**2


def test_a_crop_is_a_slice_of_the_middle_by_share_of_the_side() -> None:
    image = noise(60, 100)
    assert np.array_equal(distort(image, "crop", 50, 0), image[15:45, 25:75])
    assert np.array_equal(distort(image, "crop", 70, 0), image[9:51, 15:85])
    # 0.9 * 11 = 9.9 is 10 of 11 rows; the odd one goes below
    assert np.array_equal(distort(noise(11, 20), "crop", 90, 0), noise(11, 20)[0:10, 1:19])


@pytest.mark.parametrize("factor", [0.4, 0.85, 1.3, 1.8])
def test_brightness_is_a_factor_rounded_and_cut_off(factor: float) -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.stack([values, values[::-1], values], axis=1)[None]
    expected = [min(255, round(factor * value)) for value in range(256)]
    found = distort(image, "brightness", factor, 0)
    assert found[0, :, 0].tolist() == expected
    assert found[0, :, 1].tolist() == expected[::-1]


def test_contrast_stretches_about_the_mean_grey() -> None:
    image = np.array([[[100, 100, 100], [140, 140, 140]]], np.uint8)
    assert distort(image, "contrast", 0.5, 0)[0, :, 0].tolist() == [110, 130]
    assert distort(image, "contrast", 1.8, 0)[0, :, 0].tolist() == [84, 156]
    # of pure red the grey is 0.299 * 200 = 59.8: red 59.8 + 140.2 / 2, green 59.8 / 2
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    assert distort(red, "contrast", 0.5, 0)[0, 0].tolist() == [130, 30, 30]


def test_noise_has_its_deviation_and_no_direction() -> None:
    plain = np.full((200, 200, 3), 128, np.uint8)
    added = distort(plain, "noise", 20, 5).astype(np.float64) - 128
    # 120,000 draws: standard errors are 0.058 of the mean and 0.041 of the deviation
    assert abs(added.mean()) < 0.3
    assert added.std() == pytest.approx(20, abs=0.3)
    assert abs(np.corrcoef(added[:, :, 0].ravel(), added[:, :, 1].ravel())[0, 1]) < 0.03


def test_a_blurred_dot_is_the_gaussian_and_its_width_goes_by_the_longer_side() -> None:
    image = np.zeros((41, 100, 3), np.uint8)
    image[20, 50] = 255
    sigma = 2.0  # 2 % of 100
    x = np.arange(-7, 8)
    bell = np.exp(-(x**2) / (2 * sigma**2))
    expected = 255 * np.outer(bell, bell) / bell.sum() ** 2
    found = distort(image, "blur", 2, 0)[13:28, 43:58, 0]
    assert np.abs(found - expected).max() <= 1  # of OpenCV's fixed-point weights


@pytest.mark.parametrize("quality", [95, 50, 5])
def test_jpeg_is_pillows_own(quality: int) -> None:
    image = noise(40, 56)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as reread:
        assert np.array_equal(distort(image, "jpeg", quality, 0), np.asarray(reread))
