"""Images that are drawn: class folders of some whose class is in the shape, in random colours and
places, and textures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("rows", "columns", "discs", "waves")


def image(label: str, generator: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[:48, :48]
    shift, (cx, cy) = generator.uniform(0, 12), generator.uniform(18, 30, 2)
    shape = {
        "rows": np.sin((y + shift) / 1.5) > 0,
        "columns": np.sin((x + shift) / 1.5) > 0,
        "discs": np.hypot(x - cx, y - cy) < 14,
        "waves": np.sin((x + y + shift) / 4) > 0,
    }[label]
    low, high = generator.uniform(0, 90, 3), generator.uniform(150, 255, 3)
    pixels = np.where(shape[..., None], high, low) + generator.normal(0, 8, (48, 48, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_classes(
    folder: Path, images: int, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Path:
    """FOLDER/CLASS/NNN.png, ``images`` of each class."""
    generator = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(images):
            image(label, generator).save(folder / label / f"{number:03}.png")
    return folder


def texture(seed: int) -> Image.Image:
    """Sharp enough to be compared, and like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
