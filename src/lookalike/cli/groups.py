"""``lookalike groups``."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cli.options import find_folder, gallery_option, json_option, warn_if_unfinished
from lookalike.cli.output import FOUND_NOTHING, number, print_json, say, shown


@click.command()
@gallery_option
@click.option(
    "--neighbours",
    metavar="N",
    type=click.IntRange(1, 50),
    default=10,
    help="Nearest images of each that count: more make fewer and larger themes.",
)
@click.option(
    "--smallest",
    metavar="N",
    type=click.IntRange(1),
    default=5,
    help="Images of a theme that is shown, at least.",
)
@click.option(
    "--outliers", is_flag=True, help="List the images whose nearest are far, farthest first."
)
@click.option(
    "-k", type=click.IntRange(1), help="At most so many themes, or outliers (20 unless given)."
)
@json_option
def groups(
    gallery: Path | str | None,
    neighbours: int,
    smallest: int,
    outliers: bool,
    k: int | None,
    as_json: bool,
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
            say("nothing found")
            raise click.exceptions.Exit(FOUND_NOTHING)
        return
    themes = opened.themes(depth=neighbours, smallest=smallest)[:k]
    if as_json:
        print_json(
            [
                {
                    "centre": theme.centre,
                    "images": len(theme),
                    "paths": theme.paths,
                    "cosines": [round(cosine, 6) for cosine in theme.cosines],
                }
                for theme in themes
            ]
        )
    else:
        for theme in themes:
            click.echo(f"{len(theme):>7,}  {shown(opened.root / theme.centre)}")
    if not themes:
        say(f"no theme has {number(smallest, 'image')}; show smaller ones with --smallest")
        raise click.exceptions.Exit(FOUND_NOTHING)
