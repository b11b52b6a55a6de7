"""Images of a few classes that differ in colour and texture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.models.data import LabelledImages
from reproduction.collection import Collection

CLASSES = ("cells", "dots", "lines", "waves")
EACH = 8
SIDE = 72


def image(kind: int, seed: int) -> NDArray[np.uint8]:
    """RGB (SIDE, SIDE, 3): the texture of its class, placed, coloured and blurred by the seed."""
    rng = np.random.default_rng([kind, seed])
    y, x = np.mgrid[:SIDE, :SIDE] + rng.uniform(0, 20, 2)[:, None, None]
    base = (
        np.sign(np.sin(x / 3) * np.sin(y / 3)),
        (np.hypot(x % 12 - 6, y % 12 - 6) < 4) * 2.0 - 1,
        np.sign(np.sin(x / 2.5 + rng.uniform(0, 0.1))),
        np.sin(x / 6 + 2 * np.sin(y / 9)),
    )[kind]
    colour = np.array([(200, 60, 60), (60, 190, 70), (60, 80, 200), (180, 170, 60)][kind])
    shade = 1 + 0.4 * base[:, :, None] * rng.uniform(0.7, 1.2)
    noise = rng.normal(0, 12, (SIDE, SIDE, 3))
    pixels: NDArray[np.uint8] = np.clip(colour * shade + noise, 0, 255).astype(np.uint8)
    return pixels


def write_textures(folder: Path, each: int = EACH) -> Path:
    """FOLDER/CLASS/NN.png, `each` of every class."""
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(image(kind, number)).save(folder / name / f"{number:02}.png")
    return folder


def collection_of(images: list[NDArray[np.uint8]], labels: list[int]) -> Collection:
    """In memory, without files."""
    paths = tuple(Path(f"{number}.png") for number in range(len(images)))
    names = tuple(str(label) for label in sorted(set(labels)))
    return Collection("toy", LabelledImages(names, paths, np.array(labels)), images, ())
