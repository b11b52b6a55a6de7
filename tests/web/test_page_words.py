"""The page: search by words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from fakes import updated
from pagetools import Visit, serving, visit_of, words_of
from playwright.sync_api import Browser, expect
from towers import write_colours


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Iterator[str]:
    """Address of a server whose gallery's model knows words."""
    folder: Path = tmp_path_factory.mktemp("photos")
    write_colours(folder)
    updated(folder, model=towers)
    with serving(folder) as address:
        yield address


@pytest.fixture(params=["phone", "desktop"])
def visit(browser: Browser, coloured: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    yield from visit_of(browser, coloured, request.param)


def test_words_are_searched_for_and_going_back_shows_the_earlier_ones(visit: Visit) -> None:
    visit.open("/")
    field = visit.role("searchbox", "Search by words")
    field.fill("a red photo")
    field.press("Enter")
    expect(visit.role("heading", "“a red photo”")).to_be_visible()
    expected = words_of(visit.api("/api/search", {"text": "a red photo", "k": 40})["hits"])
    assert visit.shown() == expected
    field.fill("a blue photo")
    visit.role("button", "Search", exact=True).click()
    expect(visit.role("heading", "“a blue photo”")).to_be_visible()
    visit.page.go_back()
    expect(field).to_have_value("a red photo")
    visit.page.wait_for_function(
        "id => +document.querySelector('.found li')?.dataset.id === id", arg=expected[0][0]
    )
    expect(visit.role("heading", "Teach it")).to_have_count(0)
    visit.hits.first.get_by_role("link").first.click()
    visit.page.wait_for_url("**/search?id=*")
    expect(field).to_have_value("")
