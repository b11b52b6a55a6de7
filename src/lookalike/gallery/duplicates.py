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
from lookalike.gallery.threshold import smallest_cosine
from lookalike.lsh import LSHIndex

__all__ = ["Duplicate", "DuplicateGroup", "find_duplicates", "group_pairs", "propose"]

RECALL = 0.999
"""Chance that a pair right at the threshold is found; closer ones are surer."""


@dataclass(frozen=True)
class Duplicate:
    """A file of a group; ``cosine`` is that to the first file to keep, or, of a file that could go,
    that to the most similar one to keep."""

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
    """Files that show the same picture: those proposed to keep, and the rest, each of which is as
    much like a kept one as was asked for."""

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
    matches = glob_matcher("*" if filter is None else filter)
    pairs, _ = index.join(smallest_cosine(threshold), recall=RECALL)
    with store.snapshot():
        rows = store.by_ids(np.unique(pairs).tolist())
    usable = {i for i, row in rows.items() if matches(row.path)}
    usable = {i for i in usable if is_as_indexed(root, rows[i], if_gone=False)}
    pairs = pairs[np.isin(pairs, sorted(usable)).all(axis=1)]
    groups: list[DuplicateGroup] = []
    for ids in group_pairs(pairs):
        ids = _distinct_files(root, {i: rows[i] for i in ids})
        chain = [rows[i] for i in ids]
        groups += propose(chain, index.vectors(ids), root, protected, threshold)
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
    rows: list[ImageRow],
    vectors: NDArray[np.float32],
    root: Path,
    reference: bytes | None,
    threshold: float,
) -> list[DuplicateGroup]:
    """Split files that chains of pairs connect into groups around a file to keep.

    The best file is kept: most pixels, then most bytes, then the oldest, then the first by path.
    Those within the threshold of it are its duplicates; what is left is split in the same way, so
    that a series of pictures that change little by little is not taken for one. Files below
    ``reference`` are all kept, and are better than any other. Groups without a duplicate are left
    out.

    Args:
        rows: of the files.
        vectors: their unit embeddings, (n, dim).
        root: the gallery's folder.
        reference: a folder in it, as rows have it, or None.
        threshold: smallest cosine between a duplicate and a kept file of its group; equal content
            reaches any. Files with a note, of which the embedding shows only a part, are duplicates
            of equal content alone.
    """
    limit = smallest_cosine(threshold)

    def protected(i: int) -> bool:
        path = rows[i].path
        return reference is not None and (
            reference in (b"", path) or path.startswith(reference + b"/")
        )

    def rank(i: int) -> tuple[Any, ...]:
        row = rows[i]
        pixels = (row.width or 0) * (row.height or 0)
        return not protected(i), -pixels, -row.size, row.mtime_ns, row.path

    def item(i: int, cosine: float) -> Duplicate:
        return Duplicate(rows[i], root / os.fsdecode(rows[i].path), min(1.0, max(-1.0, cosine)))

    def alike(cosine: float, i: int, kept: int) -> bool:
        if rows[i].hash is not None and rows[i].hash == rows[kept].hash:
            return True
        # The embedding of a file with a note does not show all that it holds.
        return cosine >= limit and rows[i].note is None and rows[kept].note is None

    groups: list[DuplicateGroup] = []
    left = sorted(range(len(rows)), key=rank)
    while left:
        best = left[0]
        to_best = dict(zip(left, (vectors[left] @ vectors[best]).tolist(), strict=True))
        keep = [i for i in left if i == best or (protected(i) and alike(to_best[i], i, best))]
        others = [i for i in left if not protected(i) and i != best]
        products = vectors[others] @ vectors[keep].T
        duplicates = {
            i: float(cosines.max())
            for i, cosines in zip(others, products, strict=True)
            if any(alike(c, i, kept) for c, kept in zip(cosines.tolist(), keep, strict=True))
        }
        if duplicates:
            kept = tuple(item(i, to_best[i]) for i in keep)
            groups.append(DuplicateGroup(kept, tuple(item(i, c) for i, c in duplicates.items())))
        taken = {*keep, *duplicates}
        left = [i for i in left if i not in taken]
    return groups
