"""The page: marks that refine a search."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from pagetools import Visit, words_of
from playwright.sync_api import expect


def test_marks_refine_the_hits_round_by_round(visit: Visit, query: Path) -> None:
    page = visit.page
    visit.open("/")
    name = visit.choose(query)
    shown = [number for number, _ in visit.shown()]

    def judge(place: int, word: str) -> None:
        visit.hits.nth(place).get_by_role("button", name=re.compile(f"^{word}")).click()

    expect(visit.role("button", "Refine")).to_be_disabled()
    judge(0, "Alike")
    judge(1, "Alike")
    judge(1, "Alike")  # takes it back
    judge(20, "Not alike")
    expect(page.get_by_text("Not refined yet: 1 alike, 1 not.").first).to_be_visible()
    page.reload()
    pressed = visit.hits.first.get_by_role("button", name=re.compile("^Alike"))
    expect(pressed).to_have_attribute("aria-pressed", "true")

    visit.role("button", "Ask me").click()
    body: dict[str, Any] = {"query": name, "relevant": [shown[0]], "irrelevant": [shown[20]]}
    asked = visit.role("list", "Images to judge").get_by_role("listitem")
    expect(asked).to_have_count(10)
    ids = asked.evaluate_all("all => all.map(t => +t.dataset.id)")
    assert ids == [hit["id"] for hit in visit.api("/api/feedback", {**body, "k": 1})["ask"]]
    asked.first.get_by_role("button", name=re.compile("^Not alike")).click()

    visit.role("button", "Refine").click()
    expect(visit.role("heading", "Refined: like")).to_be_visible()
    expect(page.get_by_text("Round 1: 1 alike, 2 not.").first).to_be_visible()
    body["irrelevant"].append(ids[0])
    body = {**body, "k": 60, "ask": 0}
    expect(visit.hits).to_have_count(60)
    assert visit.shown() == words_of(visit.api("/api/feedback", body)["hits"])
    judge(0, "Alike")
    visit.role("button", "Refine").click()
    expect(page.get_by_text(re.compile("^Round 2: ")).first).to_be_visible()
    page.go_back()
    expect(page.get_by_text(re.compile("^Round 1: ")).first).to_be_visible()
    visit.role("button", "Reset").click()
    expect(visit.role("heading", "Refined")).to_have_count(0)
    expect(visit.hits).to_have_count(40)
    assert [number for number, _ in visit.shown()] == shown
    assert page.locator(".judge [aria-pressed=true]").count() == 0
    judge(0, "Alike")
    reset = visit.role("button", "Reset")
    reset.press("Enter")
    expect(reset).to_be_disabled()
    expect(reset).to_be_focused()
