"""Filters: words, patterns and conditions, as the command and the page take them."""

from __future__ import annotations

import os
from datetime import datetime

import pytest

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery
from lookalike.gallery.filter import parse_filter
from lookalike.gallery.rows import ImageRow


def row(path: str, when: str = "2022-05-17", size: int = 1, shape: str = "4x3 JPEG") -> ImageRow:
    sides, format = shape.split()
    width, height = map(int, sides.split("x"))
    changed = int(datetime.fromisoformat(when).timestamp() * 1e9)
    return ImageRow(1, os.fsencode(path), size, changed, width=width, height=height, format=format)


FARM = row("2022/Farm/horses/brown mare.JPG")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("horses", True),
        ("HORSES", True),
        ("farm mare", True),
        ("farm cows", False),
        ('"brown mare"', True),
        ('"mare brown"', False),
        ("farm/horses", True),
        ("*.jpg", True),
        ("*.png", False),
        ("2022/*", True),
        ("farm/*", False),
        ("**/farm/*", True),
        ("2022/Farm/horses/brown *", True),
        ("-cows", True),
        ("horses -mare", False),
        ('-"brown mare"', False),
        ("a:b", False),
        ("[ok", False),
    ],
)
def test_words_are_found_anywhere_in_the_path_and_patterns_fit_all_of_it(
    text: str, fits: bool
) -> None:
    chosen = parse_filter(text)
    assert not chosen.needs_row
    assert chosen.fits(FARM.path) == fits


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("date:2022", ["2021-12-31T23:59:59", "2022-01-01", "2022-12-31", "2023-01-01"], "0110"),
        ("date:2022-12", ["2022-11-30", "2022-12-31T23:59", "2023-01-01"], "010"),
        ("date:2022-05-17", ["2022-05-16", "2022-05-17T10:00", "2022-05-18"], "010"),
        ("date:>2022", ["2022-12-31", "2023-01-01"], "01"),
        ("date:>=2022-05", ["2022-04-30", "2022-05-01"], "01"),
        ("date:<2022", ["2021-12-31", "2022-01-01"], "10"),
        ("date:<=2022", ["2022-12-31", "2023-01-01"], "10"),
        ("date:2021..2022", ["2020-12-31", "2021-01-01", "2022-12-31", "2023-01-01"], "0110"),
        ("date:..2022", ["1999-01-01", "2023-01-01"], "10"),
        ("-date:2022", ["2021-12-31", "2022-01-01"], "10"),
    ],
)
def test_dates_are_those_of_the_files(text: str, values: list[str], expected: str) -> None:
    chosen = parse_filter(text)
    rows = [row("a.jpg", when) for when in values]
    assert "".join(str(int(chosen.fits(r.path, r))) for r in rows) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size:>2MB", "001"),
        ("size:2M", "010"),
        ("size:500k..2mb", "010"),
        ("size:<=2MB", "110"),
        ("width:>=1000", "011"),
        ("height:3000", "001"),
        ("shape:landscape", "010"),
        ("orientation:portrait", "001"),
        ("shape:square", "100"),
        ("type:jpg", "100"),
        ("type:HEIC", "001"),
        ("type:heif -old", "001"),
    ],
)
def test_conditions_are_on_what_is_known_of_the_file(text: str, expected: str) -> None:
    rows = [
        row("a.jpg", size=1000, shape="8x8 JPEG"),
        row("b.png", size=2_000_000, shape="1000x500 PNG"),
        row("c.heic", size=5_000_000, shape="2000x3000 HEIF"),
    ]
    chosen = parse_filter(text)
    assert "".join(str(int(chosen.fits(r.path, r))) for r in rows) == expected


@pytest.mark.parametrize(
    "text",
    ["", "  ", "date:2022-13", "date:soon", "size:big", "shape:round", "width:>", "width:..x"],
)
def test_what_cannot_be_understood_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(GalleryError, match=r"write|empty"):
        parse_filter(text)


def test_a_mistyped_condition_is_an_error_that_names_the_one_meant() -> None:
    with pytest.raises(GalleryError, match=r"widht: is not a condition; width: is"):
        parse_filter("widht:>=1000")
    assert parse_filter("horse:bay").fits(b"horse:bay.jpg", None)
    assert parse_filter("*widht:>=1000*").fits(b"my widht:>=1000.jpg", None)


def test_search_duplicates_and_pages_take_the_same_filter(gallery: Gallery) -> None:
    assert {hit.path[0] for hit in gallery.search("a/000.png", 12, filter="B/ png")} == {"b"}
    assert {hit.path for hit in gallery.search("a/000.png", 12, filter="-a/ shape:landscape")} == {
        hit.path for hit in gallery.search("a/000.png", 12) if hit.path[0] != "a"
    }
    rows, total = gallery.reader().now().page("b/ type:png", 0, 2)
    assert [row.path for row in rows] == [b"b/001.png", b"b/004.png"] and total == 4
    assert gallery.search("a/000.png", 12, filter="width:>64") == []
