"""``lookalike search``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import (
    NumberRange,
    encoding_options,
    filter_option,
    find_gallery,
    gallery_option,
    json_option,
    warn_if_unfinished,
)
from lookalike.cli.output import (
    FOUND_NOTHING,
    print_json,
    require_html,
    say,
    shown,
    visible,
)
from lookalike.errors import LookalikeError

if TYPE_CHECKING:
    from lookalike.gallery import Hit
    from lookalike.gallery.protocol import ImageGallery

__all__ = ["search"]


@click.command()
@click.argument("query", type=click.Path(allow_dash=True))
@gallery_option
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Images to find.")
@click.option(
    "--threshold",
    metavar="COSINE",
    type=NumberRange(-1, 1),
    help="Smallest cosine of a hit; 1: equal images alone.",
)
@filter_option
@click.option("--exclude-self", is_flag=True, help="Leave out the query and its exact copies.")
@click.option("--exact", is_flag=True, help="Compare with every image instead of hashing.")
@click.option(
    "--sheet",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the query and its hits as a contact sheet, one page that any browser shows.",
)
@encoding_options
@json_option
def search(
    query: str,
    gallery: Path | str | None,
    k: int,
    threshold: float | None,
    pattern: str | None,
    exclude_self: bool,
    exact: bool,
    sheet: Path | None,
    encoding: dict[str, Any],
    as_json: bool,
) -> None:
    """Find the images that look most like QUERY.

    QUERY is an image file, the path of an indexed image, or - for an image on standard input. A
    relative path is looked for in the current folder first, then in the gallery's.

    Each line: cosine, bits of the code that differ, share of random pairs less alike, path. Paths
    below the current folder are printed relative to it, others in full; --filter and the "path" of
    --json are relative to the gallery's folder.
    """
    from lookalike.images import SkippedImageError

    if sheet is not None:
        require_html(sheet)
    from_stdin = query == "-"
    if os.path.isdir(query):
        raise LookalikeError(f"{visible(query)} is a folder; QUERY is one image")
    source = sys.stdin.buffer.read() if from_stdin else query
    if not source:
        raise LookalikeError(
            "standard input: empty: no image came; pipe one in, for instance: "
            "lookalike search - < query.jpg"
        )
    opened = find_gallery(gallery, None if from_stdin else Path(query), **encoding)
    warn_if_unfinished(opened)
    try:
        hits = opened.search(
            source,
            k,
            threshold=threshold,
            filter=pattern,
            exclude_self=exclude_self,
            exact=exact or None,
        )
    except SkippedImageError as error:
        name = "standard input" if from_stdin else visible(query)
        raise LookalikeError(f"{name}: {error}") from error
    if as_json:
        print_json([hit.as_dict() for hit in hits])
    else:
        for hit in hits:
            rarity = "-" if hit.rarity is None else f"{100 * hit.rarity:.3f} %"
            bits = f"{hit.bits}/{hit.code_bits}"
            click.echo(f"{hit.cosine:.3f}  {bits:>7}  {rarity:>8}  {shown(hit.file)}")
    if sheet is not None:
        _write_sheet(opened, source, hits, sheet)
    if not hits:
        say("nothing found")
        raise click.exceptions.Exit(FOUND_NOTHING)


def _write_sheet(opened: ImageGallery, source: str | bytes, hits: list[Hit], sheet: Path) -> None:
    import io

    from lookalike.sheet import search_sheet, thumbnail, write_html

    if isinstance(source, bytes):
        image, name = thumbnail(io.BytesIO(source)), "standard input"
    else:
        path = Path(source) if os.path.exists(source) else opened.root / source
        image, name = thumbnail(path), path.name
    row = search_sheet(image, hits, query_caption=("query", name))
    write_html([row], sheet, title=f"What looks like {name}")
    say(f"wrote {shown(sheet.absolute())}")
