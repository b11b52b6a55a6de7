from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_photos
from webtools import TestClient, client_of

from lookalike.gallery import Gallery


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures, a copy of one, and two files that are none."""
    home = tmp_path_factory.mktemp("served") / "photos"
    write_photos(home, 30)
    (home / "copy of 000.png").write_bytes((home / "a/000.png").read_bytes())
    (home / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (home / "text.png").write_bytes(b"no picture")
    return home


@pytest.fixture(scope="module")
def served(folder: Path, model: Path) -> Gallery:
    """The gallery of `folder`; not to be changed."""
    opened = Gallery.open(folder, model=model)
    opened.update()
    return opened


@pytest.fixture(scope="module")
def client(served: Gallery) -> Iterator[TestClient]:
    """Of `served`."""
    with client_of(served) as opened:
        yield opened


@pytest.fixture(scope="module")
def ids(served: Gallery) -> dict[str, int]:
    """Path -> id of each image of `served`."""
    return {hit.path: hit.id for hit in served.search("a/000.png", 100)}
