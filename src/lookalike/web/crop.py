"""Parts of a picture, as squares for the encoder."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.web.schemas import Crop

__all__ = ["cut", "squeeze"]


def cut(image: Image.Image, crop: Crop) -> Image.Image:
    """The part x, y, width, height (shares 0..1) of an upright image; at least one pixel."""
    x, y, width, height = crop
    left = min(math.floor(x * image.width + 1e-6), image.width - 1)
    top = min(math.floor(y * image.height + 1e-6), image.height - 1)
    right = max(left + 1, min(image.width, math.ceil((x + width) * image.width - 1e-6)))
    bottom = max(top + 1, min(image.height, math.ceil((y + height) * image.height - 1e-6)))
    return image.crop((left, top, right, bottom))


def squeeze(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """RGB -> uint8 (size, size, 3), as `read_picture` does it."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(image)
