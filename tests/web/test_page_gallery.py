"""The page: facts about the gallery, measuring, updating."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect


def fact(visit: Visit, card: str, term: str) -> str:
    region = visit.role("region", card)
    pairs = region.locator("dl > div").evaluate_all(
        "all => all.map(d => [...d.children].map(c => c.textContent))"
    )
    return str(dict(pairs)[term])


def table(visit: Visit, card: str) -> list[list[str]]:
    script = "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    rows: list[list[str]] = visit.role("region", card).locator("tbody tr").evaluate_all(script)
    return rows


def test_the_gallery_view_shows_what_the_api_returns(visit: Visit) -> None:
    visit.open("/gallery")
    visit.page.get_by_text("Internals").click()
    visit.role("region", "Model").wait_for()
    stats = visit.api("/api/stats")
    assert fact(visit, "Images", "Can be searched") == str(stats["gallery"]["images"])
    assert fact(visit, "Images", "Could not be read") == str(stats["gallery"]["skipped"]) == "1"
    assert fact(visit, "Model", "SHA-256") == stats["model"]["sha256"][:12]
    assert fact(visit, "Model", "Dimension of an embedding") == f"{stats['model']['dim']:,}"
    assert fact(visit, "Index", "Code bits") == str(stats["index"]["code_bits"])
    assert fact(visit, "Buckets", "Largest") == f"{stats['largest_bucket']} images"
    counts = [[str(bucket["count"])] for bucket in stats["buckets"]]
    assert [row[1:] for row in table(visit, "Buckets")] == counts
    drawing = visit.role("img", re.compile("^Buckets by the number of images"))
    expect(drawing).to_be_visible()
    assert drawing.locator("rect").count() == len(stats["buckets"])
    (skipped,) = visit.api("/api/skipped")["skipped"]
    visit.role("region", "Files that could not be read").get_by_text(
        f"1 file cannot be searched: 1 file {skipped['reason']}."
    ).wait_for()
    shown = visit.role("list", "Files that could not be read").get_by_role("listitem").inner_text()
    assert all(skipped[name] in shown for name in ("path", "reason", "detail"))
    assert skipped["remedy"][1:] in shown  # it begins with a capital there


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
