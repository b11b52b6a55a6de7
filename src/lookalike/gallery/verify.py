"""Find damage in a gallery's files. What an interrupted update leaves behind is not damage."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from lookalike.errors import GalleryError, IndexFormatError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.identity import read_identity
from lookalike.gallery.places import IDENTITY, LOCK
from lookalike.gallery.rows import ImageRow
from lookalike.lsh import LSHIndex
from lookalike.lsh.graph import NeighbourGraph


def verify(files: GalleryFiles) -> list[str]:
    """Everything that is wrong with a gallery's own files, in sentences; [] if nothing is."""
    problems: list[str] = []
    filled = False
    try:
        with files.reading() as store:
            problems += store.integrity()
            filled = not problems and sum(store.counts()) > 0
    except GalleryError as error:
        problems.append(str(error))
    identity = files.directory / IDENTITY
    if not os.path.lexists(identity):
        if filled:  # a gallery in the making gets it before its first image
            problems.append(f"{identity} is missing")
    elif read_identity(files.directory) is None:
        problems.append(f"{identity} is damaged")
    lock = files.directory / LOCK
    if os.path.lexists(lock) and not stat.S_ISREG(lock.lstat().st_mode):
        problems.append(f"{lock} is not a regular file")
    problems += _look_at_graph(files)
    return problems + (_compare_index(files) if filled or not problems else _look_at_index(files))


def _look_at_graph(files: GalleryFiles) -> list[str]:
    """What is wrong with the neighbour graph; nothing if it is missing or lags behind the index."""
    if not os.path.lexists(files.neighbours):
        return []
    try:
        with files.reading() as store:
            owner = store.meta("gallery_id")
        problem = NeighbourGraph.open(files.neighbours, owner).problem()
    except GalleryError:
        return []  # of the table
    except (IndexFormatError, OSError) as error:
        return [f"neighbours: {error}; an update makes another"]
    return [] if problem is None else [f"neighbours: {problem}; an update makes another"]


def _compare_index(files: GalleryFiles) -> list[str]:
    """What is wrong with the index of a whole table."""
    try:
        with files.reading_all(again=True) as (store, index):
            known = set(store.ids())
            problems = [f"index: {what}" for what in index.damaged()]
        lost = set() if problems else known - set(index.ids.tolist())
        if lost:  # a writer may have dropped some since the table was read
            with files.reading() as store:
                lost &= set(store.ids())
    except GalleryError as error:
        return [str(error)]
    if lost:
        problems.append(f"{len(lost)} images of the table have no vector in the index")
    return problems


def _look_at_index(files: GalleryFiles) -> list[str]:
    """What is wrong with an index whose table is damaged."""
    try:
        files.check_index_folder()
        return [f"index: {what}" for what in LSHIndex.open(files.index_folder).damaged()]
    except GalleryError as error:
        return [str(error)]
    except IndexFormatError as error:
        return [f"index: {error}"]


def changed_contents(rows: Iterable[ImageRow], root: Path) -> list[str]:
    """Images whose content is not what was indexed although their size and time say so."""
    return [problem for row in rows for problem in _compare(root, row)]


def _compare(root: Path, row: ImageRow) -> list[str]:
    from lookalike.images import SkippedImageError, content_hash

    path = root / os.fsdecode(row.path)
    try:
        if not row.fits(path.stat()):
            return []  # changed on purpose; the next update reads it
        if content_hash(path) == row.hash:
            return []
    except (OSError, SkippedImageError):
        return []  # gone; the next update drops it
    return [
        f"{path}: the content has changed but not size and time, as on a failing disk; restore the "
        f"file from a copy, or, if the change was meant: touch it and update the gallery"
    ]
