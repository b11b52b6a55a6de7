"""Pictures that were dropped on the page: in memory, for some minutes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray
from PIL import Image

from lookalike.web.errors import ApiError

__all__ = ["Queries", "StoredQuery"]

MAX_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class StoredQuery:
    """A picture to search with.

    Attributes:
        pixels: for the encoder, uint8 (s, s, 3).
        image: upright RGB, to look at and to cut parts from.
        width, height: of the original.
        content_hash: of the file, as in the gallery's table.
    """

    pixels: NDArray[np.uint8]
    image: Image.Image
    width: int
    height: int
    content_hash: bytes

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.pixels.nbytes + 3 * self.image.width * self.image.height


class Queries:
    """At most so many, so old and so large together; the one not used longest goes first.

    Names are random, so that no client can guess another's image. For the event loop's thread.
    """

    def __init__(
        self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._kept: TTLCache[str, StoredQuery] = TTLCache(
            MAX_BYTES, seconds, clock, attrgetter("size")
        )

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, query: StoredQuery) -> str:
        """Its name."""
        name = f"q_{secrets.token_hex(16)}"
        while len(self._kept) >= self._limit:
            self._kept.popitem()
        self._kept[name] = query
        return name

    def get(self, name: str) -> StoredQuery:
        """ApiError not_found if it never was, or was forgotten."""
        query = self._kept.pop(name, None)
        if query is None:
            raise ApiError(
                "not_found", "the image to search with is not kept any more", "send it again"
            )
        self._kept[name] = query  # its time begins again
        return query
