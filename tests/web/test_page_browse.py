"""The page: browsing, and searching by an image of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from pagetools import Visit, words_of
from playwright.sync_api import expect


@pytest.mark.slow
def test_all_images_are_shown_by_path_as_one_scrolls(visit: Visit) -> None:
    visit.open("/")
    expect(visit.role("heading", "85 images")).to_be_visible()
    links = visit.role("list", "Images").get_by_role("link")
    expect(links).to_have_count(60)
    links.last.scroll_into_view_if_needed()
    expect(links).to_have_count(85)
    paths = [image["path"] for image in visit.api("/api/images?limit=200")["images"]]
    assert [
        name.partition(" to ")[2] for name in links.evaluate_all("a => a.map(l => l.ariaLabel)")
    ] == paths


@pytest.mark.slow
def test_the_filter_of_the_images_is_part_of_the_address(visit: Visit) -> None:
    visit.open("/")
    visit.role("searchbox", "Only images whose path fits").fill("china/*.png")
    visit.page.keyboard.press("Enter")
    expected = visit.api("/api/images?filter=china/*.png")["total"]
    expect(visit.role("heading", f"{expected} images")).to_be_visible()
    assert visit.address == "/?filter=china%2F*.png"


@pytest.mark.slow
def test_a_click_on_an_image_finds_similar_ones(visit: Visit) -> None:
    visit.open("/")
    visit.role("link", "Find similar to china/mirror.png").click()
    expect(visit.role("heading", "Like china/mirror.png")).to_be_visible()
    number = int(visit.address.partition("id=")[2])
    assert visit.shown() == words_of(visit.api("/api/search", {"id": number, "k": 40})["hits"])


@pytest.mark.slow
def test_a_chosen_image_finds_what_the_api_finds_to_the_end(visit: Visit, query: Path) -> None:
    visit.open("/")
    name = visit.choose(query)
    expect(visit.role("heading", "Like mine.png")).to_be_visible()
    for shown in (80, 85):
        visit.hits.last.scroll_into_view_if_needed()
        expect(visit.hits).to_have_count(shown)
    assert visit.shown() == words_of(visit.api("/api/search", {"query": name, "k": 85})["hits"])
    first = visit.hits.first.get_by_role("img", include_hidden=True).or_(
        visit.hits.first.locator("img")
    )
    assert first.first.evaluate("i => [i.loading, i.width > 0, i.height > 0]") == [
        "lazy",
        True,
        True,
    ]


SEND = """([bytes, kind]) => {
  const file = new File([new Uint8Array(bytes)], "sent.png", {type: "image/png"});
  const data = new DataTransfer();
  data.items.add(file);
  const options = {bubbles: true, cancelable: true};
  if (kind === "paste") {
    document.body.dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: data}));
  } else {
    document.body.dispatchEvent(new DragEvent("dragover", {...options, dataTransfer: data}));
    window.overlay = !document.getElementById("drop").hidden;
    document.body.dispatchEvent(new DragEvent("drop", {...options, dataTransfer: data}));
  }
}"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped_anywhere(visit: Visit, query: Path, kind: str) -> None:
    visit.open("/gallery")
    visit.page.evaluate(SEND, [list(query.read_bytes()), kind])
    visit.page.wait_for_url("**/search?query=*")
    name = visit.address.partition("query=")[2]
    assert visit.shown() == words_of(visit.api("/api/search", {"query": name, "k": 40})["hits"])
    if kind == "drop":
        assert visit.page.evaluate("window.overlay") is True
        assert visit.page.locator("#drop").is_hidden()


@pytest.mark.slow
def test_a_phone_offers_its_camera(visit: Visit, query: Path) -> None:
    visit.open("/")
    button = visit.role("button", "Take a photograph")
    assert button.is_visible() == (visit.width == "phone")
    assert visit.page.locator("#camera-input").get_attribute("capture") == "environment"
    visit.page.set_input_files("#camera-input", query)
    visit.page.wait_for_url("**/search?query=*")
    visit.hits.first.wait_for()


def test_what_is_not_an_image_is_refused_in_sentences(visit: Visit, tmp_path: Path) -> None:
    visit.allowed.append("status of 4")
    file = tmp_path / "notes.png"
    file.write_bytes(b"no image at all")
    visit.open("/")
    visit.page.set_input_files("#choose", file)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_be_visible()
    assert re.fullmatch(r"[A-Z][^<>{}]+\. [A-Z][^<>{}]+\.", alert.inner_text())
