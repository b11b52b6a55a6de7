"""From queries to rows of the table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import ModelInfo
from lookalike.errors import NoNeighboursError
from lookalike.gallery.hits import Hit, smallest_cosine
from lookalike.gallery.listing import Hits
from lookalike.gallery.places import command
from lookalike.gallery.rarity import PairStatistics, WordScale, rarities
from lookalike.gallery.rows import ImageRow
from lookalike.lsh import LSHIndex
from lookalike.lsh.expand import Expansion, search_expanded
from lookalike.lsh.graph import NeighbourGraph

Search: TypeAlias = Callable[..., tuple[NDArray[np.int64], NDArray[np.float32]]]
"""As `LSHIndex.search`, of one query."""


class SearchOptions(TypedDict, total=False):
    """Of `Gallery.search`, which explains them."""

    threshold: float | None
    filter: str | None
    exclude_self: bool
    exact: bool | None
    text: str | None
    expand: bool | None


class NearOptions(TypedDict, total=False):
    """Of `Snapshot.search`.

    Attributes:
        without: content hash, or ids, of images to leave out.
        filter: see `parse_filter`.
        threshold: smallest cosine of a hit.
        exact: compare with every image.
        expand: reorder the hits by their neighbours; see `Gallery.search`.
    """

    without: bytes | Set[int] | None
    filter: str | None
    threshold: float | None
    exact: bool | None
    expand: bool | None


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

    def sample(self, count: int, /) -> NDArray[np.float32]: ...


class Found(NamedTuple):
    """An image near a query: its row, the cosine, and the bits of the code that differ."""

    row: ImageRow
    cosine: float
    bits: int


def as_hits(
    found: list[Found], root: Path, code_bits: int, pairs: PairStatistics | WordScale | None
) -> Hits:
    """As users see them."""
    shares = rarities(pairs, [item.cosine for item in found])
    near = Hits(
        Hit(
            **item.row.facts(),
            file=root / os.fsdecode(item.row.path),
            cosine=item.cosine,
            bits=item.bits,
            code_bits=code_bits,
            rarity=rarity,
        )
        for item, rarity in zip(found, shares, strict=True)
    )
    near.is_chance = bool(near) and pairs is not None and pairs.is_chance(near[0].cosine)
    return near


def nearest_rows(
    search: Search,
    rows_of: Callable[[list[int]], Mapping[int, ImageRow]],
    query: NDArray[np.float32],
    k: int,
    without: Set[int] | bytes | None,
    *,
    allowed: NDArray[np.int64] | None,
    exact: bool | None,
) -> tuple[list[tuple[ImageRow, float]], int]:
    """The ``k`` nearest images, best first, with their cosines; and how many ids had no row.
    ``without``: ids, or the content hash, of images to leave out."""

    ids_out: Set[int] = without if isinstance(without, Set) else frozenset()
    hash_out = without if isinstance(without, bytes) else b""
    wanted = k + (len(ids_out) or bool(hash_out))
    while True:
        ids, cosines = search(query, wanted, allowed=allowed, exact=exact)
        numbers = ids[ids >= 0].tolist()
        rows = rows_of(numbers)
        found = [
            (rows[number], cosine)
            for number, cosine in zip(numbers, cosines.tolist(), strict=False)
            if number in rows and number not in ids_out and rows[number].hash != hash_out
        ]
        if len(found) >= k or len(numbers) < wanted:
            return found[:k], len(numbers) - len(rows)
        wanted *= 2


# ---- whether searches are expanded ---------------------------------------------------------------


MEASURED: Mapping[tuple[str, str], Expansion] = {
    ("lookalike-general", "2"): Expansion(),
    ("lookalike-general", "3"): Expansion(),
    ("lookalike-general", "3-int8"): Expansion(),
}
"""Models, by name and version, of which expansion was measured to find more, and with what."""


def measured(model: ModelInfo) -> Expansion | None:
    """What searches with this model are expanded with by default; None: they are not."""
    return MEASURED.get((model.name, model.version))


def expanded(
    index: LSHIndex,
    graph: NeighbourGraph | None,
    default: Expansion | None,
    expand: bool | None,
    threshold: float | None,
    directory: Path,
) -> Search | None:
    """An expanded search of the index; None if it is not to be expanded.

    Args:
        default: that of the model.
        expand: None: if the model has a default and there is a graph.
        threshold: as of `Gallery.search`.
        directory: the gallery's, for the error.

    Raises:
        NoNeighboursError: it is to be, and there is no graph.
    """
    if expand is False or (expand is None and default is None):
        return None
    if graph is None:
        if expand and len(index) > 1:
            raise NoNeighboursError(
                "the gallery has no neighbour graph to expand searches with (older, deleted or "
                f"damaged); make one with: {command('update', directory)}"
            )
        return None
    least = -2.0 if threshold is None else smallest_cosine(threshold)
    return partial(search_expanded, index, graph, default or Expansion(), least=least)
