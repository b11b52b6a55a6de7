"""Groups of near duplicates, and which file of each to keep. Nothing is ever deleted here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.gallery.store import ImageRow

__all__ = ["Duplicate", "DuplicateGroup", "group_pairs", "propose"]


@dataclass(frozen=True)
class Duplicate:
    """A file of a group; ``cosine`` is that to the (first) file to keep."""

    row: ImageRow
    cosine: float

    @property
    def path(self) -> str:
        return os.fsdecode(self.row.path)

    def as_dict(self) -> dict[str, Any]:
        row = self.row
        return {
            "path": self.path,
            "cosine": round(self.cosine, 6),
            "identical": None,
            "width": row.width,
            "height": row.height,
            "bytes": row.size,
            "mtime_ns": row.mtime_ns,
        }


@dataclass(frozen=True)
class DuplicateGroup:
    """Files that show the same picture: those proposed to keep, and the rest."""

    keep: tuple[Duplicate, ...]
    duplicates: tuple[Duplicate, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``identical`` tells files whose content equals that of a kept one."""
        kept = {item.row.hash for item in self.keep}
        rest = [{**d.as_dict(), "identical": d.row.hash in kept} for d in self.duplicates]
        keep = [{**d.as_dict(), "identical": True} for d in self.keep]
        return {"keep": keep, "duplicates": rest}


def group_pairs(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Connected components of the pairs (m, 2): sorted lists of ids, by their first id."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in pairs.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for node in sorted(parent):
        groups.setdefault(root(node), []).append(node)
    return list(groups.values())


def propose(
    rows: list[ImageRow], vectors: NDArray[np.float32], reference: bytes | None
) -> DuplicateGroup | None:
    """Split a group into what to keep and the rest.

    The best file is kept: most pixels, then most bytes, then the oldest, then the first by path.
    Files below ``reference`` are all kept, and are better than any other. None if all are kept.

    Args:
        rows: of the group.
        vectors: their unit embeddings, (n, dim).
    """

    def protected(row: ImageRow) -> bool:
        return reference is not None and (
            reference in (b"", row.path) or row.path.startswith(reference + b"/")
        )

    def rank(i: int) -> tuple[Any, ...]:
        row = rows[i]
        pixels = (row.width or 0) * (row.height or 0)
        return not protected(row), -pixels, -row.size, row.mtime_ns, row.path

    order = sorted(range(len(rows)), key=rank)
    cosines = np.clip(vectors @ vectors[order[0]], -1, 1)
    items = [(i, Duplicate(rows[i], float(cosines[i]))) for i in order]
    keep = tuple(item for n, (i, item) in enumerate(items) if n == 0 or protected(rows[i]))
    rest = tuple(item for n, (i, item) in enumerate(items) if n > 0 and not protected(rows[i]))
    return DuplicateGroup(keep, rest) if rest else None
