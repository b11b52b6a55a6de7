"""``lookalike cluster start``, ``status``, ``stop``, ``replicas``, ``switch`` and ``export``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import find_folder, gallery_name, json_option
from lookalike.cli.output import FOUND_NOTHING, number, print_json, say, visible
from lookalike.errors import GalleryError, extra_needed

if TYPE_CHECKING:
    from lookalike.cluster.deployment import Deployment

address_option = click.option(
    "--address",
    metavar="HOST:PORT",
    help="Of the head of a Ray cluster of which this machine is a node.  [default: RAY_ADDRESS, or "
    "the cluster that was started on this machine]",
)
deadline_option = click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=3600.0,
    help="How long to wait for the shards to be built.",
)


@contextmanager
def _shown() -> Iterator[Callable[[int, int], None]]:
    """A line whenever more actors are ready."""
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        if done != last:
            last = done
            say(f"{done} of {number(total, 'actor')} ready")

    yield show


@click.command()
@click.argument("parts", metavar="DIR")
@click.option("--name", required=True, help="Of the gallery: ray://NAME is its address.")
@click.option("--shards", type=click.IntRange(1), default=1, help="How many.")
@click.option("--replicas", type=click.IntRange(1), default=1, help="Copies of each.")
@click.option(
    "--cpus",
    type=click.FloatRange(0),
    default=1.0,
    help="That each actor reserves; a part of one is possible.",
)
@click.option(
    "--memory-mb", metavar="MB", type=click.IntRange(0), default=0, help="That each reserves."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    help="Searches that an actor runs at once.",
)
@click.option(
    "--cache",
    metavar="FOLDER",
    default="",
    show_default="LOOKALIKE_CACHE there, or ~/.cache/lookalike",
    help="On each node, for the shards' files.",
)
@address_option
@deadline_option
@json_option
def start(
    parts: str,
    name: str,
    shards: int,
    replicas: int,
    cpus: float,
    memory_mb: int,
    threads: int,
    cache: str,
    address: str | None,
    deadline: float,
    as_json: bool,
) -> None:
    """Serve the parts in DIR from Ray, for 'lookalike search --gallery ray://NAME'.

    DIR is what 'cluster embed' or 'cluster export' wrote; all nodes reach it under this path. Given
    again, the command starts what is missing. For another model or number of shards, start it under
    another name, then 'cluster switch'.
    """
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    with _shown() as show:
        layout = deployment.Layout(
            shards=shards,
            replicas=replicas,
            cpus=cpus,
            memory=memory_mb << 20,
            threads=threads,
            cache=cache,
        )
        made = deployment.start(
            parts, name, layout, address=address, deadline=deadline, progress=show
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


@click.command()
@click.argument("name", required=False)
@address_option
@json_option
def status(name: str | None, address: str | None, as_json: bool) -> None:
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
        raise click.exceptions.Exit(FOUND_NOTHING)


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


@click.command()
@click.argument("name")
@click.option(
    "--keep-cache", is_flag=True, help="Leave these files, for another start without building."
)
@address_option
def stop(name: str, keep_cache: bool, address: str | None) -> None:
    """End the actors of NAME, and delete the files that the nodes have made of DIR. DIR is kept."""
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    made = deployment.stop(name, address, keep_cache=keep_cache)
    click.echo(f"stopped ray://{name}; its parts are in {visible(made.where)}")


@click.command()
@click.argument("name")
@click.argument("count", metavar="R", type=click.IntRange(1))
@address_option
@deadline_option
@json_option
def replicas(name: str, count: int, address: str | None, deadline: float, as_json: bool) -> None:
    """Serve each shard of NAME by R actors. Searches go on meanwhile."""
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    with _shown() as show:
        made = deployment.replicas(name, count, address, deadline, show)
    _print(name, made, as_json)


@click.command()
@click.argument("name")
@click.argument("other")
@address_option
@json_option
def switch(name: str, other: str, address: str | None, as_json: bool) -> None:
    """Exchange two galleries' names: ray://NAME is what OTHER was, and the other way round.

    Searches go on meanwhile; the same command undoes it. Then end the old one: cluster stop OTHER.
    """
    with extra_needed("cluster"):
        from lookalike.cluster import deployment
    made = deployment.switch(name, other, address)
    _print(name, made, as_json)


@click.command()
@click.argument("gallery", type=gallery_name)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="An empty or new folder, or the URI of one (s3://...), for the parts.",
)
@json_option
def export(gallery: Path | str, out: str, as_json: bool) -> None:
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


COMMANDS = (start, status, stop, replicas, switch, export)
