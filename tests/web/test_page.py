"""The page in Debian's Chromium, on the real server and a real gallery, at two widths."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from lookalike import demo
from lookalike.gallery import Gallery
from lookalike.images import read_rgb

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDTHS: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True},
    "desktop": {"viewport": {"width": 1280, "height": 800}},
}
SOURCES = ("chelsea", "china", "coffee", "motorcycle", "rocket")  # 17 pictures each: three pages
PATIENCE = 60_000.0
TOKEN = "open-sesame-42"

needed = os.environ.get("LOOKALIKE_NEEDS_BROWSER") == "1"
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() and not needed,
    reason=f"{CHROMIUM} is missing: apt-get install chromium; LOOKALIKE_NEEDS_BROWSER=1 insists",
)


# ---- a gallery, its server, a browser ------------------------------------------------------------


@dataclass
class Server:
    address: str
    folder: Path
    process: subprocess.Popen[str]


def start(folder: Path, *more: str) -> Server:
    command = [sys.executable, "-c", "from lookalike.cli import main; main()", "serve"]
    process = subprocess.Popen(
        [*command, os.fspath(folder), "--port", "0", *more], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"http://\S+?(?=/? )", line):
            # The rest must be read, too, or the server would wait for somebody to do so.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return Server(found[0], folder, process)
    process.wait(30)
    process.stderr.close()
    raise AssertionError("".join(lines))


def stop(server: Server) -> None:
    server.process.terminate()
    server.process.wait(30)
    assert server.process.stderr is not None
    server.process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "pictures"
    for source in SOURCES:
        photograph = demo._locate(*demo.PHOTOGRAPHS[source])
        assert photograph is not None
        demo._write(photograph, made / source, demo.IN_GALLERY)
    (made / "broken.jpg").write_bytes(b"not an image")
    Gallery.open(made).update()
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    started = start(folder)
    yield started
    stop(started)


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that the gallery does not hold."""
    file = tmp_path_factory.mktemp("query") / "mine.png"
    photograph = demo._locate(*demo.PHOTOGRAPHS["chelsea"])
    assert photograph is not None
    demo.rotate(20)(read_rgb(photograph, longest_side=300)).save(file)
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@dataclass
class Visit:
    """A tab, and what went wrong in it."""

    page: Page
    base: str
    width: str
    allowed: list[str] = field(default_factory=list)
    """What may be complained of, as parts of texts."""
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        self.page.goto(self.base + address)

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = self.page.request
        answer = (
            request.get(self.base + path)
            if body is None
            else request.post(self.base + path, data=body)
        )
        assert answer.ok, answer.text()
        return answer.json()

    @property
    def address(self) -> str:
        return self.page.url.removeprefix(self.base)

    def choose(self, query: Path) -> str:
        """Search by a file; its name on the server."""
        self.page.set_input_files("#choose", query)
        self.page.wait_for_url("**/search?query=*")
        self.hits.first.wait_for()
        return self.address.partition("query=")[2]

    @cached_property
    def ids(self) -> list[int]:
        """Of all pictures, by path."""
        return [image["id"] for image in self.api("/api/images?limit=200")["images"]]

    @property
    def hits(self) -> Locator:
        return self.page.get_by_role("list", name="Hits, best first").get_by_role("listitem")

    def shown(self) -> list[tuple[int, str]]:
        """Id and words of every hit on the page."""
        self.hits.first.wait_for()
        script = "all => all.map(t => [+t.dataset.id, t.querySelector('.score').textContent])"
        return [(number, words) for number, words in self.hits.evaluate_all(script)]

    def role(self, role: Any, name: str | re.Pattern[str], **options: Any) -> Locator:
        return self.page.get_by_role(role, name=name, **options)


def words_of(hits: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(hit["id"], hit["words"]) for hit in hits]


def visit_of(browser: Browser, base: str, width: str) -> Iterator[Visit]:
    context = browser.new_context(
        **WIDTHS[width], permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    visit = Visit(page, base, width)
    tell = visit.complaints.append
    page.on("console", lambda m: tell(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: tell(str(error)))
    page.on(
        "requestfailed",
        # Those that the page itself gave up, when one went elsewhere, are no failures.
        lambda r: tell(f"{r.url}: {r.failure}") if "ERR_ABORTED" not in str(r.failure) else None,
    )
    page.on(
        "request",
        lambda r: None if r.url.startswith((base, "blob:")) else tell(f"external: {r.url}"),
    )
    yield visit
    context.close()
    left = [text for text in visit.complaints if not any(part in text for part in visit.allowed)]
    assert not left


@pytest.fixture(params=list(WIDTHS))
def visit(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Visit]:
    expect.set_options(timeout=PATIENCE)
    yield from visit_of(browser, server.address, request.param)


def answering(status: int, error: dict[str, str], **headers: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, headers=headers, json={"error": error})


# ---- browse, search ------------------------------------------------------------------------------


def test_all_pictures_are_shown_by_path_as_one_scrolls(visit: Visit) -> None:
    visit.open("/")
    expect(visit.role("heading", "85 pictures")).to_be_visible()
    links = visit.role("list", "Pictures").get_by_role("link")
    expect(links).to_have_count(60)
    links.last.scroll_into_view_if_needed()
    expect(links).to_have_count(85)
    paths = [image["path"] for image in visit.api("/api/images?limit=200")["images"]]
    assert [
        name.partition(" to ")[2] for name in links.evaluate_all("a => a.map(l => l.ariaLabel)")
    ] == paths


def test_the_filter_of_the_pictures_is_part_of_the_address(visit: Visit) -> None:
    visit.open("/")
    visit.role("searchbox", "Only pictures whose path fits").fill("china/*.png")
    visit.page.keyboard.press("Enter")
    expected = visit.api("/api/images?filter=china/*.png")["total"]
    expect(visit.role("heading", f"{expected} pictures")).to_be_visible()
    assert visit.address == "/?filter=china%2F*.png"


def test_a_click_on_a_picture_finds_similar_ones(visit: Visit) -> None:
    visit.open("/")
    visit.role("link", "Find similar to china/mirror.png").click()
    expect(visit.role("heading", "Like china/mirror.png")).to_be_visible()
    number = int(visit.address.partition("id=")[2])
    assert visit.shown() == words_of(visit.api("/api/search", {"id": number, "k": 40})["hits"])


def test_a_chosen_picture_finds_what_the_api_finds_to_the_end(visit: Visit, query: Path) -> None:
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


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped_anywhere(visit: Visit, query: Path, kind: str) -> None:
    visit.open("/gallery")
    visit.page.evaluate(SEND, [list(query.read_bytes()), kind])
    visit.page.wait_for_url("**/search?query=*")
    name = visit.address.partition("query=")[2]
    assert visit.shown() == words_of(visit.api("/api/search", {"query": name, "k": 40})["hits"])
    if kind == "drop":
        assert visit.page.evaluate("window.overlay") is True
        assert visit.page.locator("#drop").is_hidden()


def test_a_phone_offers_its_camera(visit: Visit, query: Path) -> None:
    visit.open("/")
    button = visit.role("button", "Take a photograph")
    assert button.is_visible() == (visit.width == "phone")
    assert visit.page.locator("#camera-input").get_attribute("capture") == "environment"
    visit.page.set_input_files("#camera-input", query)
    visit.page.wait_for_url("**/search?query=*")
    visit.hits.first.wait_for()


def test_what_is_no_picture_is_refused_in_sentences(visit: Visit, tmp_path: Path) -> None:
    visit.allowed.append("status of 4")
    file = tmp_path / "notes.png"
    file.write_bytes(b"no picture at all")
    visit.open("/")
    visit.page.set_input_files("#choose", file)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_be_visible()
    assert re.fullmatch(r"[A-Z][^<>{}]+\. [A-Z][^<>{}]+\.", alert.inner_text())


# ---- a part of the query -------------------------------------------------------------------------


def drag(visit: Visit, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Over shares of the query's picture: by touch on a phone, by mouse elsewhere."""
    surface = visit.role("application", "Part to search by")
    surface.scroll_into_view_if_needed()
    box = surface.bounding_box()
    assert box is not None
    steps = [[a + (b - a) * i / 4 for a, b in zip(start, end, strict=True)] for i in range(5)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in steps]
    if visit.width == "phone":
        session = visit.page.context.new_cdp_session(visit.page)
        for i, (x, y) in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            event = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            session.send("Input.dispatchTouchEvent", event)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    visit.page.mouse.move(*points[0])
    visit.page.mouse.down()
    for x, y in points[1:]:
        visit.page.mouse.move(x, y)
    visit.page.mouse.up()


def crop_of(visit: Visit) -> list[float]:
    visit.page.wait_for_url("**crop=*")
    found = re.search(r"crop=([\d.,]+)", visit.page.url)
    assert found is not None
    return [float(share) for share in found[1].split(",")]


def test_a_dragged_rectangle_searches_by_that_part(visit: Visit, query: Path) -> None:
    visit.open("/")
    name = visit.choose(query)
    whole = visit.shown()
    visit.page.wait_for_function("document.querySelector('.surface img').naturalWidth > 0")
    drag(visit, (0.1, 0.2), (0.6, 0.9))
    crop = crop_of(visit)
    # The pointer is somewhere within a pixel of a picture of at least 150.
    assert crop == pytest.approx([0.1, 0.2, 0.5, 0.7], abs=0.01)
    expect(visit.role("heading", "Like a part of mine.png")).to_be_visible()
    body = {"query": name, "k": 40, "crop": crop}
    expected = words_of(visit.api("/api/search", body)["hits"])
    visit.page.wait_for_function(
        "id => +document.querySelector('.found li')?.dataset.id === id", arg=expected[0][0]
    )
    assert visit.shown() == expected != whole
    before = visit.page.url
    drag(visit, (0.3, 0.5), (0.4, 0.4))  # within: it moves
    visit.page.wait_for_url(lambda url: url != before)
    assert crop_of(visit) == pytest.approx([0.2, 0.1, 0.5, 0.7], abs=0.02)
    visit.role("button", "Whole picture").click()
    expect(visit.role("heading", "Like mine.png")).to_be_visible()
    assert "crop" not in visit.address


def test_arrow_keys_make_move_and_size_the_part(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}")
    visit.hits.first.wait_for()
    surface = visit.role("application", "Part to search by")
    surface.focus()
    for keys in ("ArrowDown", "ArrowRight", "ArrowUp", "Shift+ArrowLeft", "Shift+ArrowDown"):
        surface.press(keys)
    surface.press("Enter")
    assert crop_of(visit) == pytest.approx([0.22, 0.18, 0.58, 0.62])
    surface.press("Escape")
    visit.page.wait_for_url(f"**/search?id={visit.ids[0]}")


# ---- going around --------------------------------------------------------------------------------


def test_back_forward_and_reload_restore_pictures_and_place(visit: Visit) -> None:
    page = visit.page
    visit.open("/")
    links = visit.role("list", "Pictures").get_by_role("link")
    expect(links).to_have_count(60)
    links.last.scroll_into_view_if_needed()
    expect(links).to_have_count(85)
    links.last.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    place = page.evaluate("scrollY")
    assert place > 0
    links.last.click()
    shown = visit.shown()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(links).to_have_count(85)
    page.wait_for_function("y => Math.abs(scrollY - y) < 3", arg=place)
    page.reload()
    expect(links).to_have_count(85)
    page.wait_for_function("y => Math.abs(scrollY - y) < 3", arg=place)
    page.go_forward()
    assert visit.shown() == shown
    page.reload()
    assert visit.shown() == shown


def test_arrows_move_by_columns_and_rows_enter_opens_escape_closes(visit: Visit) -> None:
    page = visit.page
    visit.open(f"/search?id={visit.ids[0]}")
    visit.hits.first.wait_for()
    boxes = visit.hits.evaluate_all("all => all.map(t => [t.offsetLeft, t.offsetTop])")
    columns = sum(top == boxes[0][1] for _, top in boxes)
    assert columns == (2 if visit.width == "phone" else 4)

    def focused() -> int:
        here = "t => t.contains(document.activeElement)"
        return int(page.evaluate(f"[...document.querySelectorAll('.found li')].findIndex({here})"))

    visit.hits.first.get_by_role("link").first.focus()
    for key, place in [
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowLeft", columns),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
        ("End", 39),
        ("Home", 0),
        ("ArrowDown", columns),
    ]:
        page.keyboard.press(key)
        assert focused() == place, key
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "compare=" in visit.address
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert (visit.address, focused()) == (f"/search?id={visit.ids[0]}", columns)
    judged = visit.hits.nth(columns).get_by_role("button", name=re.compile("^Alike"))
    for pressed in ("true", "false"):
        page.keyboard.press("+")
        expect(judged).to_have_attribute("aria-pressed", pressed)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("-")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    judged = visit.hits.nth(columns).get_by_role("button", name=re.compile("^Not alike"))
    expect(judged).to_have_attribute("aria-pressed", "true")


# ---- compare and explain -------------------------------------------------------------------------


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
    # The brightest cell of the server's map is the most opaque one of the picture.
    script = """canvas => {
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return Array.from({length: data.length / 4}, (_, i) => data[4 * i + 3]);
    }"""
    opacity = page.locator("canvas.heat").nth(1).evaluate(script)
    values = [value for row in attention["hit"]["values"] for value in row]
    assert opacity[values.index(max(values))] == max(opacity) > min(opacity)
    visit.role("radio", "Pictures alone").check()
    assert page.locator("canvas.heat").count() == 0


def test_a_model_without_attention_says_so(visit: Visit) -> None:
    def without(route: Route) -> None:
        answer = route.fetch()
        note = "this model has no attention"
        route.fulfill(
            response=answer, json={**answer.json(), "attention": None, "attention_note": note}
        )

    visit.page.route("**/api/explain", without)
    visit.open(f"/search?id={visit.ids[0]}&compare={visit.ids[1]}&why=1")
    expect(visit.page.get_by_text("This model has no attention.")).to_be_visible()
    expect(visit.role("radio", "Attention")).to_be_disabled()


# ---- teach ---------------------------------------------------------------------------------------


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
    asked = visit.role("list", "Pictures to judge").get_by_role("listitem")
    expect(asked).to_have_count(10)
    ids = asked.evaluate_all("all => all.map(t => +t.dataset.id)")
    assert ids == [hit["id"] for hit in visit.api("/api/feedback", {**body, "k": 1})["ask"]]
    asked.first.get_by_role("button", name=re.compile("^Not alike")).click()

    visit.role("button", "Refine").click()
    expect(visit.role("heading", "Refined: like")).to_be_visible()
    expect(page.get_by_text("Round 1: 1 alike, 2 not.").first).to_be_visible()
    body["irrelevant"].append(ids[0])
    body = {**body, "k": 60, "ask": 0}
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


# ---- duplicates ----------------------------------------------------------------------------------


def test_duplicates_are_marked_and_exported_and_nothing_is_deleted(
    visit: Visit, folder: Path
) -> None:
    page = visit.page
    before = sorted(file.stat().st_mtime_ns for file in folder.glob("*/*"))
    groups = visit.api("/api/duplicates", {"threshold": 0.97})["groups"]
    visit.open("/duplicates?threshold=0.97")
    expect(page.get_by_text("Nothing is deleted here.")).to_be_visible()
    first = visit.role("region", re.compile("^Group 1:"))
    expect(first.get_by_role("listitem")).to_have_count(1 + len(groups[0]["others"]))
    keep, other = groups[0]["keep"], groups[0]["others"][0]
    assert first.get_by_role("checkbox", name=f"Keep {keep['path']}").is_checked()
    box = first.get_by_role("checkbox", name=f"Keep {other['path']}")
    assert not box.is_checked()
    box.check()
    page.reload()
    expect(box).to_be_checked()
    with page.expect_download() as download:
        visit.role("button", "Export marks as JSON").click()
    assert download.value.suggested_filename == "duplicates.json"
    exported = json.loads(Path(download.value.path()).read_text())

    def listed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: item[name] for name in ("id", "path", "bytes")} for item in items]

    expected = [{"keep": listed([g["keep"]]), "could_go": listed(g["others"])} for g in groups]
    expected[0] = {"keep": listed([keep, other]), "could_go": listed(groups[0]["others"][1:])}
    assert exported == {
        "format": "lookalike duplicates",
        "version": 1,
        "threshold": 0.97,
        "groups": expected,
    }
    assert sorted(file.stat().st_mtime_ns for file in folder.glob("*/*")) == before


# ---- the gallery ---------------------------------------------------------------------------------


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


def test_the_gallery_view_tells_what_the_api_tells(visit: Visit) -> None:
    visit.open("/gallery")
    visit.role("region", "Model").wait_for()
    stats = visit.api("/api/stats")
    assert fact(visit, "Pictures", "Indexed") == str(stats["gallery"]["images"])
    assert fact(visit, "Pictures", "Skipped") == str(stats["gallery"]["skipped"]) == "1"
    assert fact(visit, "Model", "SHA-256") == stats["model"]["sha256"][:12]
    assert fact(visit, "Model", "Embedding") == f"{stats['model']['dim']:,} numbers"
    assert fact(visit, "Index", "Code bits") == str(stats["index"]["code_bits"])
    assert fact(visit, "Buckets", "Largest") == f"{stats['largest_bucket']} images"
    counts = [[str(bucket["count"])] for bucket in stats["buckets"]]
    assert [row[1:] for row in table(visit, "Buckets")] == counts
    drawing = visit.role("img", re.compile("^Buckets by the number of images"))
    expect(drawing).to_be_visible()
    assert drawing.locator("rect").count() == len(stats["buckets"])
    (skipped,) = visit.api("/api/skipped")["skipped"]
    visit.role("region", "Skipped files").get_by_text("1 file could not be taken in.").wait_for()
    told = visit.role("list", "Skipped files").get_by_role("listitem").inner_text()
    assert all(skipped[name] in told for name in ("path", "reason", "detail"))
    assert skipped["remedy"][1:] in told  # it begins with a capital there


def test_recall_and_speed_are_measured_and_drawn(visit: Visit) -> None:
    visit.open("/gallery")
    visit.role("button", re.compile("^Measure")).click()
    curve = visit.role("img", re.compile("^Time of a query against recall"))
    expect(curve).to_be_visible()
    visit.role("button", "Measure again").wait_for()
    stats = visit.api("/api/stats")
    share = f"{100 * stats['recall']['recall']:.1f} %"
    assert fact(visit, "Recall and speed", "Recall of the best 10") == share
    points = sorted((p["recall"], p["microseconds"]) for p in stats["curve"])
    rows = sorted((float(a), float(b)) for a, b in table(visit, "Recall and speed"))
    for row, point in zip(rows, points, strict=True):
        assert row == pytest.approx(point, abs=0.051)  # microseconds are shown with one digit
    assert curve.locator("circle.dot").count() == len(points)


@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
def test_an_update_is_started_and_watched(visit: Visit, folder: Path, events: bool) -> None:
    if not events:
        visit.allowed.append("/api/update/events")
        visit.allowed.append("net::ERR_FAILED")
        visit.page.route("**/api/update/events", lambda route: route.abort())
    before = visit.api("/api/stats")["gallery"]["images"]
    added = folder / "rocket" / f"new-{visit.width}-{events}.jpg"
    shutil.copy(folder / "rocket" / "crop-60.jpg", added)
    visit.open("/gallery")
    visit.role("region", "Pictures").wait_for()
    visit.role("button", "Update now").click()
    region = visit.role("region", "Update")
    expect(
        region.get_by_text(f"Up to date: 1 added. {before + 1} pictures in the gallery")
    ).to_be_visible()
    expect(visit.role("heading", "Gallery")).to_be_visible()
    indexed = visit.role("region", "Pictures").locator("dd").first
    expect(indexed).to_have_text(str(before + 1))
    added.unlink()
    visit.role("button", "Update now").click()
    expect(
        region.get_by_text(f"Up to date: 1 dropped. {before} pictures in the gallery")
    ).to_be_visible()


# ---- when it does not go well --------------------------------------------------------------------


def test_nothing_similar_is_said_plainly(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}&threshold=0.9999")
    expect(visit.page.get_by_text("No picture reaches a cosine of 0.9999.").first).to_be_visible()
    assert visit.hits.count() == 0

    def doubtful(route: Route) -> None:
        answer = route.fetch()
        told = {"nothing_similar": True, "note": "these are as alike as random pairs"}
        route.fulfill(response=answer, json={**answer.json(), **told})

    visit.page.route("**/api/search", doubtful)
    visit.open(f"/search?id={visit.ids[1]}")
    text = "Nothing similar is in this gallery. These are as alike as random pairs."
    expect(visit.page.get_by_text(text).first).to_be_visible()


def test_limits_narrow_the_search(visit: Visit) -> None:
    visit.open(f"/search?id={visit.ids[0]}")
    visit.hits.first.wait_for()
    visit.page.get_by_text("Limits").click()
    visit.role("textbox", "Path fits").fill("china/*")
    visit.role("spinbutton", "Cosine at least").fill("0.1")
    visit.role("button", "Apply").click()
    visit.page.wait_for_url("**filter=china*")
    body = {"id": visit.ids[0], "k": 40, "filter": "china/*", "threshold": 0.1}
    expected = words_of(visit.api("/api/search", body)["hits"])
    expect(visit.hits).to_have_count(len(expected))
    assert visit.shown() == expected


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (f"/search?query=q_{'0' * 32}", "has forgotten this one. Drop, paste or choose it again."),
        ("/search?id=999999", "The gallery no longer has this picture."),
    ],
    ids=["query", "image"],
)
def test_a_picture_that_is_gone_is_said_to_be(visit: Visit, address: str, text: str) -> None:
    visit.allowed.append("status of 404")
    visit.open(address)
    expect(visit.role("heading", "This picture is gone")).to_be_visible()
    expect(visit.page.get_by_text(text)).to_be_visible()


def test_a_busy_server_is_asked_again(visit: Visit) -> None:
    visit.allowed.append("status of 503")
    error = {"code": "busy", "message": "too many searches", "remedy": "try again"}
    answer = answering(503, error, **{"Retry-After": "1"})
    visit.page.route("**/api/search", answer, times=1)
    visit.open(f"/search?id={visit.ids[0]}")
    expect(visit.page.get_by_text("The server is busy. Trying again in 1 s.")).to_be_visible()
    assert visit.shown() == words_of(
        visit.api("/api/search", {"id": visit.ids[0], "k": 40})["hits"]
    )


def test_an_error_is_told_with_its_remedy_and_a_way_on(visit: Visit) -> None:
    visit.allowed.append("status of 500")
    error = {"code": "internal", "message": "the search failed", "remedy": "look at the log"}
    visit.page.route("**/api/search", answering(500, error), times=1)
    visit.open(f"/search?id={visit.ids[0]}")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("The search failed. Look at the log.")
    alert.get_by_role("button", name="Try again").click()
    assert visit.shown() == words_of(
        visit.api("/api/search", {"id": visit.ids[0], "k": 40})["hits"]
    )


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[Server]:
    started = start(folder, "--token", TOKEN)
    yield started
    stop(started)


@pytest.mark.parametrize("width", list(WIDTHS))
def test_a_locked_gallery_asks_for_its_token(browser: Browser, locked: Server, width: str) -> None:
    for visit in visit_of(browser, locked.address, width):
        visit.allowed.append("status of 401")
        visit.open("/")
        dialog = visit.role("dialog", "This gallery is locked")
        dialog.get_by_label("Token").fill("not-the-token")
        visit.page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("This is not the token")
        dialog.get_by_label("Token").fill(TOKEN)
        visit.role("button", "Unlock").click()
        expect(visit.role("list", "Pictures").get_by_role("link")).to_have_count(60)
        expect(visit.page.get_by_role("dialog")).to_have_count(0)


# ---- how it is built -----------------------------------------------------------------------------

VIEWS = ["/", "/search?id={0}", "/search?id={0}&compare={1}&why=1", "/duplicates", "/gallery"]


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


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    folder = Path(demo.__file__).parent / "web" / "page"
    assert (folder / "style.css").stat().st_size < 20_000
    assert (folder / "index.html").stat().st_size < 6_000
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), (
            file
        )
    index = (folder / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", index)
    named = set(re.findall(r"/page/(\w+\.\w+)", index))
    assert named <= {file.name for file in folder.iterdir()}
