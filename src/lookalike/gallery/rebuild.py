"""Build a new gallery beside the old one, which serves until the new one takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from lookalike.encoder import Encoder
from lookalike.errors import GalleryError
from lookalike.gallery.changes import absences, devices_of, most_are_gone
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.identity import read_identity, removed_rows
from lookalike.gallery.ignore import EXCLUDE
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import (
    INCOMING,
    LOCK,
    OUTGOING,
    UNDO,
    delete_gallery,
    is_real_folder,
    is_within,
    require_own,
)
from lookalike.gallery.report import Absence, UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.scan import ScanNotes
from lookalike.gallery.store import REMOVED, Store
from lookalike.gallery.update import Update
from lookalike.images.decoder import Limits
from lookalike.lsh import LSHSettings
from lookalike.progress import Progress


def rebuild(
    files: GalleryFiles,
    root: Path,
    meta: dict[str, object],
    encoder: Encoder,
    settings: LSHSettings,
    limits: Limits,
    wait: float,
    progress: Callable[[Progress], None] | None,
    accept_missing: bool,
) -> UpdateReport:
    """Resumes where an earlier run with the same model and settings stopped.

    Args:
        files: of the old gallery, in whatever state.
        meta: entries of the new table.
        accept_missing: see `Gallery.update`.

    Raises:
        GalleryError: files that the old gallery knows are missing.
    """
    require_own(files.home)
    fresh = GalleryFiles(files.beside(INCOMING))
    with files.explained(), ExitStack() as stack:
        stack.enter_context(writer_lock(files.directory / LOCK, wait))
        removed, distinct, first_id = _inheritance(files)
        outgoing = files.beside(OUTGOING)
        _clear(outgoing)
        if not _continues(fresh, encoder, settings):
            _clear(fresh.directory)
            fresh.create({**meta, "distinct": distinct}, settings, first_id)
        _copy(EXCLUDE, files, fresh)
        with fresh.writing() as (store, index):
            known = {row.path for row in store.by_paths(row.path for row in removed)}
            new = [row for row in removed if row.path not in known]
            with store.transaction():
                store.put(replace(row, id=store.next_id() + n) for n, row in enumerate(new))
            run = Update(
                root,
                fresh,
                store,
                index,
                lambda: encoder,
                limits,
                (files.directory,),
                accept_missing=True,  # of an unfinished rebuild; what the old one knows is compared
            )
            report = run.run(progress)
            if not accept_missing:
                _check_nothing_is_absent(files, store, run.notes, report)
            fresh.update_graph(index)
        _copy(UNDO, files, fresh)
        home = files.home  # of which `directory` may be a link
        home.rename(outgoing)
        try:
            fresh.directory.rename(home)
        except OSError:  # a reader that found no gallery has done it: see GalleryFiles.exist
            if not files.exist():
                raise
        delete_gallery(outgoing)
    return report


def _copy(name: str, files: GalleryFiles, fresh: GalleryFiles) -> None:
    with suppress(FileNotFoundError):
        shutil.copyfile(files.directory / name, fresh.directory / name, follow_symlinks=False)


def _clear(directory: Path) -> None:
    """Delete what an earlier rebuild has left there. GalleryError if there is anything else."""
    delete_gallery(directory)
    if os.path.lexists(directory):
        raise GalleryError(
            f"{directory} is in the way of the new gallery and holds other files than a gallery's; "
            f"move it away"
        )


def _inheritance(files: GalleryFiles) -> tuple[list[ImageRow], list[list[str]] | None, int]:
    """What was taken out by `remove`, the pairs that are not duplicates, and the first id that the
    old gallery has never given out.

    No id means two images, so that a reader with one gallery's table and the other's index finds
    nothing, never something wrong.
    """
    try:
        with files.reading() as store:
            return store.removed(), store.meta("distinct"), store.next_id()
    except GalleryError:  # damaged or of another version, which may be why it is rebuilt
        identity = read_identity(files.directory) or {}
        return removed_rows(identity, 1), identity.get("distinct"), 1


def _check_nothing_is_absent(
    files: GalleryFiles, fresh: Store, notes: ScanNotes, report: UpdateReport
) -> None:
    """Raises GalleryError if files of the old gallery were not found and seem not to be deleted."""
    unlisted = [path for path, _ in report.unlisted]
    now = list(fresh.rows("skipped IS NOT ?", (REMOVED,)))
    paths, moved = {row.path for row in now}, {row.hash for row in now if row.hash}
    found, gone = set[bytes](), list[ImageRow]()
    try:
        with files.reading() as old:
            devices, counts = devices_of(old), old.counts()
            for row in old.rows("skipped IS NOT ?", (REMOVED,)):
                if row.path in paths:
                    found.add(row.path)
                elif row.hash not in moved and not notes.ignores(row.path):
                    gone.append(row)
    except GalleryError:  # damaged or of another version, which may be why it is rebuilt
        return
    absent, rest = absences(
        gone, notes, devices, lambda folder: any(is_within(path, folder) for path in found)
    )
    hidden = [row for row in rest if any(is_within(row.path, path) for path in unlisted)]
    if hidden:
        absent.append(Absence(b"", len(hidden), "they cannot be looked at"))
    if most := most_are_gone(rest, counts.images + counts.skipped):
        absent.append(most)
    if absent:
        raise GalleryError(
            f"{absent[0].files:,} files that the gallery knows are missing ({absent[0].why}), so "
            f"that the old gallery stays; mount their disk and rebuild again, which goes on where "
            f"this ended, or give them up with --accept-missing"
        )


def _continues(fresh: GalleryFiles, encoder: Encoder, settings: LSHSettings) -> bool:
    if not is_real_folder(fresh.directory):
        return False
    try:
        with fresh.reading_all() as (store, index):
            return made_with(store).sha256 == encoder.info.sha256 and index.settings == settings
    except GalleryError:
        return False
