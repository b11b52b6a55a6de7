"""Groups of near duplicates, and which file of each to keep. Nothing is ever deleted here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryError
from lookalike.gallery.hits import glob_matcher, smallest_cosine
from lookalike.gallery.report import Progress
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import StoredVectors, Table, is_as_indexed
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex
from lookalike.lsh.threads import cores

__all__ = [
    "Duplicate",
    "DuplicateGroup",
    "Duplicates",
    "find_duplicates",
    "propose",
    "propose_all",
]

RECALL = 0.999
"""Chance that a pair right at the threshold is found; closer ones are surer."""
READ_AHEAD = 64
"""Files that are read for their content before any more are asked for."""
HEADS = 256
"""Files that are compared with all others at once."""


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
        """For JSON; ``identical`` marks files whose content equals that of a kept one."""
        kept = {item.row.hash for item in self.keep}
        rest = [{**d.as_dict(), "identical": d.row.hash in kept} for d in self.duplicates]
        return {"keep": [d.as_dict() for d in self.keep], "duplicates": rest}


class Duplicates(list[DuplicateGroup]):
    """The groups; and ``changed``, paths (n,) in the gallery that were left out since the files are
    gone or no longer hold what was indexed. An update takes them in."""

    def __init__(self, groups: Iterable[DuplicateGroup], changed: Iterable[str]) -> None:
        super().__init__(groups)
        self.changed = tuple(changed)


def find_duplicates(
    store: Store,
    index: LSHIndex,
    root: Path,
    threshold: float,
    reference: str | os.PathLike[str] | None,
    filter: str | None,
    progress: Callable[[Progress], None] | None = None,
) -> Duplicates:
    """The groups of a gallery, as promised by `Gallery.duplicates`."""
    near = index.groups(smallest_cosine(threshold), recall=RECALL)
    return propose_all(near, store, index, root, threshold, reference, filter, progress)


def propose_all(
    near: Sequence[NDArray[np.int64]],
    store: Table,
    index: StoredVectors,
    root: Path,
    threshold: float,
    reference: str | os.PathLike[str] | None,
    filter: str | None,
    progress: Callable[[Progress], None] | None = None,
    *,
    here: bool = True,
) -> Duplicates:
    """What to keep of ids that pairs connect, each (m,) and of another group.

    Args:
        here: whether the files are on this machine; if not, they are assumed to be unchanged.
    """
    protected = None if reference is None else _inside(root, Path(reference), here)
    matches = glob_matcher("*" if filter is None else filter)
    with store.snapshot():
        rows = store.by_ids(itertools.chain.from_iterable(ids.tolist() for ids in near))
    contents = _Contents(root, rows, progress) if here else _Unread()
    chains: list[list[int]] = []
    for ids in near:
        chain = [i for i in ids.tolist() if i in rows and matches(rows[i].path)]
        chains.append(contents.distinct(chain) if len(chain) > 1 else [])
    groups: list[DuplicateGroup] = []
    while chains := [chain for chain in chains if len(chain) > 1]:
        proposed = []
        for chain in chains:
            files = [rows[i] for i in chain]
            proposed.append(propose(files, index.vectors(chain), root, protected, threshold))
        contents.check(item.row.id for found in proposed for item in _items(found))
        again = []
        for chain, found in zip(chains, proposed, strict=True):
            if any(item.row.id in contents.changed for item in _items(found)):
                again.append([i for i in chain if i not in contents.changed])
            else:
                groups += found
        chains = again
    changed = sorted(rows[i].path for i in contents.changed)
    return Duplicates(
        sorted(groups, key=lambda group: group.keep[0].row.path), map(os.fsdecode, changed)
    )


def _items(groups: Iterable[DuplicateGroup]) -> Iterator[Duplicate]:
    for group in groups:
        yield from (*group.keep, *group.duplicates)


class _Unread:
    """Files that are out of reach."""

    def __init__(self) -> None:
        self.changed: set[int] = set()

    def distinct(self, ids: list[int]) -> list[int]:
        """All."""
        return ids

    def check(self, ids: Iterable[int]) -> None:
        """Nothing is read."""


class _Contents:
    """Whether files still hold what was indexed: first by their size and times, then by reading.

    Attributes:
        changed: ids of the rows whose files do not, or are gone.
    """

    def __init__(
        self, root: Path, rows: dict[int, ImageRow], progress: Callable[[Progress], None] | None
    ) -> None:
        self.changed: set[int] = set()
        self._root, self._rows, self._progress = root, rows, progress
        self._read: set[int] = set()
        self._total = 0

    def distinct(self, ids: list[int]) -> list[int]:
        """Those of ``ids`` whose files are as indexed, one id per file on disk: with links to the
        same file, deleting one would lose the image.

        The real file stands for links to it, else the first by path.
        """
        chosen: dict[Hashable, int] = {}
        paths = {i: self._root / os.fsdecode(self._rows[i].path) for i in ids}
        for i in sorted(ids, key=lambda i: (paths[i].is_symlink(), self._rows[i].path)):
            try:
                whole = is_as_indexed(self._root, self._rows[i], if_gone=False)
                identity = _file_identity(paths[i]) if whole else None
            except OSError:
                identity = None
            if identity is None:
                self.changed.add(i)
            else:
                chosen.setdefault(identity, i)
        return sorted(chosen.values())

    def check(self, ids: Iterable[int]) -> None:
        """Read the files of ``ids`` that were not read yet; those of other content are changed."""
        todo = sorted(set(ids) - self._read)
        self._total += len(todo)
        with ThreadPoolExecutor(cores(), "lookalike") as pool:
            for start in range(
                0, len(todo), READ_AHEAD
            ):  # few, so that an interruption waits little
                some = todo[start : start + READ_AHEAD]
                for i, whole in zip(some, pool.map(self._holds, some), strict=True):
                    self._read.add(i)
                    if not whole:
                        self.changed.add(i)
                    if self._progress is not None:
                        self._progress(Progress(len(self._read), self._total, 0))

    def _holds(self, number: int) -> bool:
        from lookalike.images import SkippedImageError, content_hash  # with all image formats

        row = self._rows[number]
        try:
            return content_hash(self._root / os.fsdecode(row.path)) == row.hash
        except SkippedImageError:
            return False


def _inside(root: Path, folder: Path, here: bool) -> bytes:
    """A folder of the gallery, given by any path to it or relative to the root, as rows have it."""
    if not here:
        path = Path(os.path.normpath(root / folder))
        if not path.is_relative_to(root):
            raise GalleryError(f"{folder} is not inside {root}, the gallery's folder")
        return b"" if path == root else os.fsencode(path.relative_to(root))
    top = root.resolve()
    path = folder.resolve() if folder.is_absolute() or folder.exists() else top / folder
    if not path.is_relative_to(top):
        raise GalleryError(f"{folder} is not inside {root}, the gallery's folder")
    if not path.is_dir():
        raise GalleryError(f"{path} is not a folder")
    return b"" if path == top else os.fsencode(path.relative_to(top))


def _file_identity(path: Path) -> Hashable:
    """What two paths to one file have in common. Raises OSError.

    Some file systems number all files alike: a number that is 0, or that of the file's own folder,
    says nothing, and the path without links stands for the file.
    """
    status, folder = path.stat(), path.resolve().parent.stat()
    number = status.st_dev, status.st_ino
    if status.st_ino == 0 or number == (folder.st_dev, folder.st_ino):
        return path.resolve()
    return number


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

    def item(place: int, cosine: float) -> Duplicate:
        row = rows[order[place]]
        return Duplicate(row, root / os.fsdecode(row.path), min(1.0, max(-1.0, cosine)))

    # From here on files are counted by their place in this order.
    order = sorted(range(len(rows)), key=rank)
    safe = np.array([protected(i) for i in order], np.bool_)
    numbers: dict[bytes | int, int] = {}
    content = np.array([numbers.setdefault(rows[i].hash or i, len(numbers)) for i in order])
    # The embedding of a file with a note does not show all that it holds.
    whole = np.array([rows[i].note is None for i in order], np.bool_)
    left, vectors = np.arange(len(rows)), vectors[order]

    def compare(heads: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cosines of what is at ``heads`` in ``left`` to all there; and whether they are alike."""
        cosines = vectors[heads] @ vectors.T
        same = content[left[heads], np.newaxis] == content[left]
        shown = whole[left[heads], np.newaxis] & whole[left]
        return cosines, ((cosines >= limit) & shown) | same

    groups: list[DuplicateGroup] = []
    waiting = np.ones(len(rows), np.bool_)  # of left
    size = 1
    while waiting.any():
        if 2 * np.count_nonzero(waiting) < len(left):
            left, vectors, waiting = left[waiting], vectors[waiting], waiting[waiting]
        heads = np.flatnonzero(waiting)[:size]
        cosines, alike = compare(heads)
        used = 0
        for head, closest, near in zip(heads, cosines, alike, strict=True):
            if not waiting[head]:
                continue
            used += 1
            kept = near & waiting & safe[left]
            kept[head] = True
            to_best = closest
            others = np.flatnonzero(kept & (np.arange(len(left)) != head))
            for start in range(0, len(others), HEADS):
                more, nearer = compare(others[start : start + HEADS])
                closest = np.maximum(closest, more.max(axis=0))
                near = near | nearer.any(axis=0)
            going = near & waiting & ~safe[left]
            going[head] = False
            if going.any():
                keep = (item(left[i], float(to_best[i])) for i in np.flatnonzero(kept))
                gone = (item(left[i], float(closest[i])) for i in np.flatnonzero(going))
                groups.append(DuplicateGroup(tuple(keep), tuple(gone)))
            waiting &= ~(kept | going)
        # One taken by another of them was compared in vain; reading all vectors costs as much.
        size = min(HEADS, 4 * used)
    return groups
