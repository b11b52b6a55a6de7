"""Pictures that were dropped on the page: in memory, for some minutes."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
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
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, tuple[StoredQuery, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, query: StoredQuery) -> str:
        """Its name."""
        name = f"q_{secrets.token_hex(16)}"
        self._kept[name] = query, self._clock()
        self._forget()
        return name

    def get(self, name: str) -> StoredQuery:
        """ApiError not_found if it never was, or was forgotten."""
        self._forget()
        if name not in self._kept:
            raise ApiError(
                "not_found", "the picture to search with is not kept any more", "send it again"
            )
        query = self._kept[name][0]
        self._kept[name] = query, self._clock()
        self._kept.move_to_end(name)
        return query

    def _forget(self) -> None:
        total = sum(query.size for query, _ in self._kept.values())
        while self._kept:
            name, (query, used) = next(iter(self._kept.items()))
            too_many = len(self._kept) > self._limit
            too_large = total > MAX_BYTES and len(self._kept) > 1
            if not (too_many or too_large or self._clock() - used > self._seconds):
                return
            total -= query.size
            del self._kept[name]
