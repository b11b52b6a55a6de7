"""Contact sheets: each query beside what was found, as an HTML page for people to look at.

The page needs no other file, no network and no script. It is not an image, so that one saved in the
folder of a gallery is not taken in by the next update.
"""

from __future__ import annotations

import base64
import html
import io
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lookalike.atomic import atomic_writer
from lookalike.gallery.hits import Hit
from lookalike.images import SkippedImageError, Source
from lookalike.images.decoder import Decoder

LONGEST_SIDE = 480


@dataclass(frozen=True, eq=False)
class Cell:
    """An image with its caption.

    Attributes:
        image: RGB; None: could not be read, drawn as a placeholder.
        caption: lines, the first one the name.
        marked: right (green frame) or wrong (red frame); None: no frame.
    """

    image: Image.Image | None
    caption: tuple[str, ...]
    marked: bool | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """A query and its hits, best first; they may be none. `titles` stand above the two."""

    query: Cell
    hits: tuple[Cell, ...]
    titles: tuple[str, str] = ("Query", "Most alike, best first")


# ---- from hits to rows ---------------------------------------------------------------------------


def thumbnail(source: Source, longest_side: int = LONGEST_SIDE) -> Image.Image | None:
    """The upright image of a file (path or BytesIO), None if it cannot be read."""
    try:
        with Decoder() as decoder:
            return decoder.read_rgb(source, longest_side=longest_side)
    except SkippedImageError:
        return None


def search_sheet(
    query_image: Image.Image | None,
    hits: Sequence[Hit],
    *,
    query_caption: Sequence[str] = ("query",),
    mark: Callable[[Hit], bool | None] = lambda _: None,
) -> Row:
    """The row of one search; reads the hits' files.

    Args:
        query_image: as of :func:`thumbnail`.
        query_caption: lines, the first one the name.
        mark: whether a hit is right, for its frame; None: no frame.
    """
    cells = [
        Cell(
            thumbnail(hit.file),
            (hit.path, *f"cosine {hit.describe()}".split(", ")),
            mark(hit),
        )
        for hit in hits
    ]
    return Row(Cell(query_image, tuple(query_caption)), tuple(cells))


# ---- text ----------------------------------------------------------------------------------------


def shorten(text: str, length: int) -> str:
    """The text, with as much of its middle as necessary replaced by an ellipsis."""
    if len(text) <= length:
        return text
    tail = max(0, length - 1) // 2
    return text[: max(0, length - 1 - tail)] + "…" + text[len(text) - tail :]


def _shown(text: str) -> str:
    """What of a name can be shown: bytes that are not UTF-8, and control characters, as U+FFFD."""
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" else c for c in valid)


# ---- HTML ----------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --page: #f4f6f9; --card: #fff; --edge: #d6dbe3; --ink: #181d26;
  --soft: #5c6574; --query: #dfe9fa; --accent: #2c5cc5; --right: #1a7f37; --wrong: #cf222e;
  --hole: #e4e7ec; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1c212a; --edge: #343b48;
  --ink: #e8ebf0; --soft: #a2abba; --query: #1d2c4d; --accent: #8db0ff; --right: #3fb950;
  --wrong: #ff7b72; --hole: #2a303b; } }
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(1rem, 3vw, 2.5rem); background: var(--page); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
main { max-width: 110rem; margin: auto; }
h1 { margin: 0 0 .4rem; font-size: clamp(1.4rem, 3vw, 2rem); line-height: 1.2; }
.lead { margin: 0 0 2rem; max-width: 75ch; color: var(--soft); white-space: pre-line; }
article { display: grid; grid-template-columns: 13rem 1fr; gap: 1.5rem; align-items: start;
  padding: 1.5rem 0; border-top: 1px solid var(--edge); }
h2 { margin: 0 0 .5rem; font-size: .8rem; letter-spacing: .06em; text-transform: uppercase;
  color: var(--soft); }
.query h2 { color: var(--accent); }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem;
  margin: 0; padding: 0; list-style: none; }
li { display: flex; }
figure { flex: 1; min-width: 0; margin: 0; padding: .7rem; background: var(--card);
  border: 1px solid var(--edge); border-radius: .6rem; }
.query figure { background: var(--query); border-color: var(--accent); }
figure.right { border-color: var(--right); box-shadow: inset 0 0 0 3px var(--right); }
figure.wrong { border-color: var(--wrong); box-shadow: inset 0 0 0 3px var(--wrong); }
img, .hole { display: block; width: 100%; aspect-ratio: 5 / 4; object-fit: contain; }
.hole { display: grid; place-items: center; background: var(--hole); color: var(--soft);
  font-size: .85rem; }
figcaption { margin-top: .6rem; font-size: .85rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
figcaption span { display: block; overflow-wrap: anywhere; }
figcaption .name { color: var(--ink); font-weight: 600; }
.right .mark { color: var(--right); } .wrong .mark { color: var(--wrong); }
.mark { font-weight: 600; }
.nothing { margin: 0; color: var(--soft); }
@media (max-width: 40rem) { article { grid-template-columns: 1fr; }
  .query figure { max-width: 16rem; }
  ol { grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .7rem; } }
@media print { article { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NAME_LENGTH = 80


def write_html(rows: Sequence[Row], path: Path, *, title: str, lead: str = "") -> None:
    """Write a page of all rows; its images are part of it.

    ``lead`` is a paragraph below the title; its line breaks are kept. The file is replaced in one
    go; its folder must exist.
    """
    paragraph = "\n".join(map(_escaped, lead.splitlines()))
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{_escaped(title)}</h1>\n<p class="lead">{paragraph}</p>\n'
        f"{''.join(_article(row) for row in rows)}</main>\n</body>\n</html>\n"
    )
    with atomic_writer(path) as file:
        file.write(page.encode())


def _article(row: Row) -> str:
    first, second = map(_escaped, row.titles)
    hits = "".join(
        f"<li>{_figure(cell, f'hit {number}')}</li>\n" for number, cell in enumerate(row.hits, 1)
    )
    found = f"<ol>\n{hits}</ol>" if hits else '<p class="nothing">nothing found</p>'
    return (
        f'<article>\n<section class="query"><h2>{first}</h2>'
        f"{_figure(row.query, 'query')}</section>\n"
        f"<section><h2>{second}</h2>\n{found}\n</section>\n</article>\n"
    )


def _figure(cell: Cell, role: str) -> str:
    name = cell.caption[0] if cell.caption else ""
    alt = _escaped(f"{role}: {name}" if name else role)
    if cell.image is None:
        shown = f'<div class="hole" role="img" aria-label="{alt}">could not be read</div>'
    else:
        shown = f'<img alt="{alt}" src="data:image/webp;base64,{_webp(cell.image)}">'
    kind = mark = ""
    if cell.marked is not None:
        kind = ' class="right"' if cell.marked else ' class="wrong"'
        sign = "\u2713 right" if cell.marked else "\u2717 wrong"
        mark = f'<span class="mark">{sign}</span>'
    short = _escaped(shorten(name, NAME_LENGTH))
    lines = [f'<span class="name" title="{_escaped(name)}">{short}</span>'] if name else []
    lines += [f"<span>{_escaped(line)}</span>" for line in cell.caption[1:]]
    return f"<figure{kind}>{shown}<figcaption>{''.join(lines)}{mark}</figcaption></figure>"


def _webp(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return base64.b64encode(buffer.getvalue()).decode()


def _escaped(text: str) -> str:
    return html.escape(_shown(text))
