"""``lookalike watch``."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from lookalike.cli.index import report_problems
from lookalike.cli.options import encoding_options, find_folder, gallery_option
from lookalike.cli.output import number, say, visible
from lookalike.errors import GalleryLockedError, extra_needed

SETTLED_MS = 2000
"""So long nothing must change before an update: copying a folder is one change."""


@click.command()
@gallery_option
@encoding_options
def watch(gallery: Path | str | None, encoding: dict[str, Any]) -> None:
    """Keep a gallery up to date while its folder changes, until Ctrl-C.

    An update runs at the start and whenever files have come, gone or changed and then nothing has
    happened for two seconds. If another process is updating, it is waited for.
    """
    with extra_needed("watch"):
        from watchfiles import watch as changes_of

    from lookalike.gallery import Gallery
    from lookalike.gallery.ignore import IGNORE

    opened = Gallery.open(find_folder(gallery), create=False, **encoding)
    own = os.path.realpath(opened.directory)

    def concerns(_: object, path: str) -> bool:
        inside = Path(os.path.relpath(path, opened.root)).parts
        hidden = any(part.startswith(".") and part != IGNORE for part in inside)
        return not hidden and not Path(os.path.realpath(path)).is_relative_to(own)

    def update() -> None:
        try:
            report = opened.update(wait=60)
        except GalleryLockedError as error:
            say(f"{error}; trying again at the next change")
            return
        report_problems(report, gallery)
        counts = {name: getattr(report, name) for name in ("added", "changed", "moved", "dropped")}
        done = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if done:
            click.echo(f"{number(report.images, 'image')} ({done})")

    is_first = True
    with suppress(KeyboardInterrupt):
        # The first update begins when changes are noticed already, so that none is missed.
        for changes in changes_of(
            opened.root,
            watch_filter=concerns,
            debounce=10 * SETTLED_MS,
            step=SETTLED_MS,
            rust_timeout=SETTLED_MS,
            yield_on_timeout=True,
        ):
            if changes or is_first:
                update()
            if is_first:
                say(f"watching {visible(os.fspath(opened.root))} (Ctrl-C stops)")
            is_first = False
    say("stopped")
