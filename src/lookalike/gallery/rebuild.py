"""Make a gallery anew beside the old one, which serves until the new one takes its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lookalike.encoder import Encoder
from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.identity import read_identity, removed_rows
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import INCOMING, LOCK, OUTGOING, delete_gallery, is_real_folder
from lookalike.gallery.report import Progress, UpdateReport
from lookalike.gallery.store import ImageRow
from lookalike.gallery.update import Update
from lookalike.lsh import LSHSettings

__all__ = ["rebuild"]


def rebuild(
    files: GalleryFiles,
    root: Path,
    meta: dict[str, object],
    encoder: Encoder,
    settings: LSHSettings,
    max_pixels: int,
    wait: float,
    progress: Callable[[Progress], None] | None,
) -> UpdateReport:
    """Resumes where an earlier run with the same model and settings stopped.

    Args:
        files: of the old gallery, in whatever state.
        meta: entries of the new table.
    """
    fresh = GalleryFiles(files.beside(INCOMING))
    with ExitStack() as stack:
        stack.enter_context(writer_lock(files.directory / LOCK, wait))
        removed, first_id = _inheritance(files)
        outgoing = files.beside(OUTGOING)
        _clear(outgoing)
        if not _continues(fresh, encoder, settings):
            _clear(fresh.directory)
            fresh.create(meta, settings, first_id)
        with fresh.writing() as (store, index):
            known = {row.path for row in store.by_paths(row.path for row in removed)}
            new = [row for row in removed if row.path not in known]
            with store.transaction():
                store.put(replace(row, id=store.next_id() + n) for n, row in enumerate(new))
            run = Update(root, fresh, store, index, lambda: encoder, max_pixels, (files.directory,))
            report = run.run(progress)
        home = files.home  # of which `directory` may be a link
        home.rename(outgoing)
        try:
            fresh.directory.rename(home)
        except OSError:  # a reader that found no gallery has done it: see GalleryFiles.exist
            if not files.exist():
                raise
        delete_gallery(outgoing)
    return report


def _clear(directory: Path) -> None:
    """Delete what an earlier rebuild has left there. GalleryError if there is anything else."""
    delete_gallery(directory)
    if os.path.lexists(directory):
        raise GalleryError(
            f"{directory} is in the way of the new gallery and holds other files than a gallery's; "
            f"move it away"
        )


def _inheritance(files: GalleryFiles) -> tuple[list[ImageRow], int]:
    """What was taken out by `remove`, and the first id that the old gallery has never given out.

    No id means two images, so that a reader with one gallery's table and the other's index finds
    nothing, never something wrong.
    """
    try:
        with files.reading() as store:
            return store.removed(), store.next_id()
    except GalleryError:  # damaged or of another version, which may be why it is made anew
        return removed_rows(read_identity(files.directory), 1), 1


def _continues(fresh: GalleryFiles, encoder: Encoder, settings: LSHSettings) -> bool:
    if not is_real_folder(fresh.directory):
        return False
    try:
        with fresh.reading_all() as (store, index):
            return made_with(store).sha256 == encoder.info.sha256 and index.settings == settings
    except GalleryError:
        return False
