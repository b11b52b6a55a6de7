"""The page: back, forward, reload, the keyboard, and what moves while it loads."""

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


def test_the_keyboard_alone_selects_takes_out_and_steps_and_is_never_lost(visit: Visit) -> None:
    page = visit.page
    visit.open("/")
    tiles = visit.role("list", "Images").get_by_role("listitem")
    opened = [tile.get_by_role("link") for tile in (tiles.nth(n) for n in range(4))]
    expect(tiles.last.get_by_role("checkbox")).to_be_attached()  # boxes come after the images
    opened[1].focus()
    page.keyboard.press("x")
    for name in ("Find similar", "Export list", "Remove", "Clear"):  # after the tile's own box
        page.keyboard.press("Tab")
        if name == "Find similar":
            expect(tiles.nth(1).get_by_role("checkbox")).to_be_focused()
            page.keyboard.press("Tab")
        expect(visit.role("region", "Selection").get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Enter")
    expect(opened[1]).to_be_focused()
    page.keyboard.press("x")
    page.route("**/api/remove", lambda route: route.fulfill(json={}))
    visit.role("button", "Remove").press("Enter")
    visit.role("dialog", "Take 1 image out of the gallery?").wait_for()
    page.keyboard.press("Escape")
    expect(visit.role("button", "Remove")).to_be_focused()
    page.keyboard.press("Enter")
    visit.role("dialog", "Take 1 image out of the gallery?").wait_for()
    name = opened[2].get_attribute("aria-label") or ""
    page.keyboard.press("Enter")
    expect(visit.role("link", name)).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("link", name="Download").focus()
    for place in (3, 4):  # the link had the keyboard, and is replaced
        page.keyboard.press("ArrowRight")
        page.wait_for_url(f"**/?open={visit.ids[place]}")
    page.keyboard.press("Escape")
    expect(visit.role("link", name)).to_be_focused()


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


SHIFTS = """
window.shifts = [];
window.shiftsSeen = new PerformanceObserver(list => shifts.push(...list.getEntries()));
shiftsSeen.observe({ type: "layout-shift", buffered: true });
"""
SUM = """async () => {
  for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
  return [...shifts, ...shiftsSeen.takeRecords()].reduce((sum, { value }) => sum + value, 0);
}"""


@pytest.mark.parametrize(
    ("address", "last"),
    [
        ("/", "chelsea"),
        ("/search?id={}", "Best first."),
        ("/map", "85 images, those alike near each other"),
        ("/gallery", "holds 85 images"),
    ],
)
def test_what_comes_late_moves_little_of_what_is_there(
    visit: Visit, address: str, last: str
) -> None:
    page = visit.page
    page.add_init_script(SHIFTS)
    page.route("**/api/**", lambda route: None)
    visit.open(address.format(visit.ids[0]))
    page.locator("main section").first.wait_for()
    page.evaluate(SUM)  # painted
    page.unroute_all(behavior="ignoreErrors")  # what waits goes on
    page.get_by_text(last).first.wait_for()
    assert page.evaluate(SUM) < 0.1  # "good", by web.dev/cls
