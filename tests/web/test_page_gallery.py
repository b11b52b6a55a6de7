"""The page: facts about the gallery, measuring, updating."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import Route, expect


@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
def test_an_update_is_started_and_watched(visit: Visit, images: Path, events: bool) -> None:
    if not events:
        visit.allowed.append("/api/update/events")
        visit.allowed.append("net::ERR_FAILED")
        visit.page.route("**/api/update/events", lambda route: route.abort())
    before = visit.api("/api/stats")["gallery"]["images"]
    added = images / "rocket" / f"new-{visit.width}-{events}.jpg"
    shutil.copy(images / "rocket" / "crop-60.jpg", added)
    visit.open("/gallery")
    visit.role("region", "Images").wait_for()
    button = visit.role("button", "Update now")
    button.press("Enter")
    region = visit.role("region", "Update")
    expect(
        region.get_by_text(f"Up to date: 1 added. {before + 1} images in the gallery")
    ).to_be_visible()
    expect(visit.role("heading", "Gallery")).to_be_visible()
    indexed = visit.role("region", "Images").locator("dd").first
    expect(indexed).to_have_text(str(before + 1))
    expect(button).to_be_focused()
    added.unlink()
    button.click()
    expect(
        region.get_by_text(f"Up to date: 1 dropped. {before} images in the gallery")
    ).to_be_visible()
    expect(button).to_be_focused()


def test_what_a_button_replaces_or_takes_away_leaves_the_keyboard_beside_it(visit: Visit) -> None:
    def skipped(route: Route) -> None:
        is_removed = "removed=true" in route.request.url
        at = int(route.request.url.partition("offset=")[2].partition("&")[0])
        names = [f"{n}.jpg" for n in range(60)][at : at + 50]
        files = [{"id": 1, "path": name, "reason": "broken", "detail": ""} for name in names]
        answer = {"skipped": [{**file, "remedy": ""} for file in files], "reasons": []}
        route.fulfill(json={**answer, "total": 60 if is_removed else 0})

    visit.page.route("**/api/skipped*", skipped)
    visit.page.route("**/api/restore", lambda route: route.fulfill(json={}))
    visit.open("/gallery")
    taken_out = visit.role("region", "Taken out by you")
    taken_out.get_by_role("button", name="Let 0.jpg back in").press("Enter")
    comes_back = taken_out.get_by_role("button", name="0.jpg comes back with the next update")
    expect(comes_back).to_be_focused()
    expect(comes_back).to_be_disabled()
    taken_out.get_by_role("button", name="More").press("Enter")
    expect(visit.role("heading", "Taken out by you")).to_be_focused()
    visit.page.get_by_text("Internals").click()
    visit.role("button", re.compile("^Measure")).press("Enter")
    expect(visit.role("button", "Measure again")).to_be_focused()
