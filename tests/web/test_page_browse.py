"""The page: browsing, and searching by an image of one's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from fakes import write_photos
from pagetools import SOURCES, WIDTHS, Visit, serving, visit_of, words_of
from playwright.sync_api import Browser, expect

from lookalike.gallery import Gallery


def test_all_images_are_shown_by_path_as_one_scrolls(visit: Visit) -> None:
    visit.open("/")
    expect(visit.role("heading", "85 images")).to_be_visible()
    links = visit.role("list", "Images").get_by_role("link")
    expect(links).to_have_count(60)
    links.last.scroll_into_view_if_needed()
    expect(links).to_have_count(85)
    paths = [image["path"] for image in visit.api("/api/images?limit=200")["images"]]
    assert [
        name.removeprefix("Open ") for name in links.evaluate_all("a => a.map(l => l.ariaLabel)")
    ] == paths


@pytest.mark.parametrize("visit", list(WIDTHS), indirect=True)
def test_a_click_on_an_image_shows_it_large_and_leads_to_similar_ones(visit: Visit) -> None:
    page = visit.page
    images = visit.images[:3]
    visit.open("/")
    visit.role("link", f"Open {images[1]['path']}").click()
    dialog = page.get_by_role("dialog")
    name = images[1]["path"].rpartition("/")[2]
    expect(dialog.get_by_role("heading", name=name)).to_be_visible()
    about = visit.api(f"/api/images/{images[1]['id']}/info")
    expect(dialog).to_contain_text(f"{about['width']} \N{MULTIPLICATION SIGN} {about['height']}")
    shown = dialog.get_by_role("img", name=images[1]["path"])
    expect(shown).to_have_attribute("src", visit.base + images[1]["original"])  # as it is
    dialog.get_by_role("button", name="Larger").click()
    expect(page.locator(".zoomed img")).to_have_attribute("style", re.compile("scale.1.4."))
    for key, image in (("ArrowRight", images[2]), ("ArrowLeft", images[1])):
        page.keyboard.press(key)
        expect(dialog.get_by_role("img", name=image["path"])).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert visit.address == "/"
    visit.role("link", f"Open {images[1]['path']}").click()
    dialog.get_by_role("link", name="Find similar").click()
    expect(visit.role("heading", f"Like {images[1]['path']}")).to_be_visible()
    body = {"id": images[1]["id"], "k": 40}
    assert visit.shown() == words_of(visit.api("/api/search", body)["hits"])


def test_folders_and_orders_lead_to_their_images(visit: Visit) -> None:
    page = visit.page
    folders = {f["name"]: f["images"] for f in visit.api("/api/folders")["folders"]}
    assert folders == dict.fromkeys(SOURCES, 17)
    visit.open("/")
    visit.role("group", "Folders").get_by_role("link", name="china").click()
    expect(visit.role("heading", "17 images")).to_be_visible()
    assert visit.address == "/?folder=china"
    visit.role("combobox", "Order").select_option("Largest files first")
    page.wait_for_url("**sort=largest")
    paths = [i["path"] for i in visit.images if i["path"].startswith("china/")]
    sizes = {i["id"]: visit.api(f"/api/images/{i['id']}/info")["bytes"] for i in visit.images}
    shown = visit.role("list", "Images").get_by_role("listitem")
    expect(shown).to_have_count(17)
    ids = shown.evaluate_all("all => all.map(t => +t.dataset.id)")
    assert [sizes[i] for i in ids] == sorted((sizes[i] for i in ids), reverse=True)
    assert len(paths) == 17
    visit.role("group", "Folder", exact=True).get_by_role("link", name="All").click()
    expect(visit.role("heading", "85 images")).to_be_visible()


def test_a_folder_whose_name_is_not_text_leads_to_its_images(
    browser: Browser, tmp_path: Path
) -> None:
    write_photos(tmp_path / "new", 4)
    (tmp_path / "new/a").rename(tmp_path / "new" / os.fsdecode(b'caf\xe9 "[1]'))
    Gallery.open(tmp_path / "new").update()
    with serving(tmp_path / "new") as address:
        for visit in visit_of(browser, address, "desktop"):
            visit.open("/")
            name = 'caf\N{REPLACEMENT CHARACTER} "[1]'
            visit.role("group", "Folders").get_by_role("link", name=name).click()
            expect(visit.role("heading", "2 images")).to_be_visible()
            visit.open("/")
            visit.role("checkbox", re.compile("^Select caf")).first.check()
            with visit.page.expect_download() as download:
                visit.role("button", "Export list").click()
            assert Path(download.value.path()).read_bytes() == b'caf\xe9 "[1]/000.png\n'
            visit.role("button", "Clear").click()
            visit.role("link", re.compile("^Open caf")).first.click()
            visit.page.get_by_role("dialog").get_by_role("link", name="Open folder").click()
            expect(visit.role("heading", "2 images")).to_be_visible()


@pytest.mark.parametrize("visit", list(WIDTHS), indirect=True)
def test_several_images_are_chosen_exported_and_searched_by(visit: Visit) -> None:
    page = visit.page
    visit.open("/")
    boxes = visit.role("checkbox", re.compile("^Select "))
    expect(boxes).to_have_count(60)
    boxes.nth(1).check()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.get_by_text("3 images selected").first).to_be_visible()
    visit.role("list", "Images").get_by_role("link").nth(4).click()  # a click chooses as well
    expect(page.get_by_text("4 images selected").first).to_be_visible()
    page.keyboard.press("x")
    expect(page.get_by_text("3 images selected").first).to_be_visible()
    with page.expect_download() as download:
        visit.role("button", "Export list").click()
    chosen = visit.images[1:4]
    assert Path(download.value.path()).read_text().splitlines() == [i["path"] for i in chosen]
    visit.role("button", "Find similar", exact=True).click()
    expect(visit.role("heading", "Like these 3 images")).to_be_visible()
    ids = [i["id"] for i in chosen]
    expected = visit.api("/api/search", {"id": ids[0], "like": ids[1:], "k": 40})["hits"]
    assert visit.shown() == words_of(expected)
    assert not {hit["id"] for hit in expected} & set(ids)


def test_chosen_images_leave_the_gallery_and_come_back(visit: Visit, images: Path) -> None:
    page = visit.page
    visit.open("/")
    before = visit.images
    visit.role("checkbox", f"Select {before[0]['path']}").check()
    visit.role("button", "Remove").click()
    with page.expect_request("**/api/remove") as asked:
        visit.role("button", "Take out").click()
    gallery = visit.api("/api/images")["gallery"]
    assert gallery and gallery in (asked.value.post_data or "")
    expect(visit.role("heading", f"{len(before) - 1} images")).to_be_visible()
    path = before[0]["path"]

    def is_there() -> bool:
        return path in [image["path"] for image in visit.api("/api/images?limit=200")["images"]]

    assert not is_there()
    assert (images / path).exists()
    page.get_by_role("button", name="Undo").click()
    expect(visit.role("heading", f"{len(before)} images")).to_be_visible()
    assert is_there()


def test_a_chosen_image_finds_what_the_api_finds_to_the_end(visit: Visit, query: Path) -> None:
    visit.open("/")
    name = visit.choose(query)
    expect(visit.role("heading", "Like mine.png")).to_be_visible()
    for shown in (80, 85):
        visit.hits.last.scroll_into_view_if_needed()
        expect(visit.hits).to_have_count(shown)
    assert visit.shown() == words_of(visit.api("/api/search", {"query": name, "k": 85})["hits"])


SEND = """([bytes, kind]) => {
  const file = new File([new Uint8Array(bytes)], "sent.png", {type: "image/png"});
  const data = new DataTransfer();
  data.items.add(file);
  data.items.add(new File(["another"], "another.png", {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  if (kind === "paste") {
    document.body.dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: data}));
  } else {
    document.body.dispatchEvent(new DragEvent("dragover", {...options, dataTransfer: data}));
    window.overlay = !document.getElementById("drop").hidden;
    document.body.dispatchEvent(new DragEvent("drop", {...options, dataTransfer: data}));
  }
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped_anywhere(visit: Visit, query: Path, kind: str) -> None:
    visit.open("/gallery")
    visit.page.evaluate(SEND, [list(query.read_bytes()), kind])
    expect(visit.page.get_by_text("Searching by the first of 2 images.")).to_be_visible()
    visit.page.wait_for_url("**/search?query=*")
    name = visit.address.partition("query=")[2]
    assert visit.shown() == words_of(visit.api("/api/search", {"query": name, "k": 40})["hits"])
    if kind == "drop":
        assert visit.page.evaluate("window.overlay") is True
        assert visit.page.locator("#drop").is_hidden()


def test_what_is_not_an_image_is_refused_in_sentences(visit: Visit, tmp_path: Path) -> None:
    visit.allowed.append("status of 4")
    file = tmp_path / "notes.png"
    file.write_bytes(b"no image at all")
    visit.open("/")
    visit.page.set_input_files("#choose", file)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_be_visible()
    assert re.fullmatch(r"[A-Z][^<>{}]+\. [A-Z][^<>{}]+\.", alert.inner_text())
