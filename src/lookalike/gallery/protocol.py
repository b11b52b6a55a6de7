"""What the command and the web page ask of a gallery, wherever its images are searched."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.gallery.hits import check_count, smallest_cosine
from lookalike.gallery.keep import COPIES, ORIGINAL, KeepRule, Kind
from lookalike.gallery.listing import (
    ALL,
    SHOWN,
    Embeddings,
    GalleryImage,
    Hits,
    figures,
    package,
)
from lookalike.gallery.query import Query, embed_queries, with_text
from lookalike.gallery.rarity import EXACT_UP_TO, PairStatistics
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import (
    Found,
    NearOptions,
    SearchOptions,
    StoredVectors,
    Table,
    as_hits,
)
from lookalike.progress import Progress

if TYPE_CHECKING:
    from lookalike.encoder import Encoder
    from lookalike.gallery.duplicates import Duplicates
    from lookalike.gallery.report import GalleryInfo
    from lookalike.images.decoder import Limits
    from lookalike.lsh import LSHIndex, LSHSettings
    from lookalike.lsh.tuning import TuneReport

Path_ = str | os.PathLike[str]
KEPT_ROWS = 100_000


class GallerySnapshot(Protocol):
    """A committed state, as `lookalike.gallery.reader.Snapshot` has it; rows are kept that were
    read.

    Attributes:
        pairs: what random pairs are like; None: fewer than two images.
        code_bits: bits of a code.
        local_index: the index, if it is on this machine.
        changed: when the gallery changed last, in seconds since the epoch, if that is known.
    """

    pairs: PairStatistics | None
    code_bits: int
    local_index: LSHIndex | None
    changed: float | None
    _rows: dict[int, ImageRow]

    def __len__(self) -> int: ...

    def has(self, number: int) -> bool: ...

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]: ...

    def sample(self, count: int) -> NDArray[np.float32]: ...

    def read_rows(self, ids: list[int]) -> dict[int, ImageRow]:
        """Those of the ``ids`` that exist; may be of skipped files."""

    def row(self, number: int) -> ImageRow | None:
        """The indexed image of this id, None if there is none."""
        return self.rows([number]).get(number)

    def rows(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """The indexed images of those ``ids`` that exist; in their order."""
        wanted, kept = list(ids), self._rows
        unknown = [number for number in wanted if number not in kept]
        if unknown:
            kept = self.keep(self.read_rows(unknown).values(), wanted)
        return {number: kept[number] for number in wanted if number in kept}

    def keep(self, rows: Collection[ImageRow], wanted: Iterable[int] = ()) -> dict[int, ImageRow]:
        """Keep these, in place of all but the ``wanted`` if there are too many; returns all."""
        kept = self._rows
        if len(kept) + len(rows) > KEPT_ROWS:
            self._rows = kept = {number: kept[number] for number in wanted if number in kept}
        kept.update((row.id, row) for row in rows if row.skipped is None)
        return kept

    def page(
        self, pattern: str | None, offset: int, limit: int, order: str = "path"
    ) -> tuple[list[ImageRow], int]: ...

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]: ...

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]: ...

    def search(
        self, query: NDArray[np.float32], k: int, **options: Unpack[NearOptions]
    ) -> list[Found]: ...

    def find(
        self,
        table: Table,
        vectors: StoredVectors,
        root: Path,
        queries: Sequence[Query],
        k: int,
        encoder: Callable[[], Encoder],
        limits: Limits,
        how: SearchOptions,
    ) -> list[Hits]:
        """What `Gallery.search` finds for each query; the gallery's table and vectors say what an
        indexed image is."""
        results = []
        for vector, own, scale in embed_queries(table, vectors, root, queries, encoder, limits):
            found = self.search(
                vector,
                min(k, len(self) + 1),
                without=own if how.get("exclude_self") else None,
                filter=how.get("filter"),
                threshold=how.get("threshold"),
                exact=True if scale and len(self) <= EXACT_UP_TO else how.get("exact", False),
                expand=False if scale else how.get("expand"),
            )
            results.append(as_hits(found, root, self.code_bits, scale or self.pairs))
        return results


class GalleryReader(Protocol):
    """As `lookalike.gallery.reader.Reader`."""

    def now(self) -> GallerySnapshot: ...

    def unchanged(self) -> GallerySnapshot | None: ...


class ImageGallery(Protocol):
    """What `lookalike.gallery.Gallery`, which explains each method, and a gallery in shards have in
    common. ``filter``: see `parse_filter`."""

    max_pixels: int
    """Larger images are skipped."""

    @property
    def root(self) -> Path: ...

    @property
    def directory(self) -> Path: ...

    def __len__(self) -> int: ...

    def __contains__(self, path: object) -> bool: ...

    def update(
        self,
        progress: Callable[[Progress], None] | None = None,
        *,
        wait: float = 0.0,
        accept_missing: bool = False,
    ) -> UpdateReport: ...

    def remove(self, paths: Sequence[Path_]) -> int: ...

    def restore(self, paths: Sequence[Path_]) -> int: ...

    @overload
    def search(self, query: list[Any], k: int = 10, **how: Unpack[SearchOptions]) -> list[Hits]: ...

    @overload
    def search(
        self, query: Query | None = None, k: int = 10, **how: Unpack[SearchOptions]
    ) -> Hits: ...

    def search(
        self,
        query: Query | list[Any] | None = None,
        k: int = 10,
        *,
        threshold: float | None = None,
        filter: str | None = None,
        exclude_self: bool = False,
        exact: bool | None = False,
        text: str | None = None,
        expand: bool | None = None,
    ) -> Hits | list[Hits]:
        """The ``k`` images most like the query, best first; fewer if there are fewer.

        Args:
            query: path of an image file (in the gallery or not), an image file's bytes, an open
                file, a Pillow image, pixels uint8 (height, width, 3), or an embedding, float
                (dim,); `Words`, if the gallery's model knows them; a `Blend` of several; or a list
                of any of these, whose images are read side by side, for a list with the hits of
                each.
            threshold: smallest cosine of a hit; 1: what is equal but for rounding, see
                `smallest_cosine`.
            filter: words or patterns of the path, dates, sizes (see `parse_filter`), applied
                before the cut to k.
            exclude_self: leave out the query itself and files of the same content.
            exact: compare with every image instead of those in the probed buckets. None: if they
                are few, for a process that searches once; see `LSHIndex.search`. Words are
                compared with every image of up to 100,000.
            text: words, instead of a query or together with one, as a `Blend` of both.
            expand: True: reorder the hits by what their own neighbours are, see
                `lookalike.lsh.expand.Expansion`; False: by cosine alone. None: where that was
                measured to find more with the gallery's model, and there is a neighbour graph.
                Hits of words stay as they are.

        Raises:
            ValueError: k below 1 or not whole, a threshold that is not from -1 to 1, or an
                ``expand`` that is not as above; an array that is neither pixels nor an embedding;
                queries of a `Blend` that cancel each other.
            GalleryError: the query is neither a file nor an indexed image; a filter that cannot be
                understood; no neighbour graph to ``expand`` with.
            ModelMismatchError: a model was given to `open` that is not the gallery's.
            SkippedImageError: the query cannot be read.
            NoWordsError: the gallery's model knows images alone; MissingExtraError: the package
                tokenizers is missing.
        """
        check_count("k", k)
        if threshold is not None:
            smallest_cosine(threshold)
        if expand not in (None, True, False):
            raise ValueError(f"expand is {expand!r}; it must be True, False or None")
        how: SearchOptions = {
            "threshold": threshold,
            "filter": filter,
            "exclude_self": exclude_self,
            "exact": exact,
            "expand": expand,
        }
        results = self.find(with_text(query, text), k, how)
        return results if isinstance(query, list) else results[0]

    def find(self, queries: Sequence[Query], k: int, how: SearchOptions) -> list[Hits]:
        """The hits of each query, for `search`."""

    def encode(self, images: Iterable[Query]) -> NDArray[np.float32]: ...

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        kinds: Collection[Kind] = COPIES,
        keep: KeepRule = ORIGINAL,
        reference: Path_ | None = None,
        filter: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Duplicates: ...

    def tune(
        self, target_recall: float = 0.95, k: int = 10, *, force: bool = False
    ) -> TuneReport: ...

    def reset_tuning(self) -> LSHSettings: ...

    def reader(self) -> GalleryReader: ...

    def encoder(self) -> Encoder: ...

    def info(self) -> GalleryInfo: ...

    def unfinished(self) -> bool: ...

    def skipped(self) -> list[ImageRow]: ...

    def verify(self, *, contents: bool = False) -> list[str]: ...

    def close(self) -> None:
        """Let go of open files; the next call opens them again."""

    # ---- what a program reads of it --------------------------------------------------------------

    def images(self, filter: str | None = None) -> list[GalleryImage]:
        """The indexed images, by path.

        Raises:
            GalleryError: the filter cannot be understood.
        """
        rows, _ = self.reader().now().page(filter, 0, ALL)
        return [GalleryImage.of(row, self.root) for row in rows]

    def embeddings(self, filter: str | None = None) -> Embeddings:
        """The stored embeddings, by path; raises as `images`."""
        snapshot = self.reader().now()
        rows, _ = snapshot.page(filter, 0, ALL)
        rows = [row for row in rows if snapshot.has(row.id)]  # committed a moment ago
        ids = [row.id for row in rows]
        paths = [os.fsdecode(row.path) for row in rows]
        return Embeddings(np.array(ids, np.int64), paths, snapshot.vectors(ids))

    def to_pandas(self, filter: str | None = None) -> Any:
        """A pandas DataFrame of `images`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return package("pandas").DataFrame(self._columns(filter))

    def to_arrow(self, filter: str | None = None) -> Any:
        """A pyarrow Table of `images`.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        return package("pyarrow").table(self._columns(filter))

    def _columns(self, filter: str | None) -> dict[str, list[Any]]:
        rows = [{**asdict(image), "file": os.fspath(image.file)} for image in self.images(filter)]
        names = GalleryImage.__dataclass_fields__
        return {name: [row[name] for row in rows] for name in names}

    def __iter__(self) -> Iterator[GalleryImage]:
        return iter(self.images())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            count = f"{len(self):,} images"
        except (LookalikeError, OSError):
            count = "cannot be read"
        return f"<{type(self).__name__} of {self.root}: {count}>"

    def _repr_html_(self) -> str:
        rows, _ = self.reader().now().page(None, 0, SHOWN)
        shown = [GalleryImage.of(row, self.root) for row in rows]
        return f"<p>{html.escape(repr(self)[1:-1])}</p>" + figures((i.file, i.path) for i in shown)
