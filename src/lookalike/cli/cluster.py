"""``lookalike cluster``: galleries beyond one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import (
    COUNT,
    JSON,
    MAX_PIXELS,
    MODEL,
    argument,
    command,
    find_folder,
    gallery_name,
    option,
)
from lookalike.cli.output import (
    leave,
    number,
    print_json,
    say,
    visible,
)
from lookalike.cli.progress import progress_shown
from lookalike.errors import GalleryError, extra_needed

if TYPE_CHECKING:
    from lookalike.cluster.chunk import ChunkReport
    from lookalike.cluster.deployment import Deployment
    from lookalike.cluster.parts import Parts


SKIPPED_SHOWN = 20


@click.group()
def cluster() -> None:
    """Galleries beyond one machine: embed on many, search where the images' shards lie."""


@command(cluster)
def embed(
    source: str = argument(),
    out: str = option(
        "Folder, or URI of one that all machines reach (s3://...), for the parts: Parquet files "
        "with embeddings.",
        required=True,
        metavar="DIR",
    ),
    address: str | None = option(
        "Of the head of a Ray cluster of which this machine is a node; the others must have "
        "SOURCE, DIR and FILE under the same paths.  [default: work in this process]",
        metavar="HOST:PORT",
    ),
    deadline: float | None = option(
        "Stop then.", metavar="SECONDS", type=click.FloatRange(0, min_open=True)
    ),
    chunk_images: int | None = option("Images per task.  [default: 512]", type=COUNT),
    threads: int | None = option(
        "Of the model; with --address, CPUs that a task reserves.  [default: all cores; with "
        "--address, 1]",
        type=COUNT,
    ),
    gpus_per_task: float = option(
        "GPUs, or a part of one, that a task on Ray reserves.",
        metavar="X",
        type=click.FloatRange(0),
        default=0.0,
    ),
    max_pixels: int = MAX_PIXELS,
    model: Path | None = MODEL,
    as_json: bool = JSON,
) -> None:
    """Embed the images of SOURCE, in chunks, into the folder DIR.

    SOURCE is a folder, a text file with the path of an image on each line, or a Parquet file, or
    folder of them, with a column of paths or bytes. The list of images is made once. Interrupt the
    command at any moment, or lose machines while it runs, and give it again: the parts that are
    there are read, and only chunks without a whole part are done.
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
    if damaged := parts.drop_damaged():
        say(f"{number(damaged, 'damaged part')} deleted, to be embedded again")
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
        leave()


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


# ---- serving -------------------------------------------------------------------------------------


ADDRESS = option(
    "Of the head of a Ray cluster of which this machine is a node.  [default: RAY_ADDRESS, or "
    "the cluster that was started on this machine]",
    metavar="HOST:PORT",
)
DEADLINE = option(
    "How long to wait for the shards to be built.",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=3600.0,
)


def _shown() -> Callable[[int, int], None]:
    """Prints a line whenever more actors are ready."""
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        if done != last:
            last = done
            say(f"{done} of {number(total, 'actor')} ready")

    return show


@command(cluster)
def start(
    parts: str = argument(metavar="DIR"),
    name: str = option("Of the gallery: ray://NAME is its address.", required=True),
    shards: int = option("How many.", type=COUNT, default=1),
    replicas: int = option("Copies of each.", type=COUNT, default=1),
    cpus: float = option(
        "That each actor reserves; a part of one is possible.",
        type=click.FloatRange(0),
        default=1.0,
    ),
    memory_mb: int = option("That each reserves.", metavar="MB", type=click.IntRange(0), default=0),
    threads: int = option("Searches that an actor runs at once.", type=COUNT, default=2),
    cache: str = option(
        "On each node, for the shards' files.",
        metavar="FOLDER",
        default="",
        show_default="LOOKALIKE_CACHE there, or ~/.cache/lookalike",
    ),
    address: str | None = ADDRESS,
    deadline: float = DEADLINE,
    as_json: bool = JSON,
) -> None:
    """Serve the parts in DIR from Ray, for 'lookalike search --gallery ray://NAME'.

    DIR is what 'cluster embed' or 'cluster export' wrote; all nodes reach it under this path. Given
    again, the command starts what is missing. For another model or number of shards, start it under
    another name, then 'cluster switch'.
    """
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    layout = deployment.Layout(
        shards=shards,
        replicas=replicas,
        cpus=cpus,
        memory=memory_mb << 20,
        threads=threads,
        cache=cache,
    )
    made = deployment.start(
        parts, name, layout, address=address, deadline=deadline, progress=_shown()
    )
    _print(name, made, as_json)


def _facts(name: str, made: Deployment) -> dict[str, Any]:
    gallery = {"gallery": f"ray://{name}", "shards": made.shards, "replicas": made.replicas}
    return {**gallery, "parts": made.where}


def _in_words(name: str, made: Deployment) -> str:
    shards, replicas = number(made.shards, "shard"), number(made.replicas, "replica")
    return f"ray://{name}: {shards} x {replicas} of {visible(made.where)}"


def _print(name: str, made: Deployment, as_json: bool) -> None:
    if as_json:
        print_json(_facts(name, made))
    else:
        click.echo(_in_words(name, made))


@command(cluster)
def status(
    name: str | None = argument(required=False),
    address: str | None = ADDRESS,
    as_json: bool = JSON,
) -> None:
    """List the shards of NAME: where each replica is, its images, memory, queries and lag.

    Without NAME: list the galleries that the cluster serves. The lag is the number of commits in
    DIR that a replica has not taken in. Exit status 1 if a replica does not answer or lags, or if
    there is no gallery.
    """
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    names = deployment.names(address) if name is None else [name]
    served = [(each, *deployment.status(each, address)) for each in names]
    if name is None:
        _list(served, as_json)
    else:
        ((_, made, found),) = served
        if as_json:
            print_json({**_facts(name, made), "actors": found})
        else:
            _print(name, made, False)
            for one in found:
                click.echo(_line(one))
    well = all(one["ready"] and not one["behind"] for _, _, found in served for one in found)
    if not (served and well):
        leave()


def _list(served: list[tuple[str, Deployment, list[dict[str, Any]]]], as_json: bool) -> None:
    """A line for each gallery, with its images as far as shards answer."""
    if not served and not as_json:
        say("no gallery is served; start one with: lookalike cluster start DIR --name NAME")
    listed = []
    for name, made, found in served:
        ready = [one for one in found if one["ready"]]
        held = {one["shard"]: one["images"] for one in ready}
        images = sum(held.values()) if len(held) == made.shards else None
        listed.append({**_facts(name, made), "images": images})
        if not as_json:
            waiting = "" if len(ready) == len(found) else f", {len(ready)} of {len(found)} ready"
            holds = "" if images is None else f", {number(images, 'image')}"
            click.echo(f"{_in_words(name, made)}{holds}{waiting}")
    if as_json:
        print_json(listed)


def _line(one: dict[str, Any]) -> str:
    where = f"shard {one['shard']} replica {one['replica']}"
    if not one["ready"]:
        parts = one.get("parts_read", (0, 0))
        doing = one["error"] or f"being built, {parts[0]} of {parts[1]} parts read"
        return f"{where}: {doing}"
    lag = f", {number(one['behind'], 'commit')} behind" if one["behind"] else ""
    return (
        f"{where}: {one['host']}, {number(one['images'], 'image')}, "
        f"{one['memory_bytes'] / 1e6:.0f} MB and {one['mapped_bytes'] / 1e6:.0f} MB mapped, "
        f"{one['queries_per_second']:.1f} queries/s{lag}"
    )


@command(cluster)
def stop(
    name: str = argument(),
    keep_cache: bool = option("Leave these files, for another start without building."),
    address: str | None = ADDRESS,
) -> None:
    """End the actors of NAME, and delete the files that the nodes have made of DIR. DIR is kept."""
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    made = deployment.stop(name, address, keep_cache=keep_cache)
    click.echo(f"stopped ray://{name}; its parts are in {visible(made.where)}")


@command(cluster)
def replicas(
    name: str = argument(),
    count: int = argument(type=COUNT, metavar="R"),
    address: str | None = ADDRESS,
    deadline: float = DEADLINE,
    as_json: bool = JSON,
) -> None:
    """Serve each shard of NAME by R actors. Searches go on meanwhile."""
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    made = deployment.replicas(name, count, address, deadline, _shown())
    _print(name, made, as_json)


@command(cluster)
def switch(
    name: str = argument(),
    other: str = argument(),
    address: str | None = ADDRESS,
    as_json: bool = JSON,
) -> None:
    """Exchange two galleries' names: ray://NAME is what OTHER was, and the other way round.

    Searches go on meanwhile; the same command undoes it. Then end the old one: cluster stop OTHER.
    """
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    made = deployment.switch(name, other, address)
    _print(name, made, as_json)


@command(cluster)
def export(
    gallery: Path | str = argument(type=gallery_name),
    out: str = option(
        "An empty or new folder, or the URI of one (s3://...), for the parts.",
        required=True,
        metavar="DIR",
    ),
    as_json: bool = JSON,
) -> None:
    """Write the gallery on disk GALLERY as parts, for 'cluster start'. Nothing is encoded.

    GALLERY is a folder that was indexed, or the directory given to 'index --gallery'.
    """
    from lookalike.gallery import Gallery

    with extra_needed("cluster"):
        from lookalike.cluster.convert import export_gallery
    if isinstance(gallery, str):
        raise GalleryError(
            "a gallery in shards is made of parts already, which 'lookalike info' names; copy these"
        )
    opened = Gallery.open(find_folder(gallery), create=False)
    parts = export_gallery(opened, out)
    count, files = len(parts.names()), len(opened)
    if as_json:
        print_json({"images": files, "parts": count, "out": parts.where})
        return
    click.echo(f"{number(files, 'image')} in {number(count, 'part')} in {visible(parts.where)}")
    say(f"serve them with: lookalike cluster start {visible(parts.where)} --name NAME")


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
