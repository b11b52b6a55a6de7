"""How far work is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """Files or images that are done, of how many, and how many of them were skipped."""

    done: int
    total: int
    skipped: int = 0
