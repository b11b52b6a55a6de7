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
from lookalike.gallery.query import Query
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import Found, NearOptions, SearchOptions
from lookalike.progress import Progress

if TYPE_CHECKING:
    from lookalike.encoder import Encoder
    from lookalike.gallery.duplicates import Duplicates
    from lookalike.gallery.report import GalleryInfo
    from lookalike.lsh import LSHIndex, LSHSettings
    from lookalike.lsh.tuning import TuneReport

Path_ = str | os.PathLike[str]


class GallerySnapshot(Protocol):
    """A committed state, as `lookalike.gallery.reader.Snapshot` has it."""

    @property
    def pairs(self) -> PairStatistics | None: ...

    @property
    def code_bits(self) -> int: ...

    @property
    def local_index(self) -> LSHIndex | None:
        """The index, if it is on this machine."""

    @property
    def changed(self) -> float | None:
        """When the gallery changed last, in seconds since the epoch, if that is known."""

    def __len__(self) -> int: ...

    def has(self, number: int) -> bool: ...

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]: ...

    def sample(self, count: int) -> NDArray[np.float32]: ...

    def row(self, number: int) -> ImageRow | None: ...

    def rows(self, ids: Iterable[int]) -> dict[int, ImageRow]: ...

    def page(
        self, pattern: str | None, offset: int, limit: int, order: str = "path"
    ) -> tuple[list[ImageRow], int]: ...

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]: ...

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]: ...

    def search(
        self, query: NDArray[np.float32], k: int, **options: Unpack[NearOptions]
    ) -> list[Found]: ...


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
    def search(self, query: Query, k: int = 10, **how: Unpack[SearchOptions]) -> Hits: ...

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
