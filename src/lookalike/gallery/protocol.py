"""What the command and the web page ask of a gallery, wherever its images are searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from lookalike.gallery.keep import COPIES, ORIGINAL, KeepRule, Kind
from lookalike.gallery.query import Query
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import Found, NearOptions, SearchOptions
from lookalike.progress import Progress

if TYPE_CHECKING:
    from lookalike.encoder import Encoder
    from lookalike.gallery.duplicates import Duplicates
    from lookalike.gallery.listing import Embeddings, GalleryImage, Hits
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

    def rarities(self, cosines: Sequence[float]) -> list[float | None]: ...

    def row(self, number: int) -> ImageRow | None: ...

    def rows(self, ids: Iterable[int]) -> dict[int, ImageRow]: ...

    def has_rows(self, ids: Iterable[int]) -> bool: ...

    def page(
        self, pattern: str | None, offset: int, limit: int, order: str = "path"
    ) -> tuple[list[ImageRow], int]: ...

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]: ...

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]: ...

    def search(
        self, query: NDArray[np.float32], k: int, **options: Unpack[NearOptions]
    ) -> list[Found]: ...

    def search_in_memory(
        self, query: NDArray[np.float32], k: int, **options: Unpack[NearOptions]
    ) -> list[Found] | None: ...


class GalleryReader(Protocol):
    """As `lookalike.gallery.reader.Reader`."""

    def now(self) -> GallerySnapshot: ...

    def unchanged(self) -> GallerySnapshot | None: ...


class ImageGallery(Protocol):
    """As `lookalike.gallery.Gallery`, which explains each method."""

    @property
    def root(self) -> Path: ...

    @property
    def directory(self) -> Path: ...

    @property
    def max_pixels(self) -> int: ...

    def __len__(self) -> int: ...

    def __contains__(self, path: object) -> bool: ...

    def __iter__(self) -> Iterator[GalleryImage]: ...

    def embeddings(self, filter: str | None = None) -> Embeddings: ...

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
