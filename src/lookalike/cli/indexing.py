"""``lookalike index``, also called ``update``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lookalike.cli.extras import extra_needed
from lookalike.cli.options import (
    NumberRange,
    encoding_options,
    encoding_settings,
    gallery_name,
    json_option,
)
from lookalike.cli.output import FOUND_NOTHING, number, print_json, progress_shown, say, visible
from lookalike.errors import GalleryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lookalike.gallery import Gallery, Progress, UpdateReport

__all__ = ["index", "tell_trouble"]


@click.command()
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="."
)
@click.option(
    "--gallery",
    metavar="DIR",
    type=gallery_name,
    help="Keep the gallery's files in this directory instead of FOLDER/.lookalike, for instance "
    "because FOLDER is read-only. Or the URI of a gallery in a cluster, valkey://HOST:PORT/NAME, "
    "to bring it up to date with its own folder.",
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Encode everything anew, for another model; until it is done, the old gallery serves.",
)
@click.option(
    "--from",
    "parts",
    metavar="DIR",
    help="Make the gallery from the parts that 'lookalike cluster embed' or 'cluster export' wrote "
    "to this folder or URI, without encoding anything; FOLDER is where the images are here.",
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=NumberRange(0),
    default=0.0,
    help="How long to wait if another process is writing.",
)
@encoding_options
@json_option
def index(
    folder: Path,
    gallery: Path | str | None,
    rebuild: bool,
    parts: str | None,
    wait: float,
    batch_size: int | None,
    threads: int | None,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
) -> None:
    """Index the images below FOLDER, or bring its gallery up to date.

    FOLDER is the current folder if it is left out. New and changed files are encoded, deleted ones
    dropped, moved ones recognised. Interrupt it at any moment and run it again: it goes on where it
    stopped.

    Not indexed: hidden files and folders (those whose name begins with a dot), files without the
    extension of an image, and contact sheets that lookalike has drawn. Links to folders, also
    outside FOLDER, are followed.
    """
    from lookalike.gallery import Gallery

    if parts is not None and rebuild:
        raise click.UsageError("--from makes a new gallery, --rebuild replaces one: give one only")
    settings = encoding_settings(batch_size, threads, max_pixels, model)
    served, named = None, gallery
    if isinstance(gallery, str):
        if parts is not None or rebuild:
            raise click.UsageError(
                "--from and --rebuild make galleries on disk; for one in a cluster there is: "
                "lookalike cluster load"
            )
        served = Gallery.open(gallery, **settings)
        folder = _own_folder(served, folder)
        gallery = None
    say(f"indexing {visible(os.path.abspath(folder))}")
    with progress_shown() as show:
        if served is not None:
            report = served.update(show, wait=wait)
        elif parts is not None:
            report = _from_parts(parts, folder, gallery, model, wait, show)
        elif rebuild:
            _, report = Gallery.rebuild(
                folder, directory=gallery, progress=show, wait=wait, **settings
            )
        else:
            opened = Gallery.open(folder, directory=gallery, **settings)
            report = opened.update(show, wait=wait)
    tell_trouble(report, named)
    counts = {
        "images": report.images,
        "added": report.added,
        "changed": report.changed,
        "moved": report.moved,
        "dropped": report.dropped,
        "skipped": report.skipped,
        "removed": report.removed,
    }
    if as_json:
        print_json({**counts, "reused": report.reused, "seconds": round(report.seconds, 3)})
    else:
        words = {**dict.fromkeys(counts, ""), "removed": " by you"}
        changes = [f"{n} {what}{words[what]}" for what, n in counts.items() if n]
        click.echo(
            f"{number(report.images, 'image')} ({', '.join(changes[1:]) or 'no change'}) "
            f"in {report.seconds:.1f} s"
        )
    if report.skipped or report.unlisted:
        raise click.exceptions.Exit(FOUND_NOTHING)


def _own_folder(served: Gallery, given: Path) -> Path:
    """The folder of a gallery in a cluster, which FOLDER need not repeat."""
    source = click.get_current_context().get_parameter_source("folder")
    if source is ParameterSource.COMMANDLINE and given.resolve() != served.root.resolve():
        raise GalleryError(
            f"that gallery is of {visible(os.fspath(served.root))}, not of "
            f"{visible(os.fspath(given.absolute()))}; leave FOLDER out"
        )
    return served.root


def _from_parts(
    parts: str,
    folder: Path,
    gallery: Path | None,
    model: Path | None,
    wait: float,
    show: Callable[[Progress], None],
) -> UpdateReport:
    with extra_needed("cluster"):
        from lookalike.cluster.embed.importing import import_gallery
        from lookalike.cluster.job.parts import Parts
    return import_gallery(
        Parts.open(parts), folder, directory=gallery, model=model, wait=wait, progress=show
    )


def tell_trouble(report: UpdateReport, gallery: Path | str | None = None) -> None:
    """Folders and files that gave no image, to stderr. ``gallery``: as the user named it."""
    option = "" if gallery is None else f" --gallery {shlex.quote(visible(os.fspath(gallery)))}"
    for folder, why in report.unlisted:
        name = visible(os.fsdecode(folder)) or "the folder"
        say(f"cannot list {name}: {why}; what was indexed of it is kept")
    for row in report.newly_skipped:
        say(f"skipped {visible(os.fsdecode(row.path))}: {row.skipped}: {row.detail}; {row.remedy}")
    if report.skipped:
        are = "is" if report.skipped == 1 else "are"
        say(
            f"{number(report.skipped, 'file')} {are} skipped; list them with: "
            f"lookalike info --skipped{option}; what need not be mended, lookalike remove{option} "
            f"dismisses"
        )
