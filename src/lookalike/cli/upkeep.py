"""``lookalike info``, ``verify`` and ``remove``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cli.indexing import tell_trouble
from lookalike.cli.options import find_folder, find_gallery, gallery_option, json_option
from lookalike.cli.output import FOUND_NOTHING, print_json, progress_shown, say, visible

if TYPE_CHECKING:
    from lookalike.gallery import Gallery, GalleryInfo

__all__ = ["info", "remove", "verify"]


@click.command()
@gallery_option
@click.option("--skipped", is_flag=True, help="List the skipped files with reason and remedy.")
@json_option
def info(gallery: Path | None, skipped: bool, as_json: bool) -> None:
    """Tell what a gallery holds and what made it."""
    opened = find_gallery(gallery)
    if skipped:
        _list_skipped(opened, as_json)
        return
    facts = opened.info()
    if as_json:
        print_json(
            {
                "folder": os.fspath(facts.root),
                "gallery": os.fspath(facts.directory),
                "images": facts.images,
                "skipped": facts.skipped,
                "disk_bytes": facts.disk_bytes,
                "model": facts.model.as_dict(),
                "lsh": facts.lsh.as_dict(),
                "segments": facts.segments,
                "pairs": None if facts.pairs is None else facts.pairs.as_dict(),
            }
        )
        return
    for name, value in _in_words(facts).items():
        click.echo(f"{name:13} {value}")


def _list_skipped(opened: Gallery, as_json: bool) -> None:
    rows = opened.skipped()
    if as_json:
        print_json(
            [
                {
                    "path": os.fsdecode(row.path),
                    "reason": row.skipped,
                    "detail": row.detail,
                    "remedy": row.remedy,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        name = visible(os.fsdecode(row.path))
        click.echo(f"{name}: {row.skipped}: {row.detail}; {row.remedy}")


def _in_words(facts: GalleryInfo) -> dict[str, str]:
    model, lsh = facts.model, facts.lsh
    lines = {
        "folder": visible(os.fspath(facts.root)),
        "gallery": f"{visible(os.fspath(facts.directory))} ({facts.disk_bytes / 1e6:.1f} MB)",
        "images": f"{facts.images} indexed, {facts.skipped} skipped",
        "model": f"{model.name} {model.version}, {model.input_size} x {model.input_size} pixels -> "
        f"{model.dim} numbers, sha256 {model.sha256[:12]}",
        "index": f"{lsh.code_bits} bits ({lsh.codes}), {lsh.tables} tables ({lsh.keys}), seed "
        f"{lsh.seed}, {facts.segments} segments, vectors {lsh.vectors}",
    }
    if facts.pairs is not None:
        median = dict(zip(facts.pairs.levels, facts.pairs.cosines, strict=True)).get(0.5)
        if median is not None:
            lines["random pairs"] = f"median cosine {median:.3f}"
    return lines


@click.command()
@gallery_option
@click.option("--contents", is_flag=True, help="Also read every image and compare its content.")
@click.option("--repair", is_flag=True, help="Rebuild what can be rebuilt, then update.")
@json_option
def verify(gallery: Path | None, contents: bool, repair: bool, as_json: bool) -> None:
    """Look for damage in the gallery's files."""
    from lookalike.gallery import Gallery

    folder = find_folder(gallery)
    result: dict[str, object] = {}
    if repair:
        report = Gallery.repair(folder)
        opened = Gallery.open(folder, create=False)
        with progress_shown() as show:
            updated = opened.update(show)
        tell_trouble(updated)
        encoded = updated.added + updated.changed - updated.reused
        done = [*report.done, f"{encoded} images were encoded"]
        result = {"done": done, "images": updated.images}
        for line in [] if as_json else done:
            click.echo(visible(line))
    problems = Gallery.find_damage(folder)
    if contents and not problems:
        problems = Gallery.open(folder, create=False).verify(contents=True)
    if as_json:
        print_json({**result, "problems": problems})
    else:
        for problem in problems:
            click.echo(visible(problem))
    if not problems:
        say("the gallery is whole")
        return
    if not repair and not contents:
        say(f"repair it with: lookalike verify --repair --gallery {visible(os.fspath(folder))}")
    raise click.exceptions.Exit(FOUND_NOTHING)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@gallery_option
@click.option("--undo", is_flag=True, help="Let the next update index them again.")
def remove(paths: tuple[Path, ...], gallery: Path | None, undo: bool) -> None:
    """Take images out of the gallery and keep them out. Files are never touched."""
    opened = find_gallery(gallery, paths[0])
    count = opened.restore(paths) if undo else opened.remove(paths)
    click.echo(f"{count} images {'may come back at the next update' if undo else 'removed'}")
