"""Contact sheets: pages that need nothing else, names of every kind."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.sheet import Cell, Row, write_html

BLUE = (10, 20, 230)
PINK = (255, 0, 200)


def plain(colour: tuple[int, int, int], width: int = 300, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


# ---- HTML ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page consists of; fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1] != "style":
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(path: Path, *rows: Row, title: str = "title", lead: str = "lead") -> Page:
    write_html(rows, path, title=title, lead=lead)
    return Page(path)


ROW = Row(
    Cell(plain(PINK), ("q.jpg", "rotated")),
    (Cell(plain(BLUE), ("a.jpg", "cosine 0.9"), True), Cell(None, ("b.jpg",), False)),
)


def test_the_page_shows_captions_marks_and_alternative_texts(tmp_path: Path) -> None:
    got = page(tmp_path / "s.html", ROW, Row(Cell(plain(PINK), ("r",)), ()), title="T", lead="L\nM")
    shown = [
        "T",
        "L\nM",
        "q.jpg",
        "rotated",
        "a.jpg",
        "cosine 0.9",
        "✓ right",
        "b.jpg",
        "✗ wrong",
        "r",
    ]
    assert [text for text in got.texts[1:] if text in shown] == shown
    assert got.texts[-1] == "nothing found"
    alternatives = [image["alt"] for image in got.all("img")]
    assert alternatives == ["query: q.jpg", "hit 1: a.jpg", "query: r"]
    classes = [figure.get("class") for figure in got.all("figure")]
    assert classes == [None, "right", "wrong", None]
    hole = next(div for div in got.all("div"))
    assert (hole["role"], hole["aria-label"]) == ("img", "hit 2: b.jpg")


def test_the_images_are_in_the_page_as_small_webp(tmp_path: Path) -> None:
    big = Row(Cell(plain(BLUE, 2000, 1000), ("q",)), ())
    (tag,) = page(tmp_path / "s.html", big).all("img")
    kind, _, data = (tag["src"] or "").partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
        assert (image.format, image.size) == ("WEBP", (480, 240))
        colour = np.asarray(image.convert("RGB"))[120, 240].astype(int)
    assert np.abs(colour - BLUE).max() <= 6  # lossy


def test_the_page_needs_no_other_file_no_network_and_no_script(tmp_path: Path) -> None:
    got = page(tmp_path / "s.html", ROW)
    for tag, attributes in got.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "data", "background", "style"):
            assert (attributes.get(name) or "data:").startswith("data:")
    style = (tmp_path / "s.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert style and "url(" not in style and "@import" not in style
    policy = next(m for m in got.all("meta") if m.get("http-equiv"))["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_markup_and_bytes_in_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    evil = "\"><script>alert('1')</script>&amp;"
    row = Row(Cell(plain(PINK), (evil, evil)), (Cell(None, (evil,)), Cell(None, ("\udce9\x01",))))
    got = page(tmp_path / "s.html", row, title=evil, lead=evil)
    assert got.all("script") == []
    assert got.texts.count(evil) == 6  # title, heading, lead, two lines of the query, hit
    assert got.texts.count("\ufffd\ufffd") == 1  # not UTF-8, and not to be printed
    assert got.all("img")[0]["alt"] == f"query: {evil}"
    assert got.all("div")[0]["aria-label"] == f"hit 1: {evil}"
