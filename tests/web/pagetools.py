"""A gallery of photographs, its server, and visits of its page in Debian's Chromium."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from lookalike import demo
from lookalike.gallery import Gallery
from lookalike.images import read_rgb

__all__ = [
    "SOURCES",
    "WIDTHS",
    "Visit",
    "answering",
    "chromium",
    "serving",
    "visit_of",
    "words_of",
    "write_images",
    "write_query",
]

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
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "wide": {"viewport": {"width": 1920, "height": 1080}},
}
SOURCES = ("chelsea", "china", "coffee", "motorcycle", "rocket")  # 17 images each: three pages
PATIENCE = 60_000.0


# ---- a gallery, its server, a browser ------------------------------------------------------------


def write_images(folder: Path) -> None:
    """85 images and a file that is not an image, indexed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "LONGEST_SIDE", 200)  # for speed
        for source in SOURCES:
            photograph = demo._locate(*demo.PHOTOGRAPHS[source])
            assert photograph is not None
            demo._write(photograph, folder / source, demo.IN_GALLERY)
    (folder / "broken.jpg").write_bytes(b"not an image")
    Gallery.open(folder).update()


def write_query(file: Path) -> None:
    """An image that the gallery does not hold."""
    photograph = demo._locate(*demo.PHOTOGRAPHS["chelsea"])
    assert photograph is not None
    demo.rotate(20)(read_rgb(photograph, longest_side=300)).save(file)


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[str]:
    """The address of `lookalike serve` for as long as the block."""
    command = [*COMMAND, "serve", os.fspath(folder), "--port", "0", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://\S+?(?=/? )", line):
                break
        else:
            raise AssertionError("".join(lines))
        # The rest must be read as well, or the server would block when the pipe is full.
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        try:
            yield found[0]
        finally:
            process.kill()
            process.wait()
            reader.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips if there is none, unless LOOKALIKE_NEEDS_BROWSER=1 insists."""
    if not CHROMIUM.exists() and os.environ.get("LOOKALIKE_NEEDS_BROWSER") != "1":
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


# ---- a visit -------------------------------------------------------------------------------------


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
    def images(self) -> list[dict[str, Any]]:
        """All, by path."""
        found: list[dict[str, Any]] = self.api("/api/images?limit=200")["images"]
        return found

    @property
    def ids(self) -> list[int]:
        return [image["id"] for image in self.images]

    @property
    def hits(self) -> Locator:
        return self.page.get_by_role("list", name="Hits, best first").get_by_role("listitem")

    def shown(self) -> list[tuple[int, str]]:
        """Id and words of every hit on the page."""
        self.hits.first.wait_for()
        script = "all => all.map(t => [+t.dataset.id, t.querySelector('.score').title])"
        return [(number, words) for number, words in self.hits.evaluate_all(script)]

    def role(self, role: Any, name: str | re.Pattern[str], **options: Any) -> Locator:
        return self.page.get_by_role(role, name=name, **options)


def visit_of(browser: Browser, base: str, width: str) -> Iterator[Visit]:
    """A tab of its own, which must not have complained of anything in the end."""
    expect.set_options(timeout=PATIENCE)
    context = browser.new_context(
        **WIDTHS[width], permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    visit = Visit(page, base, width)
    note = visit.complaints.append
    page.on("console", lambda m: note(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: note(str(error)))
    page.on(
        "requestfailed",
        # Those that the page itself aborted, when its view changed, are not failures.
        lambda r: note(f"{r.url}: {r.failure}") if "ERR_ABORTED" not in str(r.failure) else None,
    )
    page.on(
        "request",
        lambda r: None if r.url.startswith((base, "blob:")) else note(f"external: {r.url}"),
    )
    yield visit
    context.close()
    left = [text for text in visit.complaints if not any(part in text for part in visit.allowed)]
    assert not left


def words_of(hits: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(hit["id"], hit["words"]) for hit in hits]


def answering(status: int, error: dict[str, str], **headers: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, headers=headers, json={"error": error})
