from __future__ import annotations

from pathlib import Path

import pytest
from textures import write_textures

pytest.importorskip("torch")
pytest.importorskip("cv2")

from reproduction.collection import Collection
from reproduction.train import Networks


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders."""
    return write_textures(tmp_path_factory.mktemp("collection") / "textures")


@pytest.fixture(scope="session")
def collection(textures: Path) -> Collection:
    """The images of `textures`."""
    return Collection.read(textures)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(tmp_path_factory.mktemp("networks"))
