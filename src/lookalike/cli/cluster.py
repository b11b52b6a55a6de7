"""``lookalike cluster``: galleries beyond one machine."""

from __future__ import annotations

import os
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cli.options import json_option, max_pixels_option, model_option
from lookalike.cli.output import (
    FOUND_NOTHING,
    number,
    print_json,
    say,
    visible,
)
from lookalike.cli.progress import progress_shown
from lookalike.cli.shards import COMMANDS
from lookalike.errors import extra_needed

if TYPE_CHECKING:
    from lookalike.cluster.chunk import ChunkReport
    from lookalike.cluster.parts import Parts

SKIPPED_SHOWN = 20


@click.group()
def cluster() -> None:
    """Galleries beyond one machine: embed on many, search where the images' shards lie."""


@cluster.command()
@click.argument("source")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="Folder, or URI of one that all machines reach (s3://...), for the parts: Parquet files "
    "with embeddings.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Of the head of a Ray cluster of which this machine is a node; the others must have "
    "SOURCE, DIR and FILE under the same paths.  [default: work in this process]",
)
@click.option(
    "--deadline", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Stop then."
)
@click.option(
    "--chunk-images", metavar="N", type=click.IntRange(1), help="Images per task.  [default: 512]"
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1),
    help="Of the model; with --address, CPUs that a task reserves.  [default: all cores; with "
    "--address, 1]",
)
@click.option(
    "--gpus-per-task",
    metavar="X",
    type=click.FloatRange(0),
    default=0.0,
    help="GPUs, or a part of one, that a task on Ray reserves.",
)
@max_pixels_option
@model_option
@json_option
def embed(
    source: str,
    out: str,
    address: str | None,
    deadline: float | None,
    chunk_images: int | None,
    threads: int | None,
    gpus_per_task: float,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
) -> None:
    """Embed the images of SOURCE, in chunks, into the folder DIR.

    SOURCE is a folder, a text file with the path of an image on each line, or a Parquet file, or
    folder of them, with a column of paths or bytes. The list of images is made once. Interrupt the
    command at any moment, or lose machines while it runs, and give it again: only chunks without a
    whole part are done.
    """
    if gpus_per_task and address is None:
        raise click.UsageError("--gpus-per-task needs --address: it is for tasks on Ray")
    with extra_needed("cluster"):
        from lookalike.cluster.chunk import EmbedSettings
        from lookalike.cluster.embed import embed_all, prepare
    began = time.monotonic()
    file = None if model is None else os.path.abspath(model)
    parts = prepare(source, out, model=file, chunk_images=chunk_images)
    chunks = parts.job.chunks
    say(f"{number(parts.job.images, 'image')} in {number(chunks, 'chunk')}, {_left(parts)}")
    # Ray prints pages from its logs to stdout when a node dies.
    with progress_shown() as show, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        reports = embed_all(
            parts,
            address,
            EmbedSettings(file, threads, max_pixels),
            gpus_per_task=gpus_per_task,
            deadline=deadline,
            progress=show,
        )
    _report_embedded(parts, reports, time.monotonic() - began, as_json)


def _left(parts: Parts) -> str:
    missing = len(parts.missing())
    return f"{missing} of them to do" if missing else "all of them done"


def _report_embedded(
    parts: Parts, reports: list[ChunkReport], seconds: float, as_json: bool
) -> None:
    images = sum(report.images for report in reports)
    skipped = sum(report.skipped for report in reports)
    _report_skipped(parts, reports, skipped)
    if as_json:
        counts = {"chunks": len(reports), "images": images, "skipped": skipped}
        print_json({**counts, "seconds": round(seconds, 3), "out": parts.where})
    else:
        skips = f", {skipped:,} skipped" if skipped else ""
        click.echo(
            f"{number(images, 'image')} embedded in {number(len(reports), 'chunk')}{skips}, in "
            f"{seconds:.1f} s; {visible(parts.where)} is complete"
        )
    if len(reports) < parts.job.chunks:
        say("what earlier runs skipped is in the column skipped of their parts")
    if skipped:
        raise click.exceptions.Exit(FOUND_NOTHING)


def _report_skipped(parts: Parts, reports: list[ChunkReport], skipped: int) -> None:
    """The first files that were skipped and why, to stderr."""
    from lookalike.cluster.parts import part_name

    left = SKIPPED_SHOWN
    for report in sorted(reports, key=lambda report: report.number):
        if report.skipped and left:
            part = part_name(parts.job.first_id(report.number))
            for row in parts.read(part, vectors=False).skipped[:left]:
                left -= 1
                name = visible(os.fsdecode(row.path))
                say(f"skipped {name}: {row.skipped}: {row.detail}; {row.remedy}")
    if skipped > SKIPPED_SHOWN:
        say(f"and {skipped - SKIPPED_SHOWN:,} more, see the column skipped of the parts")


for _command in COMMANDS:
    cluster.add_command(_command)
EXAMPLES = {
    "embed": "Pictures/ --out parts/ --address head:6399",
    "start": "parts/ --name photos --shards 4 --replicas 2",
    "status": "photos",
    "stop": "photos",
    "replicas": "photos 3",
    "switch": "photos new",
    "export": "~/Pictures --out parts/",
}
for _name, _example in EXAMPLES.items():
    cluster.commands[_name].epilog = f"Example:  lookalike cluster {_name} {_example}"
