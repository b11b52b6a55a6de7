"""Groups of near duplicates, and which file of each to keep. Nothing is ever deleted here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryError
from lookalike.gallery.hits import glob_matcher
from lookalike.gallery.searching import is_as_indexed
from lookalike.gallery.store import ImageRow, Store
from lookalike.lsh import LSHIndex

__all__ = ["Duplicate", "DuplicateGroup", "find_duplicates", "group_pairs", "propose"]

RECALL = 0.999
"""Chance that a pair right at the threshold is found; closer ones are surer."""


@dataclass(frozen=True)
class Duplicate:
    """A file of a group; ``cosine`` is that to the (first) file to keep."""

    row: ImageRow
    file: Path
    cosine: float

    @property
    def path(self) -> str:
        return os.fsdecode(self.row.path)

    def as_dict(self) -> dict[str, Any]:
        row = self.row
        return {
            "path": self.path,
            "file": os.fspath(self.file),
            "cosine": round(self.cosine, 6),
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
        return {"keep": [d.as_dict() for d in self.keep], "duplicates": rest}


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


def find_duplicates(
    store: Store,
    index: LSHIndex,
    root: Path,
    threshold: float,
    reference: str | os.PathLike[str] | None,
    filter: str | None,
) -> list[DuplicateGroup]:
    """The groups of a gallery, as promised by `Gallery.duplicates`."""
    protected = None if reference is None else _inside(root, Path(reference))
    matches = glob_matcher(filter or "*")
    pairs, _ = index.join(threshold, recall=RECALL)
    with store.snapshot():
        rows = store.by_ids(np.unique(pairs).tolist())
    usable = {i for i, row in rows.items() if matches(row.path)}
    usable = {i for i in usable if is_as_indexed(root, rows[i], if_gone=False)}
    pairs = pairs[np.isin(pairs, sorted(usable)).all(axis=1)]
    groups = []
    for ids in group_pairs(pairs):
        ids = _distinct_files(root, {i: rows[i] for i in ids})
        group = propose([rows[i] for i in ids], index.vectors(ids), root, protected)
        if group is not None:
            groups.append(group)
    return sorted(groups, key=lambda group: group.keep[0].row.path)


def _inside(root: Path, folder: Path) -> bytes:
    """A folder of the gallery, given by any path to it or relative to the root, as rows have it."""
    top = root.resolve()
    path = folder.resolve() if folder.is_absolute() or folder.exists() else top / folder
    if not path.is_relative_to(top):
        raise GalleryError(f"{folder} is not inside {root}, the gallery's folder")
    if not path.is_dir():
        raise GalleryError(f"{path} is not a folder")
    return b"" if path == top else os.fsencode(path.relative_to(top))


def _distinct_files(root: Path, rows: dict[int, ImageRow]) -> list[int]:
    """One id per file on disk: with links to the same file, deleting one would lose the picture.

    The real file stands for links to it, else the first by path.
    """
    chosen: dict[tuple[int, int], int] = {}
    paths = {number: root / os.fsdecode(row.path) for number, row in rows.items()}
    for number in sorted(rows, key=lambda i: (paths[i].is_symlink(), rows[i].path)):
        status = paths[number].stat()
        chosen.setdefault((status.st_dev, status.st_ino), number)
    return sorted(chosen.values())


def propose(
    rows: list[ImageRow], vectors: NDArray[np.float32], root: Path, reference: bytes | None
) -> DuplicateGroup | None:
    """Split a group into what to keep and the rest.

    The best file is kept: most pixels, then most bytes, then the oldest, then the first by path.
    Files below ``reference`` are all kept, and are better than any other. None if all are kept.

    Args:
        rows: of the group.
        vectors: their unit embeddings, (n, dim).
        root: the gallery's folder.
        reference: a folder in it, as rows have it, or None.
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
    files = [root / os.fsdecode(row.path) for row in rows]
    items = [(i, Duplicate(rows[i], files[i], float(cosines[i]))) for i in order]
    keep = tuple(item for n, (i, item) in enumerate(items) if n == 0 or protected(rows[i]))
    rest = tuple(item for n, (i, item) in enumerate(items) if n > 0 and not protected(rows[i]))
    return DuplicateGroup(keep, rest) if rest else None
