"""The page: what axe-core finds in its views."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect

RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker itself, as that package brings it."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def found(visit: Visit, axe: str) -> list[tuple[str, str, str]]:
    """Rule, impact and element of each violation, minor ones among them."""
    visit.page.evaluate(axe)
    violations: list[dict[str, Any]] = visit.page.evaluate(RUN)
    return [(v["id"], v["impact"], node["html"]) for v in violations for node in v["nodes"]]


def browse(visit: Visit) -> None:
    visit.open("/")
    visit.role("list", "Images").get_by_role("link").first.wait_for()


def viewer(visit: Visit) -> None:
    visit.open(f"/?open={visit.ids[0]}")
    visit.page.get_by_role("dialog").get_by_text("Changed").wait_for()


def chosen(visit: Visit) -> None:
    visit.open("/?folder=china")
    visit.role("checkbox", re.compile("^Select ")).first.check()


def hits(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}")
    visit.hits.first.wait_for()


def compare(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}&compare={visit.ids[1]}")
    visit.page.get_by_role("dialog").get_by_role("img", name="Query").wait_for()


def why(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}&compare={visit.ids[1]}&why=1")
    pairs = visit.role("list", "Regions that agree most").get_by_role("button")
    pairs.first.focus()
    expect(visit.page.locator(".region.lit")).to_have_count(2)


def attention(visit: Visit) -> None:
    why(visit)
    visit.role("radio", "Attention").check()
    expect(visit.page.locator("canvas.heat")).to_have_count(2)


def teach(visit: Visit) -> None:
    hits(visit)
    for place, word in ((0, "Alike"), (20, "Not alike")):
        visit.hits.nth(place).get_by_role("button", name=re.compile(f"^{word}")).click()
    visit.role("button", "Ask me").click()
    visit.role("list", "Images to judge").get_by_role("listitem").first.wait_for()


def mapped(visit: Visit) -> None:
    visit.open("/map")
    visit.role("list", "Themes").get_by_role("button").first.click()


def difference(visit: Visit) -> None:
    duplicates(visit)
    visit.role("button", re.compile("^Difference of ")).first.click()


def duplicates(visit: Visit) -> None:
    visit.open("/duplicates?threshold=0.97")
    visit.role("region", re.compile("^Group 1:")).wait_for()


def gallery(visit: Visit) -> None:
    visit.open("/gallery")
    visit.page.get_by_text("Internals").click()
    visit.role("button", re.compile("^Measure")).click()
    visit.role("img", re.compile("^Time of a query against recall")).wait_for()
    visit.role("list", "Files that could not be read").wait_for()


VIEWS = [browse, viewer, chosen, hits, compare, why, attention, teach, mapped, duplicates]
VIEWS += [difference, gallery]


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_bars_anyone_from_a_view(
    visit: Visit, axe: str, view: Callable[[Visit], None]
) -> None:
    view(visit)
    visit.page.wait_for_load_state("networkidle")
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        assert found(visit, axe) == [], scheme
