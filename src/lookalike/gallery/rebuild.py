"""Make a gallery anew beside the old one, which serves until the new one takes its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lookalike.encoder import Encoder
from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.identity import read_identity, removed_rows
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import INCOMING, LOCK, OUTGOING
from lookalike.gallery.report import Progress, UpdateReport
from lookalike.gallery.store import ImageRow
from lookalike.gallery.update import Update
from lookalike.images.decoder import Limits
from lookalike.lsh import LSHSettings

__all__ = ["rebuild"]


def rebuild(
    files: GalleryFiles,
    root: Path,
    meta: dict[str, object],
    encoder: Encoder,
    settings: LSHSettings,
    limits: Limits,
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
        if not _continues(fresh, encoder, settings):
            shutil.rmtree(fresh.directory, ignore_errors=True)
            fresh.create(meta, settings, first_id)
        with fresh.writing() as (store, index):
            known = {row.path for row in store.by_paths(row.path for row in removed)}
            new = [row for row in removed if row.path not in known]
            with store.transaction():
                store.put(replace(row, id=store.next_id() + n) for n, row in enumerate(new))
            run = Update(root, fresh, store, index, lambda: encoder, limits, (files.directory,))
            report = run.run(progress)
        outgoing = files.beside(OUTGOING)
        shutil.rmtree(outgoing, ignore_errors=True)
        files.directory.rename(outgoing)
        try:
            fresh.directory.rename(files.directory)
        except OSError:  # a reader that found no gallery has done it: see GalleryFiles.exist
            if not files.exist():
                raise
        shutil.rmtree(outgoing, ignore_errors=True)
    return report


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
    try:
        with fresh.reading() as store:
            same = made_with(store).sha256 == encoder.info.sha256
        return same and fresh.open_index().settings == settings
    except GalleryError:
        return False
