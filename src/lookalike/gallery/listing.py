"""A gallery's images as rows and arrays, for programs and notebooks that go on with them."""

from __future__ import annotations

import base64
import html
import importlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError, MissingExtraError
from lookalike.gallery.hits import Hit
from lookalike.gallery.rows import ImageRow

if TYPE_CHECKING:
    from lookalike.gallery.protocol import GalleryReader

ALL = 1 << 40
SHOWN = 12
SHOWN_SIDE = 160


@dataclass(frozen=True)
class GalleryImage:
    """An indexed image: ``path`` in the gallery, ``file`` on disk, pixels of the upright image,
    ``format`` of its content, ``bytes`` of the file, and when that was changed (local time)."""

    id: int
    path: str
    file: Path
    width: int
    height: int
    format: str
    bytes: int
    changed: datetime

    @classmethod
    def of(cls, row: ImageRow, root: Path) -> Self:
        path = os.fsdecode(row.path)
        size = row.width or 0, row.height or 0
        changed = datetime.fromtimestamp(row.mtime_ns / 1e9)
        return cls(row.id, path, root / path, *size, row.format or "", row.size, changed)


class Embeddings(NamedTuple):
    """Of n images by path: ids int64 (n,), paths, unit vectors float32 (n, dim)."""

    ids: NDArray[np.int64]
    paths: list[str]
    vectors: NDArray[np.float32]


class Hits(list[Hit]):
    """Hits, best first; a notebook shows their images.

    Attributes:
        is_chance: whether even the best one is no more alike than what has nothing to do with the
            query: random pairs of images, or words about other things.
    """

    is_chance = False

    def _repr_html_(self) -> str:
        return _figures((hit.file, f"{hit.cosine:.3f} {hit.path}") for hit in self[: 2 * SHOWN])


class ImageCollection(ABC):
    """What a program reads of a gallery, on disk or in shards. ``filter``: see `parse_filter`."""

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that paths are relative to."""

    @abstractmethod
    def reader(self) -> GalleryReader: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def close(self) -> None:
        """Let go of open files; the next call opens them again."""

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
        return _package("pandas").DataFrame(self._columns(filter))

    def to_arrow(self, filter: str | None = None) -> Any:
        """A pyarrow Table of `images`.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        return _package("pyarrow").table(self._columns(filter))

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
        return f"<p>{html.escape(repr(self)[1:-1])}</p>" + _figures((i.file, i.path) for i in shown)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"this needs {name}: pip install {name}") from error


def _figures(images: Iterable[tuple[Path, str]]) -> str:
    """Thumbnails of files with captions, as HTML; a file that cannot be read has none."""
    from lookalike.images import SkippedImageError
    from lookalike.images.decoder import Decoder

    figures = []
    with Decoder() as decoder:
        for file, caption in images:
            text, shown = html.escape(caption.encode("utf-8", "replace").decode()), ""
            with suppress(SkippedImageError), io.BytesIO() as out:
                decoder.read_rgb(file, longest_side=SHOWN_SIDE).save(out, "WEBP", quality=80)
                data = base64.b64encode(out.getvalue()).decode()
                shown = f'<img src="data:image/webp;base64,{data}" alt="">'
            figures.append(
                f'<figure style="display:inline-block;margin:4px;width:{SHOWN_SIDE}px;'
                f'overflow-wrap:anywhere">{shown}<figcaption>{text}</figcaption></figure>'
            )
    return "".join(figures)
