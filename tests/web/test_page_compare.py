"""The page: two images side by side, and why they match."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect


def test_a_hit_is_compared_stepped_copied_and_opened(visit: Visit) -> None:
    page = visit.page
    visit.open(f"/search?id={visit.ids[0]}")
    hits = visit.api("/api/search", {"id": visit.ids[0], "k": 40})["hits"]
    visit.hits.nth(2).get_by_role("link").first.click()
    dialog = page.get_by_role("dialog", name=hits[2]["path"])
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text(hits[2]["words"])
    expect(dialog.get_by_role("img", name="Query")).to_be_visible()
    expect(dialog.get_by_role("img", name=hits[2]["path"])).to_be_visible()
    dialog.get_by_role("button", name="Next hit").click()
    dialog = page.get_by_role("dialog", name=hits[3]["path"])
    expect(dialog).to_contain_text(hits[3]["words"])
    page.keyboard.press("ArrowLeft")
    dialog = page.get_by_role("dialog", name=hits[2]["path"])
    dialog.get_by_role("button", name="Copy path").click()
    expect(page.get_by_role("status").filter(has_text=f"Copied: {hits[2]['path']}")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == hits[2]["path"]
    original = dialog.get_by_role("link", name="Open original")
    assert original.get_attribute("href") == hits[2]["original"]
    assert original.get_attribute("target") == "_blank"
    page.reload()
    expect(page.get_by_role("dialog", name=hits[2]["path"])).to_be_visible()
    page.get_by_role("link", name="Find similar", exact=True).click()
    expect(visit.role("heading", f"Like {hits[2]['path']}")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("dialog", name=hits[2]["path"])).to_be_visible()


def test_the_explanation_shows_regions_pairs_and_attention(visit: Visit) -> None:
    page = visit.page
    visit.open(f"/search?id={visit.ids[0]}")
    hit = visit.api("/api/search", {"id": visit.ids[0], "k": 1})["hits"][0]["id"]
    visit.hits.first.get_by_role("link").first.click()
    visit.role("button", "Why it matched").click()
    expected = visit.api("/api/explain", {"id": visit.ids[0], "hit": hit})
    pairs = visit.role("list", "Regions that agree most").get_by_role("button")
    expect(pairs).to_have_count(len(expected["regions"]["pairs"]))
    assert [text.split() for text in pairs.all_inner_texts()] == [
        [str(i), f"{pair['cosine']:.2f}"] for i, pair in enumerate(expected["regions"]["pairs"], 1)
    ]
    assert page.locator(".lines line").count() == 0
    pairs.nth(1).focus()
    expect(page.locator(".lines line")).to_have_count(2)
    expect(page.locator(".region.lit")).to_have_count(2)
    attention = expected["attention"]
    assert attention is not None
    visit.role("radio", "Attention").check()
    sizes = page.locator("canvas.heat").evaluate_all("all => all.map(c => [c.height, c.width])")
    assert sizes == [[attention[s]["rows"], attention[s]["columns"]] for s in ("query", "hit")]
    low, high = (f"{attention['hit'][end]:.2f}" for end in ("low", "high"))
    expect(page.get_by_role("dialog")).to_contain_text(f"from {low} to {high} on the hit")
    visit.role("radio", "Images alone").check()
    assert page.locator("canvas.heat").count() == 0
