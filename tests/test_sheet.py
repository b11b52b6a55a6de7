"""Contact sheets: colours at their places, pages that need nothing else, names of every kind."""

from __future__ import annotations

import base64
import io
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookalike import sheet
from lookalike.gallery.hits import Hit
from lookalike.lsh.tuning import Trial
from lookalike.mark import is_own_sheet
from lookalike.plot import draw_recall_curve
from lookalike.sheet import Cell, Row, draw_png, search_sheet, shorten, thumbnail, write_html

Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two outside

BLUE = (10, 20, 230)
PINK = (255, 0, 200)


def plain(colour: tuple[int, int, int], width: int = 300, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def drawn(path: Path, *rows: Row, title: str = "title") -> NDArray[np.uint8]:
    draw_png(rows, path, title=title)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def box_of(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> Box | None:
    """The smallest rectangle around all pixels of exactly this colour."""
    y, x = np.nonzero((pixels == colour).all(axis=2))
    if not len(x):
        return None
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def card(column: int, lines: int, top: int = 0) -> Box:
    """Where the layout puts the query (column 0) or the hit of a column."""
    left = sheet.MARGIN
    if column:
        step = sheet.CARD_WIDTH + sheet.GAP
        left += sheet.CARD_WIDTH + sheet.ASIDE + (column - 1) * step
    top = top or sheet.MARGIN + 4 * sheet.LINE
    height = sheet.PICTURE[1] + 3 * sheet.PAD + lines * sheet.LINE
    return left, top, left + sheet.CARD_WIDTH, top + height


def picture_in(box: Box, width: int, height: int) -> Box:
    left = box[0] + (sheet.CARD_WIDTH - width) // 2
    top = box[1] + sheet.PAD + (sheet.PICTURE[1] - height) // 2
    return left, top, left + width, top + height


# ---- PNG -----------------------------------------------------------------------------------------


def test_a_right_hit_has_a_green_frame_and_a_wrong_one_a_red_one(tmp_path: Path) -> None:
    hits = (Cell(plain(BLUE), ("a",), True), Cell(plain(BLUE), ("b",), False))
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), hits))
    assert box_of(pixels, sheet.RIGHT) == card(1, lines=1)
    assert box_of(pixels, sheet.WRONG) == card(2, lines=1)
    left, top, right, bottom = card(1, lines=1)
    middle = (top + bottom) // 2
    frame = pixels[middle, left : left + sheet.FRAME]
    assert (frame == sheet.RIGHT).all()
    assert tuple(pixels[middle, left + sheet.FRAME]) == sheet.CARD
    assert (pixels[middle, right - sheet.FRAME : right] == sheet.RIGHT).all()


def test_a_badge_tells_right_from_wrong_without_colour(tmp_path: Path) -> None:
    hits = (Cell(plain(BLUE), ("a",), True), Cell(plain(BLUE), ("a",), False))
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), hits))

    def white(column: int) -> NDArray[np.bool_]:
        _, top, right, _ = card(column, lines=1)
        badge = pixels[top + 6 : top + 26, right - 26 : right - 6]
        return np.asarray((badge > 240).all(axis=2))

    tick, cross = white(1), white(2)
    assert cross[5:15, 5:15].trace() >= 8  # a diagonal stroke
    assert tick[5:15, 5:15].trace() <= 4


def test_without_a_mark_there_is_no_frame(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), (Cell(plain(BLUE), ("a",)),)))
    assert box_of(pixels, sheet.RIGHT) is None
    assert box_of(pixels, sheet.WRONG) is None


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((480, 160), (240, 80)),
        ((100, 200), (84, 168)),
        ((24, 16), (240, 160)),
        ((1, 1), (168, 168)),
    ],
)
def test_pictures_fill_their_box_in_shape_and_centred(
    tmp_path: Path, size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    row = Row(Cell(plain(PINK), ("q", "line")), (Cell(plain(BLUE, *size), ("a",)),))
    pixels = drawn(tmp_path / "s.png", row)
    assert sheet.PICTURE == (240, 168)
    assert box_of(pixels, BLUE) == picture_in(card(1, lines=2), *fitted)


def test_the_query_is_left_of_its_hits_on_a_colour_of_its_own(tmp_path: Path) -> None:
    row = Row(Cell(plain(PINK), ("q",)), tuple(Cell(plain(BLUE), ("a",)) for _ in range(3)))
    pixels = drawn(tmp_path / "s.png", row)
    left, top, right, bottom = card(0, lines=1)
    assert box_of(pixels, PINK) == picture_in(card(0, lines=1), 240, 80)
    assert box_of(pixels, sheet.QUERY) == (left + 1, top + 1, right - 1, bottom - 1)
    height, width, _ = pixels.shape
    assert (width, height) == (card(3, 1)[2] + sheet.MARGIN, card(3, 1)[3] + sheet.MARGIN)


def test_rows_stand_below_each_other_each_as_tall_as_its_captions(tmp_path: Path) -> None:
    first = Row(Cell(None, ("q", "b", "c")), (Cell(plain(BLUE), ("a",), True),))
    second = Row(Cell(plain(PINK), ("q",)), (Cell(plain(BLUE), ("a",), False),))
    pixels = drawn(tmp_path / "s.png", first, second)
    above = card(1, lines=3)
    assert box_of(pixels, sheet.RIGHT) == above
    assert box_of(pixels, sheet.WRONG) == card(1, lines=1, top=above[3] + sheet.GAP)


def test_an_unreadable_picture_is_drawn_as_a_placeholder(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), (Cell(None, ("gone.jpg",)),)))
    hole = box_of(pixels, sheet.HOLE)
    assert hole == picture_in(card(1, lines=1), *sheet.PICTURE)
    inside = pixels[hole[1] : hole[3], hole[0] : hole[2]]
    assert box_of(inside, sheet.SOFT) is not None  # it says so


def test_a_row_without_hits_says_that_nothing_was_found(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), ()))
    left, top, right, bottom = card(1, lines=1)
    assert box_of(pixels[top:bottom, left:right], sheet.SOFT) is not None


def test_hits_beyond_six_go_on_below(tmp_path: Path) -> None:
    colours = [(250, 10 * n, 7) for n in range(8)]
    hits = tuple(Cell(plain(colour), (str(n),)) for n, colour in enumerate(colours))
    pixels = drawn(tmp_path / "s.png", Row(Cell(plain(PINK), ("q",)), hits))
    for n, colour in enumerate(colours):
        top = card(n % 6 + 1, lines=1)[1] + n // 6 * (card(1, 1)[3] - card(1, 1)[1] + sheet.GAP)
        box = card(n % 6 + 1, lines=1, top=top)
        assert box_of(pixels, colour) == picture_in(box, 240, 80)
    assert pixels.shape[0] == box[3] + sheet.MARGIN
    assert pixels.shape[1] == card(6, lines=1)[2] + sheet.MARGIN


def test_a_sheet_is_told_from_other_pictures(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    draw_png([], path, title="title")
    assert is_own_sheet(path)
    with Image.open(path) as image:
        assert image.info == {"lookalike": "contact sheet"}
        image.save(tmp_path / "again.jpg")
    plain(PINK).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("tEXtlookalike\0contact sheet")
    for name in ("again.jpg", "other.png", "text.png", "nowhere.png"):
        assert not is_own_sheet(tmp_path / name)


def test_a_recall_curve_is_known_as_drawn_by_lookalike(tmp_path: Path) -> None:
    trial = Trial(1, 8, 100, 10, recall=0.9, uncertainty=0.01, seconds=1e-4)
    draw_recall_curve([trial], 0.9, tmp_path / "c.png", title="title")
    assert is_own_sheet(tmp_path / "c.png")


def test_a_sheet_without_rows_still_has_its_title(tmp_path: Path) -> None:
    assert box_of(drawn(tmp_path / "s.png"), sheet.INK) is not None
    assert box_of(drawn(tmp_path / "s.png", title=""), sheet.INK) is None


@pytest.mark.parametrize(
    "name",
    ["x" * 4000, "W" * 90 + ".jpg", "\u65e5" * 90, "a\nb" * 40, ""],
    ids=["long", "wide", "not ASCII", "lines", "empty"],
)
def test_captions_stay_within_their_card(tmp_path: Path, name: str) -> None:
    row = Row(Cell(plain(PINK), ("q",)), (Cell(plain(BLUE), (name, name)),))
    pixels = drawn(tmp_path / "s.png", row, title="")
    left, top, right, bottom = card(1, lines=2)
    inside = pixels[top + sheet.RADIUS : bottom - sheet.RADIUS, left + 1 : right - 1]
    assert (inside[:, : sheet.PAD - 3] == sheet.CARD).all()
    assert (inside[:, 3 - sheet.PAD :] == sheet.CARD).all()
    assert (pixels[:, right:] == sheet.PAGE).all()
    assert (pixels[bottom:] == sheet.PAGE).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "s.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space"):
        draw_png([], path, title="new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["s.png"]


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "short"),
    [(9, "photo.jpg"), (8, "phot…jpg"), (7, "pho…jpg"), (3, "p…g"), (2, "p…"), (1, "…"), (0, "…")],
)
def test_long_names_lose_their_middle(width: int, short: str) -> None:
    assert shorten("photo.jpg", lambda text: len(text) <= width) == short


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        *((0.0, "0.0"), (0.5, "50.0"), (0.998, "99.8"), (0.9994, "99.9"), (0.9996, "99.96")),
        *((0.99999, "99.999"), (1.0, "100.0")),
    ],
)
def test_a_share_below_one_never_reads_as_100_percent(share: float, shown: str) -> None:
    assert sheet._percent(share) == shown


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
    head = ["T", "T", "L\nM", "Query", "q.jpg", "rotated", "Most alike, best first"]
    hits = ["a.jpg", "cosine 0.9", "✓ right", "could not be read", "b.jpg", "✗ wrong"]
    assert got.texts == [*head, *hits, "Query", "r", "Most alike, best first", "nothing found"]
    assert [image["alt"] for image in got.all("img")] == [
        "query: q.jpg",
        "hit 1: a.jpg",
        "query: r",
    ]
    classes = [figure.get("class") for figure in got.all("figure")]
    assert classes == [None, "right", "wrong", None]
    hole = next(div for div in got.all("div"))
    assert (hole["role"], hole["aria-label"]) == ("img", "hit 2: b.jpg")


def test_the_pictures_are_in_the_page_as_small_webp(tmp_path: Path) -> None:
    big = Row(Cell(plain(BLUE, 2000, 1000), ("q",)), ())
    (image,) = page(tmp_path / "s.html", big).all("img")
    kind, _, data = (image["src"] or "").partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (480, 240))
        colour = np.asarray(picture.convert("RGB"))[120, 240].astype(int)
    assert np.abs(colour - BLUE).max() <= 6  # lossy


def test_the_page_needs_no_other_file_no_network_and_no_script(tmp_path: Path) -> None:
    got = page(tmp_path / "s.html", ROW)
    for tag, attributes in got.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "data", "background", "style"):
            assert (attributes.get(name) or "data:").startswith("data:")
    style = (tmp_path / "s.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    policy = next(m for m in got.all("meta") if m.get("http-equiv"))["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_markup_in_names_is_shown_not_obeyed(tmp_path: Path) -> None:
    evil = "\"><script>alert('1')</script>&amp;"
    row = Row(Cell(plain(PINK), (evil, evil)), (Cell(None, (evil,)),))
    got = page(tmp_path / "s.html", row, title=evil, lead=evil)
    assert got.all("script") == []
    assert got.texts.count(evil) == 6  # title, heading, lead, two lines of the query, hit
    assert got.all("img")[0]["alt"] == f"query: {evil}"
    assert got.all("div")[0]["aria-label"] == f"hit 1: {evil}"


def test_names_that_are_not_utf8_are_shown_with_replacement_characters(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x01.jpg") if sys.platform != "win32" else "caf\udce9\x01.jpg"
    row = Row(Cell(plain(PINK), (name,)), (Cell(plain(BLUE), (name,)),))
    assert page(tmp_path / "s.html", row).texts.count("caf\ufffd\ufffd.jpg") == 2
    broken, mended = (
        drawn(tmp_path / "s.png", Row(Cell(plain(PINK), (text,)), ()), title=text)
        for text in (name, "caf\ufffd\ufffd.jpg")
    )
    assert (broken == mended).all()


def test_a_long_name_is_shortened_but_whole_as_a_tooltip(tmp_path: Path) -> None:
    name = "a" * 200 + ".jpg"
    got = page(tmp_path / "s.html", Row(Cell(plain(PINK), (name,)), ()))
    (span,) = got.all("span")
    assert span["title"] == name
    assert got.texts[4] == "a" * 40 + "…" + "a" * 35 + ".jpg"


# ---- from hits -----------------------------------------------------------------------------------


def hit(file: Path, rarity: float | None = 0.998) -> Hit:
    return Hit(file.name, file, 0.9126, 31, 256, rarity, 1, 4, 3, "PNG")


def test_a_search_becomes_a_row_with_scores_and_pictures(tmp_path: Path) -> None:
    plain(BLUE, 40, 20).save(tmp_path / "blue.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    hits = [hit(tmp_path / "blue.png"), hit(tmp_path / "broken.png", None), hit(tmp_path / "gone")]
    row = search_sheet(
        plain(PINK),
        hits,
        query_caption=("q", "r"),
        mark=lambda hit: {"blue.png": True, "broken.png": False}.get(hit.path),
        longest_side=20,
    )
    assert row.query.picture is not None
    assert row.query.picture.size == (300, 100)
    assert (row.query.caption, row.query.marked) == (("q", "r"), None)
    scores = ("cosine 0.913", "31 of 256 bits differ")
    rare = "closer than 99.8 % of pairs"
    assert [cell.caption for cell in row.hits] == [
        ("blue.png", *scores, rare),
        ("broken.png", *scores),
        ("gone", *scores, rare),
    ]
    assert [cell.marked for cell in row.hits] == [True, False, None]
    assert [cell.picture and cell.picture.size for cell in row.hits] == [(20, 10), None, None]


def test_a_thumbnail_is_upright_and_none_if_unreadable(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain(BLUE, 40, 20).save(tmp_path / "turned.jpg", exif=exif)
    picture = thumbnail(tmp_path / "turned.jpg", 10)
    assert picture is not None
    assert picture.size == (5, 10)
    assert thumbnail(tmp_path / "none.jpg") is None
    assert thumbnail(io.BytesIO(b"")) is None
