"""SVM active learning as a row of the tables: its features, its rounds, and Corel-1k."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from textures import collection_of

from lookalike.feedback import Feedback
from reproduction.collection import Collection, Pixels, Positions
from reproduction.methods import Oracle
from reproduction.svm_active import (
    GROUPS,
    ORIENTATIONS,
    TEXTURE_SIDES,
    WAVELENGTH,
    SvmActive,
    colour_histogram,
    colour_moments,
    gabor_energies,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_opencv() -> Iterator[None]:
    """Small filters gain nothing from more, and on a busy machine threads wait for each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def plain(rgb: tuple[int, int, int], size: tuple[int, int] = (30, 40)) -> Pixels:
    return np.full((*size, 3), rgb, np.uint8)


def grating(wavelength: float, degrees: float, size: int = 192) -> Pixels:
    """A grey wave that runs in a direction, in degrees from the x axis to the y axis."""
    y, x = np.mgrid[:size, :size]
    angle = math.radians(degrees)
    wave = np.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength)
    grey = np.rint(127.5 + 100 * wave).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


@cache
def tinted(per_class: int = 12) -> Collection:
    """Noise in three tints, so that colour separates the classes but not without overlap."""
    generator = np.random.default_rng(0)
    tints = np.array([(150, 110, 100), (110, 150, 100), (110, 100, 150)])
    labels = np.repeat(np.arange(3), per_class)
    images = [
        np.clip(tints[label] + generator.normal(0, 60, (24, 24, 3)), 0, 255).astype(np.uint8)
        for label in labels.tolist()
    ]
    return collection_of(images, labels.tolist())


def answers(labels: Positions, wanted: int, asked: list[Positions] | None = None) -> Oracle:
    def oracle(positions: Positions) -> NDArray[np.bool_]:
        if asked is not None:
            asked.append(positions)
        relevant: NDArray[np.bool_] = labels[positions] == wanted
        return relevant

    return oracle


# ---- features ------------------------------------------------------------------------------------


def test_colour_moments_are_the_formula() -> None:
    # grey has hue and saturation 0, and V is its value: 51, 51, 51 and 255 are 0.2, 0.2, 0.2, 1
    image = np.array([[51, 51], [51, 255]], np.uint8)[:, :, np.newaxis].repeat(3, axis=2)
    mean = 0.4
    deviation = math.sqrt((3 * 0.2**2 + 0.6**2) / 4)
    skew = ((3 * (-0.2) ** 3 + 0.6**3) / 4) ** (1 / 3)
    expected = [0, 0, mean, 0, 0, deviation, 0, 0, skew]
    np.testing.assert_allclose(colour_moments(image), expected, atol=1e-6)


def test_a_histogram_is_the_root_of_the_share_in_the_bin_of_the_colour() -> None:
    # pure red: hue 0, saturation and value 255, so bin 0, 2, 2; black: bin 0, 0, 0
    image = np.concatenate([plain((255, 0, 0), (10, 30)), plain((0, 0, 0), (10, 10))], axis=1)
    histogram = colour_histogram(image)
    assert np.flatnonzero(histogram).tolist() == [0, 8]
    np.testing.assert_allclose(histogram[[0, 8]], [0.5, math.sqrt(0.75)], atol=1e-7)
    # blue has hue 240 degrees, 12 of 18 bins
    assert np.flatnonzero(colour_histogram(plain((0, 0, 255)))).tolist() == [12 * 9 + 8]


@pytest.mark.parametrize("scale", range(len(TEXTURE_SIDES)))
@pytest.mark.parametrize("turn", range(ORIENTATIONS))
def test_a_grating_excites_its_own_gabor_filter_most(scale: int, turn: int) -> None:
    wavelength = WAVELENGTH * TEXTURE_SIDES[0] / TEXTURE_SIDES[scale]
    energies = gabor_energies(grating(wavelength, turn * 180 / ORIENTATIONS))
    means = energies.reshape(len(TEXTURE_SIDES), ORIENTATIONS, 2)[:, :, 0]
    assert divmod(int(means.argmax()), ORIENTATIONS) == (scale, turn)


# ---- the method ----------------------------------------------------------------------------------


def test_features_are_standardised_on_the_training_images_and_groups_weigh_the_same() -> None:
    made = tinted()
    method = SvmActive()
    method.fit(made.sample(np.arange(len(made))))
    described = np.stack([method.describe(image) for image in made.pixels])
    assert described.dtype == np.float32
    np.testing.assert_allclose(described.mean(axis=0), 0, atol=1e-6)
    for group in np.split(described, np.cumsum(GROUPS)[:-1], axis=1):
        varies = group.std(axis=0) > 0
        # float32 roots of sums of some ten squares
        np.testing.assert_allclose(group.std(axis=0)[varies], len(varies.T) ** -0.5, rtol=1e-4)


def test_the_curve_is_the_dialogue_of_the_feedback_module() -> None:
    made = tinted()
    rows = np.arange(len(made))
    gallery = made.sample(rows[rows % 4 != 0])
    method = SvmActive(labels=5)
    method.fit(gallery)
    query = method.describe(made.pixels[4])
    wanted = int(made.labels[4])
    asked: list[Positions] = []
    curve = method.curve(query, answers(gallery.labels, wanted, asked), 3)

    vectors = np.stack([method.describe(image) for image in gallery])
    feedback = Feedback(vectors, query)
    for number, found in enumerate(curve):
        if number:
            questions = feedback.ask(5)
            assert asked[number - 1].tolist() == questions.tolist()
            feedback.tell(questions, gallery.labels[questions] == wanted)
        assert found.ranking.tolist() == feedback.rank().tolist()
        assert found.labelled.tolist() == np.sort([*asked[:number]], axis=None).tolist()
    assert len(asked) == 3
