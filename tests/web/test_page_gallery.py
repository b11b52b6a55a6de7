"""The page: facts about the gallery, measuring, updating."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect


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
    visit.role("button", "Update now").click()
    region = visit.role("region", "Update")
    expect(
        region.get_by_text(f"Up to date: 1 added. {before + 1} images in the gallery")
    ).to_be_visible()
    expect(visit.role("heading", "Gallery")).to_be_visible()
    indexed = visit.role("region", "Images").locator("dd").first
    expect(indexed).to_have_text(str(before + 1))
    added.unlink()
    visit.role("button", "Update now").click()
    expect(
        region.get_by_text(f"Up to date: 1 dropped. {before} images in the gallery")
    ).to_be_visible()
