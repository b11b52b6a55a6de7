"""``lookalike search`` and ``groups``."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import (
    COUNT,
    ENCODING,
    FILTER,
    GALLERY,
    HOW_TO_NAME,
    JSON,
    PAGE,
    NumberRange,
    argument,
    command,
    command_here,
    find_folder,
    find_gallery,
    option,
    warn_if_unfinished,
)
from lookalike.cli.output import (
    leave,
    number,
    print_json,
    say,
    shown,
    visible,
)
from lookalike.cli.preview import print_image, shows_images
from lookalike.errors import LookalikeError, NoWordsError

if TYPE_CHECKING:
    from lookalike.gallery import Hit
    from lookalike.gallery.protocol import ImageGallery
    from lookalike.gallery.query import Words


@command()
def search(
    queries: tuple[str, ...] = argument(
        metavar="QUERY...", nargs=-1, type=click.Path(allow_dash=True)
    ),
    words: tuple[str, ...] = option("What the images are to show, as well.", metavar="TEXT"),
    unlike: tuple[str, ...] = option(
        "Find what looks less like this image, or shows less of it; may be given several times.",
        "--not",
        metavar="IMAGE|TEXT",
        type=click.Path(allow_dash=True),
    ),
    gallery: Path | str | None = GALLERY,
    k: int = option("Images to find.", "-k", type=COUNT, default=10),
    threshold: float | None = option(
        "Smallest cosine of a hit; 1: equal images alone.",
        metavar="COSINE",
        type=NumberRange(-1, 1),
    ),
    pattern: str | None = FILTER,
    exclude_self: bool = option("Leave out the query and its exact copies."),
    exact: bool = option("Compare with every image instead of hashing."),
    expand: str = option(
        "Order hits also by what their own neighbours are; auto: where that was measured to find "
        "more with the gallery's model. Cosines are those of query and image all the same.",
        type=click.Choice(["on", "off", "auto"]),
        default="auto",
    ),
    sheet: Path | None = option(
        "Write the query and its hits as a contact sheet, one page that any browser shows.",
        type=PAGE,
        metavar="FILE.html",
    ),
    open_sheet: bool = option("Show the contact sheet in the browser.", "--open"),
    preview: bool = option("Show the hits in a terminal that can."),
    only_paths: bool = option("Print the paths of the hits alone.", "--paths"),
    null: bool = option("Print the paths alone, each ended by a NUL, for xargs -0.", "-0"),
    encoding: dict[str, Any] = ENCODING,
    as_json: bool = JSON,
) -> None:
    """Find the images that look most like QUERY, or show what its words say.

    QUERY is an image file, the path of an indexed image, or - for an image on standard input. A
    relative path is looked for in the current folder first, then in the gallery's. Of several,
    what looks like all of them is found: the mean of their directions is compared.

    What is not a file and has neither a slash nor the extension of an image is taken for words, if
    the gallery's model knows words: see 'lookalike model list'.

    Each line: cosine, bits of the code that differ (not for words), share of random pairs less
    alike, path. Paths below the current folder are printed relative to it, others in full; --filter
    and the "path" of --json are relative to the gallery's folder.
    """
    from lookalike.gallery.hits import CHANCE_IN_WORDS, NO_FILE, UNRELATED_IN_WORDS
    from lookalike.gallery.query import Blend, Words
    from lookalike.images import SkippedImageError

    if not queries and not words:
        raise click.UsageError("give an image or words to search with")
    if as_json + (null or only_paths) + preview > 1:
        raise click.UsageError("give one of --json, --paths (or -0) and --preview")
    if preview and not shows_images():
        say("this terminal shows no images (kitty, iTerm and those with sixels do); try --open")
        preview = False
    names = [*queries, *unlike]
    for name in names:
        if "/" in name and os.path.isdir(name):
            raise LookalikeError(f"{visible(name)} is a folder; QUERY is one image; {HOW_TO_NAME}")
    content = b""
    if "-" in names:
        if names.count("-") > 1:
            raise click.UsageError("standard input holds one image: give - only once")
        content = sys.stdin.buffer.read()
        if not content:
            raise LookalikeError(
                "standard input: empty: no image came; pipe one in, for instance: "
                "lookalike search - < query.jpg"
            )
    sources = [
        content if name == "-" else name if _is_image(name) else Words(name) for name in names
    ]
    like, others = sources[: len(queries)], sources[len(queries) :]
    like += [Words(text) for text in words]
    first = next((Path(source) for source in sources if isinstance(source, str)), None)
    settings = encoding["encoder_settings"]
    if settings.runtime == "auto":  # another takes longer to open than it saves on one image
        encoding = {**encoding, "encoder_settings": replace(settings, runtime="onnxruntime")}
    opened = find_gallery(gallery, first, **encoding)
    warn_if_unfinished(opened, gallery)
    try:
        hits = opened.search(
            like[0] if len(like) == 1 and not others else Blend(like, others),
            k,
            threshold=threshold,
            filter=pattern,
            exclude_self=exclude_self,
            exact=exact or None,
            expand={"on": True, "off": False}.get(expand),
        )
    except SkippedImageError as error:
        which = "standard input" if names[0] == "-" else visible(names[0])
        raise LookalikeError(f"{which}: {error}" if len(names) == 1 else str(error)) from error
    except NoWordsError as error:
        given = next((x.text for x in sources if isinstance(x, Words)), None)
        if given is None:
            raise
        what = f"there is no file {visible(given)}"
        if os.path.isdir(given):
            what = f"{visible(given)} is a folder; QUERY is one image; {HOW_TO_NAME}"
        raise LookalikeError(f"{what}; as words: {error}") from error
    except ValueError as error:
        raise LookalikeError(str(error)) from error
    has_words = any(isinstance(source, Words) for source in [*like, *others])
    if as_json:
        print_json([hit.as_dict() for hit in hits])
    elif null or only_paths:
        _print_paths(hits, null=null)
    else:
        _print_hits(hits, has_words=has_words, preview=preview)
    if open_sheet and sheet is None:
        sheet = Path(tempfile.mkdtemp(prefix="lookalike-")) / "sheet.html"
    if sheet is not None:
        _write_sheet(opened, like[0], len(like) + len(others) - 1, hits, sheet)
    if open_sheet and sheet is not None:
        webbrowser.open(sheet.absolute().as_uri())
    if gone := sum(not os.path.exists(hit.file) for hit in hits) * os.path.isdir(opened.root):
        say(
            f"{number(gone, 'file')} of these {'is' if gone == 1 else 'are'} not where it was; "
            f"bring the gallery up to date with: {command_here('update', opened, gallery)}"
        )
    if hits.is_chance and (has_words or not unlike):
        say(UNRELATED_IN_WORDS if has_words else CHANCE_IN_WORDS)
    if not hits:
        unmatched = pattern is not None and not opened.reader().now().page(pattern, 0, 0)[1]
        say(NO_FILE if unmatched else "nothing found")
        leave()


def _print_paths(hits: list[Hit], *, null: bool) -> None:
    for hit in hits:
        # As they are: programs read them, to whom an escape is another name.
        click.echo(os.fspath(hit.file) if null else shown(hit.file), nl=not null)
        if null:
            click.echo("\0", nl=False)


def _print_hits(hits: list[Hit], *, has_words: bool, preview: bool) -> None:
    """Words have no code whose bits could be compared."""
    for hit in hits:
        rarity = "-" if hit.rarity is None else f"{100 * hit.rarity:.3f} %"
        bits = "" if has_words else f"  {f'{hit.bits}/{hit.code_bits}':>7}"
        click.echo(f"{hit.cosine:.3f}{bits}  {rarity:>8}  {shown(hit.file)}")
        if preview:
            print_image(hit.file)


def _is_image(name: str) -> bool:
    """Whether an argument stands for an image rather than for words."""
    if name == "-" or "/" in name or (os.path.lexists(name) and not os.path.isdir(name)):
        return True
    from lookalike.images import looks_like_image

    return looks_like_image(name)


def _write_sheet(
    opened: ImageGallery, source: str | bytes | Words, others: int, hits: list[Hit], sheet: Path
) -> None:
    """``source``: the first of what was searched with, besides ``others`` more."""
    import io

    from PIL import Image

    from lookalike.gallery.query import Words
    from lookalike.sheet import search_sheet, thumbnail, write_html

    image: Image.Image | None
    if isinstance(source, Words):
        image, name = Image.new("RGB", (160, 120), "white"), source.text
    elif isinstance(source, bytes):
        image, name = thumbnail(io.BytesIO(source)), "standard input"
    else:
        path = Path(source) if os.path.exists(source) else opened.root / source
        image, name = thumbnail(path), path.name
    title = f"What looks like {name}" + (f" and {others} more" if others else "")
    caption = ("query", name, f"and {others} more") if others else ("query", name)
    write_html([search_sheet(image, hits, query_caption=caption)], sheet, title=title)
    say(f"wrote {shown(sheet.absolute())}")


# ---- themes, and images that are alone -----------------------------------------------------------


@command()
def groups(
    gallery: Path | str | None = GALLERY,
    neighbours: int = option(
        "Nearest images of each that count: more make fewer and larger themes.",
        metavar="N",
        type=click.IntRange(1, 50),
        default=10,
    ),
    smallest: int = option("Images of a theme that is shown, at least.", type=COUNT, default=5),
    outliers: bool = option("List the images whose nearest are far, farthest first."),
    k: int | None = option(
        "At most so many themes, or outliers (20 unless given).", "-k", type=COUNT
    ),
    as_json: bool = JSON,
) -> None:
    """Group images by what they show; each theme is named by its most central image.

    Each line: images of the theme, path of its most central one; --json has all paths. Outliers:
    mean cosine to the nearest, path. A gallery in shards has no themes.
    """
    from lookalike.gallery import Gallery

    opened = Gallery.open(find_folder(gallery), create=False)
    warn_if_unfinished(opened, gallery)
    if outliers:
        alone = opened.outliers(k or 20, depth=neighbours)
        if as_json:
            print_json([{"path": o.path, "cosine": round(o.cosine, 6)} for o in alone])
        else:
            for outlier in alone:
                click.echo(f"{outlier.cosine:.3f}  {shown(opened.root / outlier.path)}")
        if not alone:
            leave("nothing found")
        return
    themes = opened.themes(depth=neighbours, smallest=smallest)[:k]
    if as_json:
        rounded = [[round(cosine, 6) for cosine in theme.cosines] for theme in themes]
        listed = zip(themes, rounded, strict=True)
        print_json([{**vars(theme), "images": len(theme), "cosines": c} for theme, c in listed])
    else:
        for theme in themes:
            click.echo(f"{len(theme):>7,}  {shown(opened.root / theme.centre)}")
    if not themes:
        leave(f"no theme has {number(smallest, 'image')}; show smaller ones with --smallest")
