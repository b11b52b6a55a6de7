"""The perceptual hash against its definition, and what the check finds alike."""

from __future__ import annotations

import numpy as np
import pytest
from hostile import photo
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from lookalike.images.likeness import hash_variants, perceptual_hash


def reference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`imagehash.phash(Image.fromarray(pixels)).hash`, by the lines of that library."""
    image = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dct(dct(np.asarray(image, np.float64), axis=0), axis=1)[:8, :8]
    found: NDArray[np.bool_] = low > np.median(low)
    return found


def bits_of(value: int) -> NDArray[np.bool_]:
    octets = np.frombuffer(value.to_bytes(8, signed=True), np.uint8)
    return np.unpackbits(octets).astype(np.bool_).reshape(8, 8)


@pytest.mark.parametrize("seed", range(12))
def test_the_hash_is_that_of_imagehash(seed: int) -> None:
    pixels = np.asarray(Image.fromarray(photo(seed)).resize((224, 224)))
    assert (bits_of(perceptual_hash(pixels)) == reference_hash(pixels)).all()


def test_hashes_of_mirrored_and_turned_pictures_are_derived_but_for_a_few_bits() -> None:
    for seed in range(12):
        pixels = np.asarray(Image.fromarray(photo(seed)).resize((224, 224)))
        derived = hash_variants(np.array([perceptual_hash(pixels)], np.int64))[:, 0]
        eight = [
            flipped
            for either in (pixels, pixels.transpose(1, 0, 2))
            for flipped in (either, either[:, ::-1], either[::-1], either[::-1, ::-1])
        ]
        turned = [perceptual_hash(np.ascontiguousarray(each)) % (1 << 64) for each in eight]
        assert int(derived[0]) == turned[0]
        wrong = [(int(a) ^ b).bit_count() for a, b in zip(derived, turned, strict=True)]
        assert max(wrong) <= 10
        assert len({int(value) for value in derived}) == 8
