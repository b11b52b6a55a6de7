"""The page: how every view is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import WIDTHS, Visit, visit_of
from playwright.sync_api import Browser

from lookalike import demo

VIEWS = [
    "/",
    "/search?id={0}",
    "/search?id={0}&compare={1}&why=1",
    "/map",
    "/duplicates",
    "/gallery",
]


@pytest.mark.parametrize("visit", list(WIDTHS), indirect=True)
@pytest.mark.parametrize("address", VIEWS)
def test_every_view_fits_and_what_can_be_tapped_is_large_enough(visit: Visit, address: str) -> None:
    page = visit.page
    visit.open(address.format(*visit.ids))
    page.wait_for_load_state("networkidle")
    assert (
        page.evaluate("document.documentElement.scrollWidth")
        == WIDTHS[visit.width]["viewport"]["width"]
    )
    links = page.locator(".top nav a").evaluate_all("all => all.map(l => l.offsetHeight)")
    assert max(links) < 45  # one line each
    # Whatever can be tapped is at least 24 pixels wide and high, as WCAG 2.2 asks.
    script = """all => all.filter(e => e.checkVisibility() && !e.closest('.unseen, .skip'))
      .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
      .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html)"""
    assert page.locator("a, button, summary").evaluate_all(script) == []


def test_on_narrow_phones_the_header_fits_and_shows_the_sign_whole_or_not_at_all(
    browser: Browser, server: str
) -> None:
    for visit in visit_of(browser, server, "phone"):
        visit.open("/")
        for width in (320, 360, 375, 420):
            visit.page.set_viewport_size({"width": width, "height": 740})
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            assert visit.page.locator(".brand").evaluate("b => b.clientWidth") in (0, 28)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    folder = Path(demo.__file__).parent / "web" / "page"
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        text = text.replace("https://www.openstreetmap.org/?mlat=", "")  # a link, for who clicks it
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), (
            file
        )
    index = (folder / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", index)
    named = set(re.findall(r"/page/(\w+\.\w+)", index))
    assert named <= {file.name for file in folder.iterdir()}
