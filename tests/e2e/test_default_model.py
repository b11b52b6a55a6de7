"""The command with the model that comes with it, on real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import lookalike
from PIL import Image
from skimage import data

NAMES = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in NAMES:
        image = Image.fromarray(getattr(data, name)())
        image.save(folder / f"{name}.jpg")
        image.resize((image.width // 2, image.height // 2)).save(folder / f"{name} small.png")
    lookalike("index", folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_crop_that_is_not_in_the_gallery_finds_its_photograph(
    photographs: Path, tmp_path: Path, name: str
) -> None:
    with Image.open(photographs / f"{name}.jpg") as image:
        width, height = image.size
        crop = image.crop((width // 8, height // 8, width * 7 // 8, height * 7 // 8))
    crop.save(tmp_path / "crop.webp")
    done = lookalike("search", tmp_path / "crop.webp", "-k", "3", "--json", cwd=photographs)
    first, second, third = json.loads(done.stdout)
    assert {first["path"], second["path"]} == {f"{name}.jpg", f"{name} small.png"}
    assert second["cosine"] > 0.75 > third["cosine"]
