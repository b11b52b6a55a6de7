"""The page: when it does not go well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit, answering, serving, visit_of, words_of
from playwright.sync_api import Browser, Route, expect

TOKEN = "open-sesame-42"


def test_nothing_similar_is_said_plainly(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}&threshold=0.9999")
    expect(visit.page.get_by_text("No image reaches a cosine of 0.9999.").first).to_be_visible()
    assert visit.hits.count() == 0

    def doubtful(route: Route) -> None:
        answer = route.fetch()
        changed = {"nothing_similar": True, "note": "these are as alike as random pairs"}
        route.fulfill(response=answer, json={**answer.json(), **changed})

    visit.page.route("**/api/search", doubtful)
    visit.open(f"/search?id={visit.ids[1]}")
    text = "Nothing similar is in this gallery. These are as alike as random pairs."
    expect(visit.page.get_by_text(text).first).to_be_visible()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (f"/search?query=q_{'0' * 32}", "has forgotten this one. Drop, paste or choose it again."),
        ("/search?id=999999", "The gallery no longer has this image."),
    ],
    ids=["query", "image"],
)
def test_an_image_that_is_gone_is_said_to_be(visit: Visit, address: str, text: str) -> None:
    visit.allowed.append("status of 404")
    visit.open(address)
    heading = visit.role("heading", "This image is gone")
    expect(heading).to_be_visible()
    assert heading.evaluate("h => h.clientHeight < 2 * parseFloat(getComputedStyle(h).lineHeight)")
    expect(visit.page.get_by_text(text)).to_be_visible()


def test_without_a_server_every_view_says_so_in_the_page_s_own_words(visit: Visit) -> None:
    visit.allowed += ["ERR_CONNECTION_REFUSED", "Failed to load resource"]
    visit.open("/")
    expect(visit.role("list", "Images").get_by_role("link")).to_have_count(60)
    visit.page.route("**/*", lambda route: route.abort("connectionrefused"))
    for name in ("Map", "Duplicates", "Gallery"):
        visit.role("link", name).click()
        alert = visit.page.get_by_role("alert")
        expect(alert).to_contain_text("The server does not answer. See whether lookalike serve is")
    visit.page.unroute_all()
    visit.role("button", "Try again").click()
    expect(visit.role("heading", "Gallery")).to_be_visible()


def test_a_busy_server_is_asked_again(visit: Visit) -> None:
    visit.allowed.append("status of 503")
    error = {"code": "busy", "message": "too many searches", "remedy": "try again"}
    answer = answering(503, error, **{"Retry-After": "1"})
    visit.page.route("**/api/search", answer, times=1)
    visit.open(f"/search?id={visit.ids[0]}")
    expect(visit.page.get_by_text("The server is busy. Trying again in 1 s.")).to_be_visible()
    assert visit.shown() == words_of(
        visit.api("/api/search", {"id": visit.ids[0], "k": 40})["hits"]
    )


def test_an_error_is_shown_with_its_remedy_and_a_way_on(visit: Visit) -> None:
    visit.allowed.append("status of 500")
    error = {"code": "internal", "message": "the search failed", "remedy": "look at the log"}
    visit.page.route("**/api/search", answering(500, error), times=1)
    visit.open(f"/search?id={visit.ids[0]}")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("The search failed. Look at the log.")
    alert.get_by_role("button", name="Try again").click()
    assert visit.shown() == words_of(
        visit.api("/api/search", {"id": visit.ids[0], "k": 40})["hits"]
    )


@pytest.fixture(scope="module")
def locked(images: Path) -> Iterator[str]:
    with serving(images, "--token", TOKEN) as address:
        yield address


@pytest.mark.parametrize("width", ["phone", "desktop"])
def test_a_locked_gallery_asks_for_its_token(browser: Browser, locked: str, width: str) -> None:
    for visit in visit_of(browser, locked, width):
        visit.allowed.append("status of 401")
        visit.open("/")
        dialog = visit.role("dialog", "This gallery is locked")
        dialog.get_by_label("Token").fill("not-the-token")
        visit.page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("This is not the token")
        dialog.get_by_label("Token").fill(TOKEN)
        visit.role("button", "Unlock").click()
        expect(visit.role("list", "Images").get_by_role("link")).to_have_count(60)
        expect(visit.page.get_by_role("dialog")).to_have_count(0)
