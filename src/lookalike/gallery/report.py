"""What an update tells while it runs and when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field

from lookalike.gallery.store import ImageRow

__all__ = ["Progress", "UpdateReport"]


@dataclass(frozen=True)
class Progress:
    """How far an update is: files read of those to read, and how many of them were skipped."""

    done: int
    total: int
    skipped: int


@dataclass
class UpdateReport:
    """What an update did, in files. ``images``, ``skipped`` and ``removed`` (by the user) count all
    that the gallery knows.

    ``reused``: of the added and changed ones, those whose content was known, so that they were not
    encoded. ``unlisted``: folders that could not be listed and why; what they held is kept.
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
    seconds: float = 0.0
