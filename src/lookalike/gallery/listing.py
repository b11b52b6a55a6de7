"""A gallery's images as rows and arrays, for programs and notebooks that go on with them."""

from __future__ import annotations

import base64
import html
import importlib
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import MissingExtraError
from lookalike.gallery.hits import Hit
from lookalike.gallery.rows import ImageRow

ALL = 1 << 40
SHOWN = 12
SHOWN_SIDE = 160


@dataclass(frozen=True)
class GalleryImage:
    """An indexed image: ``path`` in the gallery, ``file`` on disk, pixels of the upright image,
    ``format`` of its content, ``bytes`` of the file, when that was changed (local time), and when
    the photograph was taken by the camera's clock, None if the file does not say."""

    id: int
    path: str
    file: Path
    width: int
    height: int
    format: str
    bytes: int
    changed: datetime
    taken: datetime | None = None

    @classmethod
    def of(cls, row: ImageRow, root: Path) -> Self:
        changed = datetime.fromtimestamp(row.mtime_ns / 1e9)
        taken = datetime(1970, 1, 1) + timedelta(seconds=row.taken) if row.taken else None
        file = root / os.fsdecode(row.path)
        return cls(**row.facts(), file=file, bytes=row.size, changed=changed, taken=taken)


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
        return figures((hit.file, f"{hit.cosine:.3f} {hit.path}") for hit in self[: 2 * SHOWN])


def package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"this needs {name}: pip install {name}") from error


def figures(images: Iterable[tuple[Path, str]]) -> str:
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
