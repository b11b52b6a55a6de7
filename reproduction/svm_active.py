"""SVM active learning (Tong and Chang 2001): colour, texture, and relevance feedback by a person.

The features are of that time: a colour histogram, colour moments (Stricker and Orengo 1995) and
Gabor energies (Manjunath and Ma 1996). A search asks the oracle about some images, several times.

When comparing its numbers with others: the images that the person judged are part of the ranking,
those judged irrelevant at its end. Precision and mAP thus count answers that the person gave, which
no other method has. `Round.residual` is the ranking without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lookalike.feedback import Feedback, FeedbackSettings
from reproduction.collection import Floats, Pixels, Positions, Sample
from reproduction.methods import Method, Oracle

BINS = (18, 3, 3)
"""Of hue, saturation and value."""
TEXTURE_SIDES = (192, 96, 48, 24)
"""Longest sides, in pixels, to which an image is resized for its texture: the scales."""
ORIENTATIONS = 6
WAVELENGTH = 3.0
"""Of the Gabor filters, in pixels: the same at each scale, so that the filters stay small."""
SIGMA = 0.56 * WAVELENGTH
"""Of a filter's envelope: a bandwidth of one octave, the step between the scales."""
RADIUS = 5
"""Of a filter, three sigmas."""
GROUPS = (math.prod(BINS), 9, 2 * len(TEXTURE_SIDES) * ORIENTATIONS)
"""Dimensions of histogram, moments and texture."""
KEY = "svm-active: hsv 18x3x3, hsv moments, gabor 192-24 x 6"


@dataclass(frozen=True, eq=False)
class Round:
    """What a person has after a round.

    Attributes:
        ranking: int64 (g,), all of the gallery, best first; what was judged irrelevant comes last.
        labelled: int64 (m,), ascending: the positions that were judged in this round or before.
    """

    ranking: Positions
    labelled: Positions

    @property
    def residual(self) -> Positions:
        """int64 (g - m,): the ranking without the judged."""
        return self.ranking[~np.isin(self.ranking, self.labelled)]


class SvmActive(Method):
    """`rounds` of feedback with `labels` judged images each, from colour and texture.

    Tong and Chang report their gain after three to four rounds; the default is four of twenty.
    """

    def __init__(
        self, rounds: int = 4, labels: int = 20, settings: FeedbackSettings | None = None
    ) -> None:
        self.rounds, self.labels = rounds, labels
        self.title = f"SVM active learning [17], {rounds} x {labels} answers"
        self.settings = settings or FeedbackSettings()

    def made_of(self) -> str:
        settings = replace(self.settings, seed=0)
        return f"{KEY}; {self.rounds} x {self.labels}, {settings}"

    def learn(self, training: Sample) -> None:
        """Mean and deviation of each dimension, over the training images."""
        described = np.stack(training.each(KEY, _described)).astype(np.float64)
        self._mean = described.mean(axis=0)
        deviation = described.std(axis=0)
        deviation[deviation == 0] = 1
        # the groups differ in size; each is to count as much as another in a squared distance
        self._unit = deviation * np.sqrt(np.repeat(GROUPS, GROUPS))

    def index(self, gallery: Sample) -> None:
        self._gallery = self._standardised(np.stack(gallery.each(KEY, _described)))

    def describe(self, image: Pixels) -> Floats:
        """float32 (219,): z-scores over the training images, each group over root of its size."""
        return self._standardised(_described(image))

    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        """The ranking after `rounds` rounds; see the head of this file for what it contains."""
        return self.curve(features, oracle, self.rounds)[-1].ranking[:k]

    def curve(
        self, features: Floats, oracle: Oracle | None, rounds: int | None = None
    ) -> list[Round]:
        """What there is after each round 0..`rounds` (None: the method's own).

        Round 0 is before any question: the order of distance from the query.
        """
        rounds = self.rounds if rounds is None else rounds
        feedback = Feedback(self._gallery, features, self.settings)
        found = [Round(feedback.rank(), feedback.judged)]
        for _ in range(rounds):
            asked = feedback.ask(self.labels)
            if oracle is not None and len(asked):
                feedback.tell(asked, oracle(asked))
            found.append(Round(feedback.rank(), feedback.judged))
        return found

    def _standardised(self, values: Floats) -> Floats:
        standardised: Floats = ((values - self._mean) / self._unit).astype(np.float32)
        return standardised


# ---- features ------------------------------------------------------------------------------------


def _described(image: Pixels) -> Floats:
    """float32 (219,): the three groups, not standardised."""
    groups = (colour_histogram(image), colour_moments(image), gabor_energies(image))
    return np.concatenate(groups)


def colour_histogram(image: Pixels) -> Floats:
    """float32 (162,): roots of the shares of pixels in 18 x 3 x 3 bins of HSV.

    The root keeps one large plain area from drowning all else.
    """
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).reshape(-1, 3).astype(np.int64)
    bins = hsv * np.array(BINS) // 256
    counts = np.bincount(np.ravel_multi_index(tuple(bins.T), BINS), minlength=math.prod(BINS))
    return np.sqrt(counts / len(hsv)).astype(np.float32)


def colour_moments(image: Pixels) -> Floats:
    """float32 (9,): of H, S and V in 0..1 the mean, then the deviation, then the skew.

    Stricker and Orengo: the second and third are roots, (E(x - mean)^2)^(1/2) and
    (E(x - mean)^3)^(1/3), the latter with its sign, so that all have the unit of the channel.
    """
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).reshape(-1, 3)
    values = np.asarray(hsv, np.float64) / 255
    mean = values.mean(axis=0)
    off = values - mean
    moments = (mean, np.sqrt((off**2).mean(axis=0)), np.cbrt((off**2 * off).mean(axis=0)))
    return np.concatenate(moments).astype(np.float32)


def gabor_energies(image: Pixels) -> Floats:
    """float32 (48,): mean and deviation of the magnitude behind each Gabor filter.

    By scale, then orientation, then mean before deviation.
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    height, width = grey.shape
    filters = _gabor_filters()
    found = []
    for side in TEXTURE_SIDES:
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for even, odd in filters:
            magnitude = cv2.magnitude(cv2.filter2D(scaled, -1, even), cv2.filter2D(scaled, -1, odd))
            found += [magnitude.mean(), magnitude.std()]
    return np.array(found, np.float32)


def _gabor_filters() -> list[tuple[Floats, Floats]]:
    """Even and odd filter, (11, 11) each, of each orientation; a plain area gives 0."""
    import cv2

    side = 2 * RADIUS + 1

    def kernel(angle: float, wavelength: float, phase: float) -> Floats:
        made = cv2.getGaborKernel((side, side), SIGMA, angle, wavelength, 1.0, phase, cv2.CV_32F)
        return np.asarray(made, np.float32)

    envelope = kernel(0, 1e9, 0)  # a wave of that length is 1 all over
    pairs = []
    for turn in range(ORIENTATIONS):
        angle = turn * math.pi / ORIENTATIONS
        even, odd = kernel(angle, WAVELENGTH, 0), kernel(angle, WAVELENGTH, -math.pi / 2)
        pairs.append((even - envelope * (even.sum() / envelope.sum()), odd))
    return pairs
