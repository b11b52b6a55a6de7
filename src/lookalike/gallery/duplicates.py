"""Groups of duplicates, and which file of each to keep. Nothing is ever deleted here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryError
from lookalike.gallery.filter import parse_filter
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.keep import COPIES, KINDS, ORIGINAL, UNLIKE, KeepRule, Kind
from lookalike.gallery.places import is_within
from lookalike.gallery.query import is_as_indexed, several
from lookalike.gallery.rows import ImageRow, file_identity
from lookalike.gallery.search import StoredVectors, Table
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex
from lookalike.progress import Progress
from lookalike.threads import cores

if TYPE_CHECKING:
    from lookalike.gallery.copies import Copies
    from lookalike.images.decoder import Limits

RECALL = 0.999
"""Chance that a pair right at the threshold is found; closer ones are surer."""
READ_AHEAD = 64
"""Files that are read for their content before any more are asked for."""
Places = NDArray[np.int64]
SHOT = KINDS.index(Kind.SHOT)


@dataclass(frozen=True)
class Duplicate:
    """A file of a group; ``cosine`` is that to the first file to keep, or, of a file that could go,
    that to the most similar one to keep."""

    row: ImageRow
    file: Path
    cosine: float
    kind: Kind | None = None
    """How it is like the file that it could go for; None: it is kept."""

    @property
    def path(self) -> str:
        return os.fsdecode(self.row.path)

    def as_dict(self) -> dict[str, Any]:
        row = self.row
        return {
            "path": self.path,
            "file": os.fspath(self.file),
            "kind": None if self.kind is None else str(self.kind),
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
    *,
    kinds: Collection[Kind] = COPIES,
    keep: KeepRule = ORIGINAL,
    limits: Limits | None = None,
    compared: Path | None = None,
) -> Duplicates:
    """The groups of a gallery, as promised by `Gallery.duplicates`; ``compared``: see `Copies`."""
    kinds = {Kind(kind) for kind in several(kinds)}
    if not isinstance(keep, KeepRule):
        raise TypeError(f"keep is {keep!r}; give a KeepRule, such as KeepRule(KeepOrder.NEWEST)")
    limit = smallest_cosine(threshold)
    proposals = Proposals(store, index, root, reference, filter, progress)
    groups = list[DuplicateGroup]()
    if copied := kinds - {Kind.SHOT}:
        from lookalike.gallery.copies import Copies
        from lookalike.images.decoder import Decoder, Limits  # with all image formats

        with Decoder(limits or Limits()) as decoder:
            copies = Copies(store, index, root, decoder, copied, progress, compared)
            near = copies.groups()
            split = partial(_split, index, root, proposals.protected, keep, copies)
            groups = proposals.of(near, split, cores())
            copies.keep()
    if Kind.SHOT in kinds:
        going = {item.row.id for group in groups for item in group.duplicates}
        near = index.groups(limit, recall=RECALL)
        near = [np.array([i for i in ids.tolist() if i not in going], np.int64) for ids in near]
        groups += proposals.of(near, proposals.by_cosine(threshold, store.distinct()))
    return proposals.made(groups)


def _split(
    index: StoredVectors,
    root: Path,
    reference: bytes | None,
    rule: KeepRule,
    copies: Copies,
    rows: list[ImageRow],
) -> list[DuplicateGroup]:
    """As `split`: the best file by ``rule``, and the files that are copies of it."""
    vectors = index.vectors([row.id for row in rows])
    cosines, bits = vectors @ vectors.T, copies.differing_bits(rows)

    def rank(row: ImageRow) -> tuple[Any, ...]:
        return rule.rank(row, *copies.traits(row))

    def kind_of(at: int, kept: int) -> Kind | None:
        return copies.kind(rows[at], rows[kept], float(cosines[at, kept]), int(bits[at, kept]))

    def alike(kept: int, others: Places) -> Places:
        kinds = (kind_of(at, kept) for at in others.tolist())
        return np.array([UNLIKE if kind is None else KINDS.index(kind) for kind in kinds], np.int64)

    def is_bordered(at: int, others: Places) -> bool:
        """Whether one of the others is the same without a border, and as good otherwise."""
        return any(
            rule.wish(rows[other]) == rule.wish(rows[at])
            and kind_of(other, at) == Kind.CROPPED
            and copies.adds_border(rows[at], rows[other])
            for other in others.tolist()
        )

    return split(rows, vectors, root, reference, rank, alike, is_bordered)


Split = Callable[[list[ImageRow]], list[DuplicateGroup]]
"""Makes groups of rows that pairs connect."""


class Proposals:
    """What to keep of files that pairs connect, as long as they hold what was indexed: first by
    their size and times, then by reading.

    Attributes:
        protected: the folder whose files are kept, as rows have it.
    """

    def __init__(
        self,
        store: Table,
        index: StoredVectors,
        root: Path,
        reference: str | os.PathLike[str] | None,
        filter: str | None,
        progress: Callable[[Progress], None] | None = None,
        *,
        here: bool = True,
    ) -> None:
        """``here``: whether the files are on this machine; if not, they are assumed to be
        unchanged."""
        self._store, self._index, self._root = store, index, root
        self._progress, self._here = progress, here
        self.protected = None if reference is None else inside(root, Path(reference), here)
        self._chosen = parse_filter("*" if filter is None else filter)
        self._rows: dict[int, ImageRow] = {}
        self._read, self._changed = set[int](), set[int]()
        self._total = 0

    def by_cosine(self, threshold: float, distinct: Sequence[tuple[bytes, bytes]] = ()) -> Split:
        """As `propose`."""

        def split(rows: list[ImageRow]) -> list[DuplicateGroup]:
            vectors = self._index.vectors([row.id for row in rows])
            return propose(rows, vectors, self._root, self.protected, threshold, distinct)

        return split

    def of(
        self, near: Sequence[NDArray[np.int64]], split: Split, threads: int = 1
    ) -> list[DuplicateGroup]:
        """Groups of ids (m,) that pairs connect, made by ``split`` in so many threads."""
        with self._store.snapshot():
            rows = self._store.by_ids(itertools.chain.from_iterable(ids.tolist() for ids in near))
        self._rows |= rows
        chains = [
            [i for i in ids.tolist() if i in rows and self._chosen.fits(rows[i].path, rows[i])]
            for ids in near
        ]
        if self._here:
            chains = [self._one_for_each_file(chain) for chain in chains if len(chain) > 1]
        groups: list[DuplicateGroup] = []
        while chains := [chain for chain in chains if len(chain) > 1]:
            with ThreadPoolExecutor(threads, "lookalike") as pool:
                proposed = list(pool.map(split, ([rows[i] for i in chain] for chain in chains)))
            if self._here:
                self._check(item.row.id for found in proposed for item in _items(found))
            again = []
            for chain, found in zip(chains, proposed, strict=True):
                if any(item.row.id in self._changed for item in _items(found)):
                    again.append([i for i in chain if i not in self._changed])
                else:
                    groups += found
            chains = again
        return groups

    def made(self, groups: Iterable[DuplicateGroup]) -> Duplicates:
        """With what was left out."""
        changed = sorted(self._rows[i].path for i in self._changed)
        ordered = sorted(groups, key=lambda group: group.keep[0].row.path)
        return Duplicates(ordered, map(os.fsdecode, changed))

    def _one_for_each_file(self, ids: list[int]) -> list[int]:
        """Those of ``ids`` whose files are as indexed, one id per file on disk: with links to the
        same file, deleting one would lose the image.

        The real file stands for links to it, else the first by path.
        """
        chosen: dict[Hashable, int] = {}
        paths = {i: self._root / os.fsdecode(self._rows[i].path) for i in ids}
        for i in sorted(ids, key=lambda i: (os.path.islink(paths[i]), self._rows[i].path)):
            try:
                whole = is_as_indexed(self._root, self._rows[i], if_gone=False)
                identity = file_identity(paths[i]) if whole else None
            except OSError:
                identity = None
            if identity is None:
                self._changed.add(i)
            else:
                chosen.setdefault(identity, i)
        return sorted(chosen.values())

    def _check(self, ids: Iterable[int]) -> None:
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
                        self._changed.add(i)
                    if self._progress is not None:
                        done = len(self._read)
                        self._progress(Progress(done, self._total, stage="files checked"))

    def _holds(self, number: int) -> bool:
        from lookalike.images import SkippedImageError, content_hash  # with all image formats

        row = self._rows[number]
        try:
            return content_hash(self._root / os.fsdecode(row.path)) == row.hash
        except SkippedImageError:
            return False


def _items(groups: Iterable[DuplicateGroup]) -> Iterator[Duplicate]:
    for group in groups:
        yield from (*group.keep, *group.duplicates)


def inside(root: Path, folder: Path, here: bool) -> bytes:
    """A folder of the gallery, given by any path to it or relative to the root, as rows have it."""
    if not here:
        path = Path(os.path.normpath(root / folder))
        if not path.is_relative_to(root):
            raise GalleryError(f"{folder} is not inside {root}, the gallery's folder")
        return b"" if path == root else os.fsencode(path.relative_to(root).as_posix())
    top = Path(os.path.realpath(root))
    path = Path(os.path.realpath(folder if os.path.exists(folder) else top / folder))
    if not path.is_relative_to(top):
        raise GalleryError(f"{folder} is not inside {root}, the gallery's folder")
    if not os.path.isdir(path):
        raise GalleryError(f"{path} is not a folder")
    return b"" if path == top else os.fsencode(path.relative_to(top).as_posix())


def propose(
    rows: list[ImageRow],
    vectors: NDArray[np.float32],
    root: Path,
    reference: bytes | None,
    threshold: float,
    distinct: Sequence[tuple[bytes, bytes]] = (),
) -> list[DuplicateGroup]:
    """As `split`: the best file has most pixels, then most bytes, is the oldest, or the first by
    path; within the threshold of it are its duplicates.

    Args:
        threshold: smallest cosine between a duplicate and a kept file of its group; equal content
            reaches any. Files with a note, of which the embedding shows only a part, are duplicates
            of equal content alone.
        distinct: pairs of contents that are not duplicates whatever their cosine.
    """
    limit = smallest_cosine(threshold)
    numbers: dict[bytes | int, int] = {}
    content = np.array([numbers.setdefault(r.hash or i, len(numbers)) for i, r in enumerate(rows)])
    apart: dict[int, list[int]] = {}
    for one, two in distinct:
        if one in numbers and two in numbers:
            apart.setdefault(numbers[one], []).append(numbers[two])
            apart.setdefault(numbers[two], []).append(numbers[one])
    # The embedding of a file with a note does not show all that it holds.
    whole = np.array([row.note is None for row in rows], np.bool_)

    def rank(row: ImageRow) -> tuple[Any, ...]:
        return -(row.width or 0) * (row.height or 0), -row.size, row.mtime_ns, row.path

    def alike(kept: int, others: Places) -> Places:
        near = ((vectors @ vectors[kept])[others] >= limit) & whole[kept] & whole[others]
        for other in apart.get(int(content[kept]), ()):
            near[content[others] == other] = False
        kinds = np.where(near, SHOT, UNLIKE)
        kinds[content[others] == content[kept]] = KINDS.index(Kind.BYTES)
        return kinds

    return split(rows, vectors, root, reference, rank, alike)


def split(
    rows: Sequence[ImageRow],
    vectors: NDArray[np.float32],
    root: Path,
    reference: bytes | None,
    rank: Callable[[ImageRow], Any],
    alike: Callable[[int, Places], Places],
    waits: Callable[[int, Places], bool] = lambda at, others: False,
) -> list[DuplicateGroup]:
    """Split files that chains of pairs connect into groups around a file to keep.

    The best file is kept, and what is alike to it are its duplicates; what is left is split in the
    same way, so that a series of images that change little by little is not taken for one. A link
    to a file is kept only where there is no file. Files below ``reference`` are all kept, and are
    better than any other: those alike to the best one stand beside it, and what is alike to one of
    them is a duplicate as well. Groups without a duplicate are left out.

    Args:
        rows: of the files; others count them by their place here.
        vectors: their unit embeddings, (n, dim).
        root: the gallery's folder.
        reference: a folder in it, as rows have it, or None.
        rank: lower is better.
        alike: how each of several files (m,) is like a kept one: numbers of KINDS, or UNLIKE.
        waits: whether a file is to be kept only once these others have their groups.
    """

    def item(at: int, cosine: float, kind: Kind | None = None) -> Duplicate:
        file = root / os.fsdecode(rows[at].path)
        return Duplicate(rows[at], file, min(1.0, max(-1.0, cosine)), kind)

    safe = np.array([reference is not None and is_within(row.path, reference) for row in rows])
    linked = [os.path.islink(root / os.fsdecode(row.path)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (not safe[i], linked[i], rank(rows[i])))
    left = np.array(order, np.int64)
    groups, waited = list[DuplicateGroup](), set[int]()
    while len(left):
        best, rest = int(left[0]), left[1:]
        if best not in waited and not safe[best] and waits(best, rest):
            waited.add(best)
            left = np.append(rest, best)
            continue
        kinds = alike(best, rest)
        kept = [best, *rest[safe[rest] & (kinds != UNLIKE)].tolist()]
        for other in kept[1:]:
            # Of another shot, the same bytes may be kept as well.
            unsure = np.flatnonzero(~safe[rest] & ((kinds == UNLIKE) | (kinds == SHOT)))
            found = alike(other, rest[unsure])
            kinds[unsure] = np.where(found == UNLIKE, kinds[unsure], found)
        going = ~safe[rest] & (kinds != UNLIKE)
        if going.any():
            keep = [item(at, float(vectors[at] @ vectors[best])) for at in kept]
            closest = (vectors[rest[going]] @ vectors[kept].T).max(axis=1)
            kind = [KINDS[number] for number in kinds[going].tolist()]
            gone = zip(rest[going].tolist(), closest.tolist(), kind, strict=True)
            groups.append(DuplicateGroup(tuple(keep), tuple(item(*each) for each in gone)))
        left = rest[kinds == UNLIKE]
    return groups
