from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes import write_photos
from webtools import TestClient, client_of

from lookalike.gallery import Gallery

if TYPE_CHECKING:
    from pagetools import Visit
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images, a copy of one, and two files that are not images."""
    home = tmp_path_factory.mktemp("served") / "photos"
    write_photos(home, 30)
    (home / "copy of 000.png").write_bytes((home / "a/000.png").read_bytes())
    (home / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (home / "text.png").write_bytes(b"no image")
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


# ---- the page in a browser -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs and what was made of them; a test leaves them as they were."""
    from pagetools import write_images

    folder = tmp_path_factory.mktemp("page") / "images"
    write_images(folder)
    return folder


@pytest.fixture(scope="session")
def query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image like some of `images`, but none of them."""
    from pagetools import write_query

    file = tmp_path_factory.mktemp("query") / "mine.png"
    write_query(file)
    return file


@pytest.fixture(scope="session")
def server(images: Path) -> Iterator[str]:
    """Address of a server of `images`."""
    from pagetools import serving

    with serving(images) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: as long as it runs, no other test can use asyncio in this thread."""
    from pagetools import chromium

    with chromium() as started:
        yield started


@pytest.fixture(params=["phone", "desktop"])
def visit(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Of the page of `server`; at other widths where a test names them."""
    from pagetools import visit_of

    yield from visit_of(browser, server, request.param)
