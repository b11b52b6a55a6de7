"""The page: back, forward, reload, and the keyboard."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect


def test_back_forward_and_reload_restore_images_and_place(visit: Visit) -> None:
    page = visit.page
    visit.open("/")
    links = visit.role("list", "Images").get_by_role("link")
    expect(links).to_have_count(60)
    links.last.scroll_into_view_if_needed()
    expect(links).to_have_count(85)
    links.last.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    place = page.evaluate("scrollY")
    assert place > 0
    links.last.focus()
    page.keyboard.press("s")
    shown = visit.shown()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(links).to_have_count(85)
    page.wait_for_function("y => Math.abs(scrollY - y) < 3", arg=place)
    page.reload()
    expect(links).to_have_count(85)
    page.wait_for_function("y => Math.abs(scrollY - y) < 3", arg=place)
    page.go_forward()
    assert visit.shown() == shown
    page.reload()
    assert visit.shown() == shown


def test_arrows_move_by_columns_and_rows_enter_opens_escape_closes(visit: Visit) -> None:
    page = visit.page
    visit.open(f"/search?id={visit.ids[0]}")
    visit.hits.first.wait_for()
    script = "all => all.map(t => [t.offsetLeft + t.offsetWidth / 2, t.offsetTop])"
    boxes = visit.hits.evaluate_all(script)
    columns = sum(top == boxes[0][1] for _, top in boxes)
    assert columns > 1
    second = [i for i, (_, top) in enumerate(boxes) if top == boxes[columns][1]]

    def below(place: int) -> int:
        """The tile of the second row whose centre is nearest."""
        return min(second, key=lambda i: abs(boxes[i][0] - boxes[place][0]))

    def focused() -> int:
        here = "t => t.contains(document.activeElement)"
        return int(page.evaluate(f"[...document.querySelectorAll('.found li')].findIndex({here})"))

    visit.hits.first.get_by_role("link").first.focus()
    for key, place in [
        ("ArrowRight", 1),
        ("ArrowDown", below(1)),
        ("Home", 0),
        ("ArrowUp", 0),
        ("End", 39),
        ("Home", 0),
        ("ArrowDown", below(0)),
    ]:
        page.keyboard.press(key)
        assert focused() == place, key
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "compare=" in visit.address
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert (visit.address, focused()) == (f"/search?id={visit.ids[0]}", below(0))
    judged = visit.hits.nth(below(0)).get_by_role("button", name=re.compile("^Alike"))
    for pressed in ("true", "false"):
        page.keyboard.press("+")
        expect(judged).to_have_attribute("aria-pressed", pressed)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("-")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    judged = visit.hits.nth(below(0)).get_by_role("button", name=re.compile("^Not alike"))
    expect(judged).to_have_attribute("aria-pressed", "true")
