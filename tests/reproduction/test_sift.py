"""Visual words of SIFT, against formulas written out, sklearn, and images known to be alike."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("sklearn")

import cv2
from textures import collection_of

from reproduction import sift
from reproduction.collection import Collection, Pixels
from reproduction.distortions import distort
from reproduction.sift import (
    Choice,
    Keypoints,
    Sift,
    keypoints,
    nearest_words,
    root_sift,
    tf_idf,
    word_counts,
)

SIZES = (20, 60)


def texture(kind: int, seed: int, side: int = 96) -> Pixels:
    """Blobs, strokes or boxes at random places; no two seeds are the same picture."""
    rng = np.random.default_rng([kind, seed])
    grey = np.full((side, side), 90, np.uint8)
    if kind == 0:
        fine = rng.normal(0, 1, (side, side))
        blobs = np.asarray(cv2.GaussianBlur(fine, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT))
        grey = np.clip(128 + 50 * blobs / blobs.std(), 0, 255).astype(np.uint8)
    for _ in range(40 if kind else 0):
        x, y, right, below = rng.integers(0, side, 4).tolist()
        shade = int(rng.integers(120, 256))
        if kind == 1:
            cv2.line(grey, (x, y), (right, below), shade, 1, cv2.LINE_AA)
        else:
            cv2.rectangle(grey, (x, y), (x + 5 + right // 5, y + 5 + below // 5), shade, -1)
    return np.repeat(grey[:, :, None], 3, axis=2)


@cache
def textures(kinds: int = 3, each: int = 12) -> Collection:
    labels = [kind for kind in range(kinds) for _ in range(each)]
    images = [texture(kind, number) for number, kind in enumerate(labels)]
    return collection_of(images, labels)


@cache
def fitted() -> Sift:
    method = Sift(0, SIZES)
    method.fit(textures().sample(np.arange(len(textures()))))
    return method


@cache
def without_pyramid() -> Sift:
    method = Sift(0, (300,), pyramids=(False,))
    method.fit(textures().sample(np.arange(len(textures()))))
    return method


# ---- features ------------------------------------------------------------------------------------


def test_root_sift_is_the_root_of_the_share_in_steps_of_a_255th() -> None:
    raw = np.zeros((2, 128), np.float32)
    raw[0, :4] = (10, 20, 30, 40)
    raw[1] = 7
    found = root_sift(raw)
    expected = [round(255 * math.sqrt(share)) for share in (0.1, 0.2, 0.3, 0.4)]
    assert found[0, :5].tolist() == [*expected, 0]
    assert found[1].tolist() == [round(255 * math.sqrt(1 / 128))] * 128


# ---- words ---------------------------------------------------------------------------------------


def test_the_nearest_word_is_the_nearest_by_distance() -> None:
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 256, (40, 128), dtype=np.uint8)
    vocabulary = rng.uniform(0, 255, (15, 128)).astype(np.float32)
    distances = np.linalg.norm(descriptors[:, None].astype(float) - vocabulary[None], axis=2)
    assert nearest_words(descriptors, vocabulary).tolist() == distances.argmin(axis=1).tolist()


def test_words_are_counted_in_the_whole_and_then_in_each_quarter() -> None:
    vocabulary = np.zeros((3, 128), np.float32)
    vocabulary[1, 0], vocabulary[2, 1] = 200, 200
    descriptors = np.rint(vocabulary[[0, 1, 1, 2, 2, 2]]).astype(np.uint8)
    places = np.array(
        [(0.1, 0.1), (0.49, 0.2), (0.5, 0.2), (0.2, 0.5), (0.9, 0.99), (0.5, 0.5)], np.float32
    )
    found = Keypoints(descriptors, places)
    assert word_counts(found, vocabulary, False).tolist() == [1, 2, 3]
    expected = [1, 2, 3, *(1, 1, 0), *(0, 1, 0), *(0, 0, 1), *(0, 0, 2)]
    assert word_counts(found, vocabulary, True).tolist() == expected


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_tf_idf_is_the_formula(power: float) -> None:
    counts = np.array([[3, 0, 1, 2], [0, 0, 0, 0], [1, 5, 0, 0]], np.float32)
    idf = np.array([0.7, 0.1, 2.0, 0.0], np.float32)
    found = tf_idf(counts, idf, power)
    for row, vector in zip(counts.tolist(), found.tolist(), strict=True):
        total = sum(row) or 1
        # with the term frequency as the share of the image's words
        weights = [(n / total * w) ** power for n, w in zip(row, idf.tolist(), strict=True)]
        length = math.sqrt(sum(weight**2 for weight in weights)) or 1
        np.testing.assert_allclose(vector, [weight / length for weight in weights], rtol=1e-6)


# ---- choosing ------------------------------------------------------------------------------------


def test_every_size_pyramid_and_power_is_tried_and_the_best_is_chosen() -> None:
    method = fitted()
    expected = {
        Choice(size, pyramid, power)
        for size in SIZES
        for pyramid in (False, True)
        for power in sift.POWERS
    }
    assert set(method.trials) == expected
    assert method.trials[method.chosen] == max(method.trials.values())
    assert method.vocabulary.shape == (method.chosen.words, 128)


# ---- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [30, 90, 180])
def test_a_rotated_image_is_found_first_among_many(degrees: float) -> None:
    toy = textures()
    method = without_pyramid()
    for wanted in range(0, len(toy), 5):
        turned = distort(toy.pixels[wanted], "rotation", degrees, 0)
        assert method.search(turned, 1).tolist() == [wanted]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (40, 40)])
def test_an_image_without_keypoints_is_zero_and_ranks_the_gallery_as_it_stands(
    size: tuple[int, int],
) -> None:
    method = fitted()
    plain = np.full((*size, 3), 90, np.uint8)
    assert len(keypoints(plain)) == 0
    described = method.describe(plain)
    assert described.shape == method.idf.shape and not described.any()
    assert method.match(described, 5).tolist() == [0, 1, 2, 3, 4]
