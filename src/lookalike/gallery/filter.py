"""Which images a search may choose from: words, patterns and conditions in one line of text."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from lookalike.errors import GalleryError
from lookalike.gallery.rows import ImageRow

Fits = Callable[[str, ImageRow | None], bool]
"""Given a path as `_folded` has it, and the row if it is known."""
TERM = re.compile(r'(-?)(?:(\w+):)?("[^"]*"|\S+)')
NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", re.I)
DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
FORMATS = {"jpg": "jpeg", "heic": "heif", "tif": "tiff"}
LARGE = 1 << 63
Interval = tuple[float, float]
"""From the first number to below the second."""


@dataclass(frozen=True)
class Filter:
    """Made by `parse_filter`. ``needs_row``: whether more than the path decides."""

    text: str
    needs_row: bool
    _fits: Fits

    def fits(self, path: bytes, row: ImageRow | None = None) -> bool:
        """Whether an image does, by its path in the gallery; ``row`` may be left out unless it
        `needs_row`."""
        return self._fits(_folded(os.fsdecode(path)), row)


def parse_filter(text: str) -> Filter:
    """A filter in words. All of its terms, apart by spaces, have to fit; case never counts.

    ===================== ==============================================================
    ``horses``            the word anywhere in the path: folders and name
    ``"two words"``       the same with a space
    ``2019/*``, ``*.png`` a shell pattern of the whole path, or without a slash of the name
    ``date:2021..2023``   when it was taken, by the camera's clock, or else when the file was
                          last changed: years, months (2022-05), days
    ``size:>2MB``         of the file; k, M and G are powers of 1,000
    ``width:>=1000``      pixels of the upright image; also ``height:``
    ``shape:landscape``   or portrait, or square
    ``type:jpeg``         of the file's content
    ``-beach``            a minus before any of these: what does not fit it
    ===================== ==============================================================

    Conditions take ``>``, ``>=``, ``<``, ``<=``, a value, or ``from..to`` with either left out.

    Raises:
        GalleryError: it is empty, or a condition cannot be understood or is nearly one.
        TypeError: it is not text.
    """
    if not isinstance(text, str):
        raise TypeError(f"the filter is {text!r}; it must be text")
    if not text.strip():
        raise GalleryError("the filter is empty; leave it out, or use '*' for all files")
    terms: list[Fits] = []
    needs_row = False
    for minus, key, value in TERM.findall(text):
        make = CONDITIONS.get(key.lower())
        if make is None:
            if meant := get_close_matches(key.lower(), CONDITIONS, 1):
                raise GalleryError(
                    f"the filter's {key}: is not a condition; {meant[0]}: is, and for files with "
                    f"{key}:{value} in their path there is '*{key}:{value}*'"
                )
            value = f"{key}:{value}" if key else value
            fits = _in_path(value.replace('"', ""))
        else:
            needs_row = True
            fits = make(key.lower(), value.strip('"').lower())
        terms.append(_negated(fits) if minus else fits)
    # A pattern may hold spaces: "My Photos/*".
    whole = _in_path(text.strip()) if set(text) & set("*?[") and " " in text.strip() else None

    def all_fit(path: str, row: ImageRow | None) -> bool:
        return all(fits(path, row) for fits in terms) or bool(whole and whole(path, row))

    return Filter(text, needs_row, all_fit)


def _negated(fits: Fits) -> Fits:
    return lambda path, row: not fits(path, row)


def _in_path(term: str) -> Fits:
    """A word anywhere in the path, or a shell pattern."""
    word = _folded(term)
    if not set(term) & set("*?["):
        return lambda path, _: word in path
    matches = _glob(word)
    return lambda path, _: matches(path) or word in path


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


# ---- conditions ----------------------------------------------------------------------------------


def _number(text: str) -> Interval | None:
    found = NUMBER.fullmatch(text)
    if found is None:
        return None
    value = float(found[1]) * UNITS[found[2].lower()]
    return value, value + 0.5  # what is compared are whole numbers


def _date(text: str) -> Interval | None:
    """As `ImageRow.date`, of a day, month or year."""
    found = DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
    try:
        start = datetime(year, month, day, tzinfo=UTC)
        if found[3]:
            end = start + timedelta(days=1)
        elif found[2]:
            end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        else:
            end = datetime(year + 1, 1, 1, tzinfo=UTC)
        return start.timestamp(), end.timestamp()
    except (ValueError, OverflowError):
        return None


def _compared(
    read: Callable[[str], Interval | None], value_of: Callable[[ImageRow], int | None], example: str
) -> Callable[[str, str], Fits]:
    """A condition on a number: reads "<=value", "value" or "from..to"."""

    def make(key: str, text: str) -> Fits:
        first, dots, last = text.partition("..")
        sign, rest = re.fullmatch(r"([<>]=?|)(.*)", text, re.S).groups()  # type: ignore[union-attr]
        low, high = read(first if dots else rest), read(last if dots else rest)
        if (low is None and not (dots and not first)) or (high is None and not (dots and not last)):
            raise GalleryError(
                f"the filter's {key}:{text} cannot be understood; write for instance {example}"
            )
        start, end = low[0] if low else -LARGE, high[1] if high else LARGE
        if low and high and sign:
            start, end = {
                ">": (low[1], LARGE),
                ">=": (low[0], LARGE),
                "<": (-LARGE, low[0]),
                "<=": (-LARGE, low[1]),
            }[sign]

        def fits(_: str, row: ImageRow | None) -> bool:
            value = None if row is None else value_of(row)
            return value is not None and start <= value < end

        return fits

    return make


def _shape(key: str, text: str) -> Fits:
    if text not in ("landscape", "portrait", "square"):
        raise GalleryError(
            f"the filter's {key}:{text} cannot be understood; write {key}:landscape, "
            f"{key}:portrait or {key}:square"
        )
    sign = {"landscape": 1, "portrait": -1, "square": 0}[text]

    def fits(_: str, row: ImageRow | None) -> bool:
        if row is None or row.width is None or row.height is None:
            return False
        return (row.width > row.height) - (row.width < row.height) == sign

    return fits


def _type(_: str, text: str) -> Fits:
    wanted = FORMATS.get(text, text)
    return lambda _, row: row is not None and (row.format or "").lower() == wanted


CONDITIONS: dict[str, Callable[[str, str], Fits]] = {
    "date": _compared(_date, lambda row: row.date, "date:2022, date:>=2022-05 or date:2019..2021"),
    "size": _compared(_number, lambda row: row.size, "size:>2MB or size:100k..1M"),
    "width": _compared(_number, lambda row: row.width, "width:>=1000"),
    "height": _compared(_number, lambda row: row.height, "height:>=1000"),
    "shape": _shape,
    "orientation": _shape,
    "type": _type,
}


# ---- patterns ------------------------------------------------------------------------------------


def glob_matcher(pattern: str) -> Callable[[bytes], bool]:
    """Whether a relative path fits a shell pattern.

    ``*`` also stands for slashes: ``2019/*`` is everything below that folder. A pattern without a
    slash is compared with the file name alone; ``**/`` may stand for nothing. Case does not count.
    Different Unicode spellings of a name are equal.

    Raises:
        GalleryError: the pattern is empty.
    """
    if not pattern:
        raise GalleryError("the filter is empty; leave it out, or use '*' for all files")
    matches = _glob(_folded(pattern))
    return lambda path: matches(_folded(os.fsdecode(path)))


def _glob(pattern: str) -> Callable[[str], bool]:
    """Of a pattern and paths that are `_folded`."""
    whole = "/" in pattern
    # Every ``**/`` is one or more folders, or none.
    first, *others = re.split(r"(?:(?<=/)|^)(?:\*\*/)+", pattern)
    spellings = itertools.product(*(("", "*/") for _ in others))
    compiled = [
        re.compile(
            fnmatch.translate(first + "".join(itertools.chain(*zip(gaps, others, strict=True))))
        )
        for gaps in spellings
    ]

    def matches(path: str) -> bool:
        name = path if whole else path.rpartition("/")[2]
        return any(expression.match(name) for expression in compiled)

    return matches
