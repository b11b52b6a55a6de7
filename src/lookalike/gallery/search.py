"""From an embedding to rows of the table, and from a path to the row that it means."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import GalleryError
from lookalike.gallery.hits import Hit, glob_matcher, smallest_cosine
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ImageRow

if TYPE_CHECKING:
    from lookalike.encoder import Encoder
    from lookalike.images.decoder import Limits

__all__ = [
    "Found",
    "Index",
    "MemoryOptions",
    "NearOptions",
    "Query",
    "SearchOptions",
    "StoredVectors",
    "Table",
    "embed_query",
    "find",
    "hits",
    "is_as_indexed",
    "row_of",
]


Query: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[np.floating[Any]]"


class SearchOptions(TypedDict, total=False):
    """Of `Gallery.search`, which explains them."""

    threshold: float | None
    filter: str | None
    exclude_self: bool
    exact: bool | None


class MemoryOptions(TypedDict, total=False):
    """Of `Snapshot.search_in_memory`."""

    without: bytes | None
    threshold: float | None
    own: int | None


class NearOptions(TypedDict, total=False):
    """Of `Snapshot.search`."""

    without: bytes | Set[int] | None
    filter: str | None
    threshold: float | None
    own: int | None
    exact: bool


class Table(Protocol):
    """What is asked of a gallery's rows: of a `Store`, or of what keeps them elsewhere."""

    def by_path(self, path: bytes, /) -> ImageRow | None: ...

    def by_hash(self, digest: bytes, /) -> list[ImageRow]: ...

    def by_ids(self, ids: Iterable[int], /) -> dict[int, ImageRow]: ...

    def indexed(self) -> Iterator[ImageRow]: ...

    def skipped(self) -> list[ImageRow]: ...

    def snapshot(self) -> AbstractContextManager[None]: ...


class StoredVectors(Protocol):
    """What is asked of its vectors, as `LSHIndex` answers it."""

    def contains(self, ids: list[int], /) -> NDArray[np.bool_]: ...

    def vectors(self, ids: list[int], /) -> NDArray[np.float32]: ...


class Index(StoredVectors, Protocol):
    """And of its codes; each as `LSHIndex` does it for one query."""

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        /,
        *,
        allowed: NDArray[np.int64] | None,
        exact: bool | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...

    def hamming(
        self, query: NDArray[np.float32], ids: NDArray[np.int64], /
    ) -> NDArray[np.integer[Any]]: ...


@dataclass(frozen=True)
class Found:
    """An image near a query: its row, the cosine, and the bits of the code that differ."""

    row: ImageRow
    cosine: float
    bits: int


def find(
    store: Table,
    index: Index,
    root: Path,
    query: Query,
    k: int,
    *,
    filter: str | None,
    exclude_self: bool,
    exact: bool | None,
    encoder: Callable[[], Encoder],
    limits: Limits,
) -> tuple[list[Found], int]:
    """What `Gallery.search` finds, before any threshold, best first.

    Also returns how many ids of the index had no row in the table: those of a commit in progress,
    or of an update that was killed. They are passed over.
    """
    embedding, own = embed_query(store, index, root, query, encoder, limits)
    return _nearest(
        store,
        index,
        embedding,
        k,
        without=own if exclude_self else set(),
        allowed=None if filter is None else _ids_matching(store, filter),
        exact=exact,
    )


def hits(
    found: list[Found],
    root: Path,
    code_bits: int,
    pairs: PairStatistics | None,
    threshold: float | None,
) -> list[Hit]:
    """As users see them, those that reach the threshold."""
    limit = None if threshold is None else smallest_cosine(threshold)
    near = [item for item in found if limit is None or item.cosine >= limit]
    rarities = [None] * len(near) if pairs is None else pairs.shares_below([i.cosine for i in near])
    return [
        _hit(item, root, code_bits, rarity) for item, rarity in zip(near, rarities, strict=True)
    ]


def _hit(found: Found, root: Path, code_bits: int, rarity: float | None) -> Hit:
    row, path = found.row, os.fsdecode(found.row.path)
    return Hit(
        path=path,
        file=root / path,
        cosine=found.cosine,
        bits=found.bits,
        code_bits=code_bits,
        rarity=rarity,
        id=row.id,
        width=row.width or 0,
        height=row.height or 0,
        format=row.format or "",
    )


def _ids_matching(store: Table, pattern: str) -> NDArray[np.int64]:
    matches = glob_matcher(pattern)
    return np.array([row.id for row in store.indexed() if matches(row.path)], np.int64)


def embed_query(
    store: Table,
    index: StoredVectors,
    root: Path,
    query: Query,
    encoder: Callable[[], Encoder],
    limits: Limits,
) -> tuple[NDArray[np.float32], set[int]]:
    """The query's embedding, and the ids that are the query itself or have its content.

    An indexed image has its vector stored; for others ``encoder`` is asked for the model.
    """
    if isinstance(query, np.ndarray):
        return np.asarray(query, np.float32), set()
    own = set[int]()
    if not isinstance(query, bytes):
        row = row_of(store, root, query)
        if row is not None and row.skipped is None and index.contains([row.id])[0]:
            own.add(row.id)
            if is_as_indexed(root, row, if_gone=True, strict=True):
                copies = store.by_hash(row.hash) if row.hash else []
                return index.vectors([row.id])[0], own | {copy.id for copy in copies}
        if not os.path.lexists(query):
            raise GalleryError(
                f"{os.fspath(query)} is neither a file nor an indexed image of {root}"
            )
    from lookalike.images.decoder import Decoder

    source = io.BytesIO(query) if isinstance(query, bytes) else query
    with Decoder(limits) as decoder:
        decoder.prepare()  # while the model is opened
        model = encoder()
        digest, picture = decoder.read_hashed(source, model.info.input_size)
    own |= {copy.id for copy in store.by_hash(digest)}
    return model.embed(picture.pixels[np.newaxis])[0], own


def _nearest(
    store: Table,
    index: Index,
    embedding: NDArray[np.float32],
    k: int,
    *,
    without: Set[int],
    allowed: NDArray[np.int64] | None,
    exact: bool | None,
) -> tuple[list[Found], int]:
    """The ``k`` nearest images but those ids ``without``; the rest as `find`."""
    wanted = k + len(without)
    while True:
        ids, cosines = index.search(embedding, wanted, allowed=allowed, exact=exact)
        count = int(np.count_nonzero(ids >= 0))
        bits = index.hamming(embedding, ids[:count])
        with store.snapshot():
            rows = store.by_ids(ids[:count].tolist())
        found = [
            Found(rows[number], float(cosine), int(differ))
            for number, cosine, differ in zip(ids[:count].tolist(), cosines, bits, strict=False)
            if number in rows and number not in without
        ]
        if len(found) >= k or count < wanted:
            return found[:k], count - len(rows)
        wanted *= 2


def row_of(store: Table, root: Path, path: str | os.PathLike[str]) -> ImageRow | None:
    """The row of a file, given by any path to it or by its path in the gallery.

    A name that is spelled in another Unicode form than on disk is recognised.
    """
    given = Path(path)
    names = [
        os.fsencode(spelling.relative_to(folder))
        for spelling in (Path(os.path.abspath(given)), given.resolve())
        for folder in (root.absolute(), root.resolve())
        if spelling.is_relative_to(folder)
    ]
    if not given.is_absolute() and not given.exists():
        names.append(os.fsencode(os.path.normpath(given)))
    for name in names:
        if (row := store.by_path(name)) is not None:
            return row
    if given.exists():
        return None
    alike = {_composed(name) for name in names if not name.isascii()}
    if not alike:
        return None
    known = chain(store.indexed(), store.skipped())
    return next((row for row in known if _composed(row.path) in alike), None)


def _composed(path: bytes) -> str:
    return unicodedata.normalize("NFC", os.fsdecode(path))


def is_as_indexed(root: Path, row: ImageRow, *, if_gone: bool, strict: bool = False) -> bool:
    """Whether a file has the size and time with which it was indexed; see `ImageRow.fits`."""
    try:
        status = (root / os.fsdecode(row.path)).stat()
    except OSError:
        return if_gone
    return row.fits(status, strict=strict)
