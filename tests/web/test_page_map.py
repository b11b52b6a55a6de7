"""The page: the map, and a folder that is not indexed yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from fakes import write_photos
from pagetools import WIDTHS, Visit, serving, visit_of
from playwright.sync_api import Browser, expect


@pytest.mark.parametrize("visit", list(WIDTHS), indirect=True)
def test_themes_lead_to_places_on_the_map_and_a_click_opens_an_image(visit: Visit) -> None:
    page = visit.page
    visit.open("/map")
    expect(page.get_by_text(re.compile("^85 images, those alike near each other"))).to_be_visible()
    made = visit.api("/api/map")
    themes = visit.role("list", "Themes").get_by_role("button")
    expect(themes).to_have_count(len(made["themes"]))
    themes.first.click()
    canvas = page.locator("canvas.map")
    box = canvas.bounding_box()
    assert box is not None
    members = [i for i, theme in enumerate(made["themes_of"]) if theme == 0]
    x, y = ([made[axis][i] for i in members] for axis in ("x", "y"))
    extent = max(max(x) - min(x), max(y) - min(y), 0.01)
    size = 0.92 * min(box["width"], box["height"]) * min(200, 0.8 / extent)
    left = box["width"] / 2 + (x[0] - (max(x) + min(x)) / 2) * size
    top = box["height"] / 2 + (y[0] - (max(y) + min(y)) / 2) * size
    canvas.click(position={"x": left, "y": top})
    path = next(i["path"] for i in visit.images if i["id"] == made["ids"][members[0]])
    expect(page.get_by_role("dialog").get_by_role("img", name=path)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert visit.address == "/map"


@pytest.mark.parametrize("width", ["phone", "desktop"])
def test_a_folder_without_a_gallery_is_indexed_from_the_page(
    browser: Browser, tmp_path: Path, width: str
) -> None:
    write_photos(tmp_path / "new", 12)
    with serving(tmp_path / "new") as address:
        for visit in visit_of(browser, address, width):
            visit.open("/")
            visit.role("button", "Index now").click()
            expect(visit.role("heading", "12 images")).to_be_visible()
            expect(visit.role("list", "Images").get_by_role("listitem")).to_have_count(12)
            expect(visit.role("button", "Index now")).to_have_count(0)
