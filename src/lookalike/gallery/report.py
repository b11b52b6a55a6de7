"""What a gallery reports: while an update runs, when it is done, and of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike.encoder import ModelInfo
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ImageRow
from lookalike.lsh import LSHSettings


@dataclass(frozen=True)
class Absence:
    """Known files that are missing in a way that deletion does not explain, so that what the
    gallery knows of them is kept: the folder, relative to the gallery's, how many, and why."""

    folder: bytes
    files: int
    why: str


@dataclass
class UpdateReport:
    """What an update did, in files. ``images``, ``skipped`` and ``removed`` (by the user) count all
    that the gallery knows.

    ``reused``: of the added and changed ones, those whose content was known, so that they were not
    encoded. ``unlisted``: folders and files that could not be looked at and why; what was known of
    them is kept. ``absent``: what is missing and was kept, see `Gallery.update`. ``passed_over``:
    files that are images by their names but in formats that are not read, by extension, "" without
    any; ``others``: all other files but images. ``ignored``: files and folders that patterns leave
    out, see `Gallery.exclude`. ``galleries``: directories of other galleries,
    which were not entered. ``nested``: folders that have a gallery of their own.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    dropped: int = 0
    reused: int = 0
    images: int = 0
    skipped: int = 0
    removed: int = 0
    newly_skipped: list[ImageRow] = field(default_factory=list)
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    others: int = 0
    ignored: int = 0
    galleries: list[bytes] = field(default_factory=list)
    nested: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        """Files that are gone and were kept."""
        return sum(absence.files for absence in self.absent)


@dataclass(frozen=True)
class GalleryInfo:
    """Facts about a gallery: where it is, what it holds, what made it.

    Attributes:
        removed: files that the user took out; not among the ``skipped``.
        tuning: what `Gallery.tune` noted: target_recall, k, recall and images; None: not tuned.
        unfinished: whether the last update did not finish, or is still running.
        served: of a gallery in shards: its address, parts, shards and replicas; None: on disk.
    """

    root: Path
    directory: Path
    images: int
    skipped: int
    removed: int
    model: ModelInfo
    lsh: LSHSettings
    segments: int
    disk_bytes: int
    pairs: PairStatistics | None
    tuning: dict[str, Any] | None
    unfinished: bool
    served: dict[str, Any] | None = None
