"""The page: search by words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit, serving, visit_of, words_of
from playwright.sync_api import Browser, expect
from towers import adopt_towers, write_colours

from lookalike.gallery import Gallery


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server whose gallery's model knows words."""
    folder: Path = tmp_path_factory.mktemp("photos")
    write_colours(folder)
    Gallery.open(folder, model=adopt_towers(tmp_path_factory.mktemp("towers"))).update()
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


def test_words_are_added_to_an_image_and_taken_away_again(visit: Visit) -> None:
    image = visit.api("/api/images")["images"][0]
    visit.open(f"/search?id={image['id']}")
    field = visit.role("searchbox", "Search by words")
    field.fill("blue")
    field.press("Enter")
    expect(visit.role("heading", f"Like {image['path']} and “blue”")).to_be_visible()
    asked = {"id": image["id"], "text": "blue", "k": 40}
    assert visit.shown() == words_of(visit.api("/api/search", asked)["hits"])
    expect(visit.role("heading", "Teach it")).to_have_count(0)
    visit.role("link", "Without the words").click()
    expect(visit.role("heading", f"Like {image['path']}", exact=True)).to_be_visible()
    expect(field).to_have_value("")
    visit.page.go_back()
    visit.role("link", "The words alone").click()
    expect(visit.role("heading", "“blue”", exact=True)).to_be_visible()


def test_the_field_for_words_is_only_shown_where_the_model_knows_them(
    browser: Browser, server: str
) -> None:
    for visit in visit_of(browser, server, "desktop"):
        with visit.page.expect_response("**/api/health"):
            visit.open("/")
        visit.page.wait_for_load_state("networkidle")
        assert not visit.page.locator("#words-form").is_visible()
