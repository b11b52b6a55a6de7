"""``lookalike data``."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cli.output import FOUND_NOTHING, say, shown, visible

__all__ = ["data"]


@click.command()
@click.argument("name", metavar="corel1k|corel5k", type=click.Choice(["corel1k", "corel5k"]))
@click.option(
    "--from",
    "folder",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Your copy: a folder for each class, or one of all files in the original numbering.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A new folder to lay the images out in, as DIR/CLASS/IMAGE. Without it, only a check.",
)
def data(name: str, folder: Path, out: Path | None) -> None:
    """Check your copy of a dataset of the paper, and lay it out for evaluate, train and index.

    Nothing is downloaded, and the copy is not changed: images are linked, or copied where links
    cannot be. Interrupt it at any moment and run it again. Exit status 1: something is missing, or
    is not exactly what this project's numbers were made with. docs/datasets.md says where to get
    the images.
    """
    from lookalike.evaluation.datasets import DATASETS, check, lay_out

    dataset = DATASETS[name]
    copy = check(dataset, folder)
    remarks = copy.remarks()
    for remark in remarks:
        say(visible(remark))
    wanted = dataset.images()
    have = len(wanted) - len(copy.missing)
    lines = {
        "dataset": f"{name}, {len(dataset.classes)} classes",
        "images": f"{have:,} of {len(wanted):,}",
        "content": "verified: the exact files this project's numbers were made with"
        if copy.verified
        else f"of {len(dataset.classes)} classes, {len(copy.differing)} differ",
    }
    if copy.listed is not None:
        good = copy.listed.images - len(copy.listed.differing) - len(copy.listed.missing)
        lines["list"] = f"{good:,} of {copy.listed.images:,} as in {shown(copy.listed.file)}"
    if out is not None:
        made = lay_out(copy, out)
        lines["laid out"] = (
            f"{shown(out)}: {made.linked:,} linked, {made.copied:,} copied, "
            f"{made.kept:,} there already"
        )
    for key, value in lines.items():
        click.echo(f"{key:9} {value}")
    if remarks:
        raise click.exceptions.Exit(FOUND_NOTHING)
