"""The page: a part of the query, by pointer and by keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit, words_of
from playwright.sync_api import expect


def drag(visit: Visit, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Over shares of the query's image: by touch on a phone, by mouse elsewhere."""
    if visit.width == "phone":
        larger = visit.role("button", "Choose a part")
        if larger.get_attribute("aria-pressed") == "false":
            larger.click()
    surface = visit.role("application", "Part to search by")
    surface.scroll_into_view_if_needed()
    box = surface.bounding_box()
    assert box is not None
    steps = [[a + (b - a) * i / 4 for a, b in zip(start, end, strict=True)] for i in range(5)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in steps]
    if visit.width == "phone":
        session = visit.page.context.new_cdp_session(visit.page)
        for i, (x, y) in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            event = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            session.send("Input.dispatchTouchEvent", event)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    visit.page.mouse.move(*points[0])
    visit.page.mouse.down()
    for x, y in points[1:]:
        visit.page.mouse.move(x, y)
    visit.page.mouse.up()


def crop_of(visit: Visit) -> list[float]:
    visit.page.wait_for_url("**crop=*")
    found = re.search(r"crop=([\d.,]+)", visit.page.url)
    assert found is not None
    return [float(share) for share in found[1].split(",")]


def test_a_dragged_rectangle_searches_by_that_part(visit: Visit, query: Path) -> None:
    visit.open("/")
    name = visit.choose(query)
    whole = visit.shown()
    visit.page.wait_for_function("() => document.querySelector('.surface img').naturalWidth > 0")
    drag(visit, (0.1, 0.2), (0.6, 0.9))
    crop = crop_of(visit)
    # The pointer is somewhere within a pixel of an image of at least 150.
    assert crop == pytest.approx([0.1, 0.2, 0.5, 0.7], abs=0.01)
    expect(visit.role("heading", "Like a part of mine.png")).to_be_visible()
    body = {"query": name, "k": 40, "crop": crop}
    expected = words_of(visit.api("/api/search", body)["hits"])
    visit.page.wait_for_function(
        "id => +document.querySelector('.found li')?.dataset.id === id", arg=expected[0][0]
    )
    assert visit.shown() == expected != whole
    before = visit.page.url
    drag(visit, (0.3, 0.5), (0.4, 0.4))  # within: it moves
    visit.page.wait_for_url(lambda url: url != before)
    assert crop_of(visit) == pytest.approx([0.2, 0.1, 0.5, 0.7], abs=0.02)
    visit.role("button", "Whole image").press("Enter")
    expect(visit.role("application", "Part to search by")).to_be_focused()
    expect(visit.role("heading", "Like mine.png")).to_be_visible()
    assert "crop" not in visit.address
