"""``lookalike cluster load``, ``export`` and ``drop``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from lookalike.cli.extras import extra_needed
from lookalike.cli.options import find_gallery, gallery_name, json_option
from lookalike.cli.output import number, print_json, progress_shown, say, visible
from lookalike.errors import GalleryError

if TYPE_CHECKING:
    from lookalike.cluster.uri import ClusterURI
    from lookalike.cluster.wire.connection import Connection

__all__ = ["drop", "export", "load"]


@contextmanager
def _connected(uri: str) -> Iterator[tuple[ClusterURI, Connection]]:
    with extra_needed("cluster"):
        from lookalike.cluster.uri import ClusterURI
        from lookalike.cluster.wire.connection import Connection
    parsed = ClusterURI.parse(uri)
    with closing(Connection.open(parsed)) as connection:
        yield parsed, connection


@click.command()
@click.argument("parts", metavar="DIR")
@click.option(
    "--uri", required=True, metavar="URI", help="Where to: valkey://HOST:PORT/NAME, of any server."
)
@click.option(
    "--layout",
    type=click.Choice(["inline", "packed"]),
    default="inline",
    show_default=True,
    help="inline: each bucket holds its codes, which is fast; packed: codes are kept once, which "
    "takes less memory.",
)
@click.option(
    "--vectors",
    type=click.Choice(["float16", "none"]),
    default="float16",
    show_default=True,
    help="none: codes only, which saves memory; cosines are then estimates.",
)
@json_option
def load(
    parts: str,
    uri: str,
    layout: Literal["inline", "packed"],
    vectors: Literal["float16", "none"],
    as_json: bool,
) -> None:
    """Load the parts in DIR into a Valkey Cluster, for 'lookalike search --gallery URI'.

    DIR is what 'cluster embed' or 'cluster export' wrote. What the servers hold is checked before
    anybody searches it; a collection of that name serves until then, and is deleted afterwards.
    Interrupted, the command goes on where it stopped.
    """
    with extra_needed("cluster"):
        from lookalike.cluster.collection.loading import load as run
        from lookalike.cluster.job.parts import Parts
    with _connected(uri) as (parsed, connection):
        opened = Parts.open(parts)
        with progress_shown() as show:
            report = run(
                opened, connection, parsed.name, layout=layout, vectors=vectors, progress=show
            )
    if as_json:
        print_json({"gallery": str(parsed), **vars(report), "seconds": round(report.seconds, 3)})
        return
    before = f" ({report.resumed} of them by an earlier run)" if report.resumed else ""
    skipped = f", {number(report.skipped, 'file')} skipped" if report.skipped else ""
    click.echo(
        f"{number(report.images, 'image')}{skipped} of {number(report.parts, 'part')}{before} in "
        f"{report.seconds:.1f} s; {parsed} is generation {report.generation}"
    )


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
    """Write the gallery on disk GALLERY as parts, for 'cluster load'. Nothing is encoded.

    GALLERY is a folder that was indexed, or the directory given to 'index --gallery'. The parts
    have its vectors, hash functions and settings.
    """
    with extra_needed("cluster"):
        from lookalike.cluster.embed.exporting import export_gallery
    if isinstance(gallery, str):
        raise GalleryError(
            "a gallery in a cluster was loaded from parts, which 'lookalike info' names; copy these"
        )
    opened = find_gallery(gallery)
    parts = export_gallery(opened, out)
    count, files = len(parts.names()), len(opened)
    if as_json:
        print_json({"images": files, "parts": count, "out": parts.where})
        return
    click.echo(f"{number(files, 'image')} in {number(count, 'part')} in {visible(parts.where)}")
    say(f"load them with: lookalike cluster load {visible(parts.where)} --uri URI")


@click.command()
@click.argument("uri")
def drop(uri: str) -> None:
    """Delete the collection URI from its cluster. The parts that it was loaded from are kept."""
    with extra_needed("cluster"):
        from lookalike.cluster.collection.loading import drop as run
    with _connected(uri) as (parsed, connection):
        run(connection, parsed.name)
    click.echo(f"dropped {parsed}")
