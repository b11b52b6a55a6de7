"""What a search returns, and when a threshold is reached."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

SAME = 0.99
"""Cosine that only other sizes and compressions of one image have."""
LIKENESS = (("very alike", 0.995, 0.9), ("alike", 0.97, 0.7), ("somewhat alike", 0.9, 0.5))
"""Each word, and from which share of pairs or which cosine on it is used."""
FIT = (("fits very well", 0.995), ("fits well", 0.97), ("fits somewhat", 0.9))
CHANCE_IN_WORDS = "even the best of these is as dissimilar as a random pair of images"
UNRELATED_IN_WORDS = "even the best of these fits the words no better than unrelated words would"
NO_FILE = "no file matches the filter"
FLOAT16_SLACK = 2.0**-10
"""How far below 1 the cosine of equal images may come out.

Vectors are stored as float16, which rounds each number by a factor of 1 + e with |e| <= 2^-11. For
a unit vector v, the product of two rounded copies is sum v_i^2 (1 + e_i)^2 >= (1 - 2^-11)^2 >
1 - 2^-10, and that of v and one rounded copy is nearer to 1.
"""


@dataclass(frozen=True)
class Hit:
    """An image that looks like the query.

    Attributes:
        path: relative to the gallery's folder, forward slashes.
        file: the absolute path.
        cosine: of the angle between the two embeddings, -1 to 1; 1 for the same image.
        bits: how many of the ``code_bits`` bits of the two codes differ.
        rarity: share (0 to 1) of random pairs of this gallery that are less alike; None if the
            gallery has no pair. Of a query with words, of pairs of an image and unrelated words.
        id: number of the image in the gallery.
        width, height: of the upright image, pixels.
        format: of the file's content, for instance "JPEG".
    """

    path: str
    file: Path
    cosine: float
    bits: int
    code_bits: int
    rarity: float | None
    id: int
    width: int
    height: int
    format: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rarity = None if self.rarity is None else round(self.rarity, 6)
        plain = {"file": os.fspath(self.file), "cosine": round(self.cosine, 6), "rarity": rarity}
        return {**vars(self), **plain}

    def describe(self) -> str:
        """The score in words: "0.913, 31 of 256 bits differ, closer than 99.8 % of pairs"."""
        return score_in_words(self.cosine, self.bits, self.code_bits, self.rarity)


def score_in_words(
    cosine: float, bits: int, code_bits: int, rarity: float | None, *, of_words: bool = False
) -> str:
    """As `Hit.describe`; of a query with words, codes say nothing."""
    text = f"{cosine:.3f}" if of_words else f"{cosine:.3f}, {bits} of {code_bits} bits differ"
    if rarity is not None:
        share = f"{100 * rarity:.3f}".rstrip("0").rstrip(".")
        text += f", closer than {share} % of {'unrelated words' if of_words else 'pairs'}"
    return text


def likeness_in_words(cosine: float, rarity: float | None, *, of_words: bool = False) -> str:
    """One word for a score: by how many random pairs of this gallery are less alike (``rarity``, 0
    to 1), or, where most images are alike or there are too few to say, by the cosine alone.

    ``of_words``: the query is words, and ``rarity`` the share of other words that fit less well.
    """
    if of_words:
        return next((word for word, rare in FIT if (rarity or 0) >= rare), "hardly fits")
    if cosine >= SAME:
        return "same image"
    for word, rare, close in LIKENESS:
        if cosine >= close or (rarity is not None and rarity >= rare):
            return word
    return "hardly alike"


def check_count(name: str, value: object) -> None:
    """ValueError unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")


def check_number(name: str, value: object) -> None:
    """TypeError unless ``value`` is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; it must be a number")


def smallest_cosine(threshold: float) -> float:
    """The cosine from which on a threshold counts as reached: itself, but never above what two
    equal images are sure to have, so that a threshold of 1 finds them.

    Raises:
        TypeError: it is not a number; ValueError: not from -1 to 1.
    """
    check_number("threshold", threshold)
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be a cosine from -1 to 1")
    return min(threshold, 1 - FLOAT16_SLACK)
