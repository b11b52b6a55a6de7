"""``lookalike serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cli.options import (
    GALLERY,
    argument,
    command,
    find_gallery,
    gallery_name,
    option,
    warn_if_unfinished,
)
from lookalike.cli.output import number, say, shown
from lookalike.errors import extra_needed

if TYPE_CHECKING:
    from lookalike.gallery.protocol import ImageGallery


@command()
def serve(
    folder: Path | str | None = argument(metavar="[GALLERY]", required=False, type=gallery_name),
    gallery: Path | str | None = GALLERY,
    host: str = option("Address to listen on.", default="127.0.0.1"),
    port: int = option("Port; 0: any free one.", type=click.IntRange(0, 65535), default=8765),
    token: str | None = option(
        "What clients must know; needed for an address that others can reach. Better kept in the "
        "environment, as LOOKALIKE_TOKEN, than in the list of processes.",
        metavar="T",
        envvar="LOOKALIKE_TOKEN",
    ),
    proxies: tuple[str, ...] = option(
        "Name of a host that passes requests on to this server, as browsers call it; may be "
        "repeated.",
        "--proxy",
        metavar="NAME",
    ),
    open_page: bool = option("Open the page in the browser.", "--open"),
) -> None:
    """Serve GALLERY as a web page and an HTTP API, until Ctrl-C.

    GALLERY may be given with or without --gallery. Of a folder that was never indexed an empty
    gallery is made, and the page offers to index it. Only this machine can reach the page, unless
    --host says otherwise. With --proxy, or for others, it moves no files.
    """
    with extra_needed("web"):
        from lookalike.web.app import create_app
        from lookalike.web.server import address_of, listen
        from lookalike.web.server import serve as run
        from lookalike.web.settings import ServeSettings
    try:
        settings = ServeSettings(host=host, port=port, token=token, allowed_hosts=proxies)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    opened = _opened(folder or gallery)
    warn_if_unfinished(opened, folder or gallery)
    app = create_app(opened, settings)
    with listen(settings) as listener:
        address = address_of(listener)

        def ready() -> None:
            say(f"{number(len(opened), 'image')}: {address} (Ctrl-C stops)")
            if open_page:
                import threading
                import webbrowser

                threading.Thread(target=webbrowser.open, args=[address]).start()

        run(app, settings, listener, ready)
    say("stopped")


def _opened(named: Path | str | None) -> ImageGallery:
    """The gallery, made if it names a folder that has none."""
    from lookalike.gallery import Gallery
    from lookalike.gallery.places import has_gallery, places

    if isinstance(named, Path) and named.is_dir() and not has_gallery(places(named, None)[1]):
        opened = Gallery.open(named)
        say(f"{shown(named)} was not indexed yet; the page offers to do it")
        return opened
    return find_gallery(named)
