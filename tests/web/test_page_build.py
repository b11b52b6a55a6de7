"""The page: how every view is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import WIDTHS, Visit

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
def test_every_view_fits_and_names_its_parts(visit: Visit, address: str) -> None:
    page = visit.page
    visit.open(address.format(*visit.ids))
    page.wait_for_load_state("networkidle")
    assert (
        page.evaluate("document.documentElement.scrollWidth")
        == WIDTHS[visit.width]["viewport"]["width"]
    )
    links = page.locator(".top nav a").evaluate_all("all => all.map(l => l.offsetHeight)")
    assert max(links) < 45  # one line each
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark, include_hidden=True).count() == 1, landmark
    assert page.locator("h1").count() == 1
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    controls = {
        "button",
        "link",
        "checkbox",
        "radio",
        "textbox",
        "searchbox",
        "spinbutton",
        "dialog",
    }
    unnamed = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in controls | {"image", "img", "application"}
        and not node.get("name", {}).get("value")
    ]
    assert not unnamed
    # Whatever can be tapped is at least 24 pixels wide and high, as WCAG 2.2 asks.
    script = """all => all.filter(e => e.checkVisibility() && !e.closest('.unseen, .skip'))
      .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
      .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html)"""
    assert page.locator("a, button, summary").evaluate_all(script) == []


def test_the_first_view_does_not_jump(visit: Visit) -> None:
    script = """new PerformanceObserver(list => {
      for (const entry of list.getEntries()) window.jumped = (window.jumped ?? 0) + entry.value;
    }).observe({type: "layout-shift", buffered: true})"""
    visit.page.add_init_script(script)
    visit.open("/")
    visit.page.wait_for_load_state("networkidle")
    # 0.1 is what counts as good; nothing here may come near it.
    assert visit.page.evaluate("window.jumped ?? 0") < 0.02


@pytest.mark.parametrize("visit", list(WIDTHS), indirect=True)
def test_images_in_view_come_before_all_else_and_their_list_with_the_page(visit: Visit) -> None:
    visit.open("/")
    visit.page.wait_for_function(
        "() => performance.getEntriesByName(`${origin}/page/select.js`).length"
    )
    entries = visit.page.evaluate("""performance.getEntriesByType("resource").map(entry =>
      [entry.name.slice(origin.length), entry.startTime, entry.responseEnd])""")
    lists = [entry for entry in entries if entry[0].startswith("/api/images?")]
    assert [name for name, *_ in lists] == ["/api/images?offset=0&limit=60"]  # no second time
    began = {name: start for name, start, _ in entries}
    assert lists[0][1] <= min(start for name, start in began.items() if name.endswith(".js"))
    in_view = visit.page.locator(".tiles img").evaluate_all("""all => all.filter(image =>
      image.getBoundingClientRect().top < innerHeight).map(i => i.src.slice(origin.length))""")
    ended = {name: end for name, _, end in entries}
    assert began["/page/select.js"] >= max(ended[name] for name in in_view)


def test_only_the_view_of_all_images_comes_with_their_list(visit: Visit) -> None:
    for address in ("/map", "/?filter=cat"):
        headers = visit.page.request.get(visit.base + address).headers
        assert "link" not in headers, address


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
