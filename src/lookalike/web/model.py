"""The gallery's model, for many requests at once."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.web.metrics import Metrics
from lookalike.web.workers import WorkerPool

SPATIAL, CHANNEL = "spatial_attention", "channel_attention"
"""Further outputs of models that show where, and at which features, they look."""


class Model:
    """It is the gallery's own, which updates use as well."""

    def __init__(self, gallery: ImageGallery, pool: WorkerPool, metrics: Metrics) -> None:
        """``pool``: of as many workers as cores."""
        self._gallery = gallery
        self._pool = pool
        self._metrics = metrics
        self._opening = asyncio.Lock()
        self._encoder: tuple[GallerySnapshot, Encoder] | None = None

    async def encoder(self, snapshot: GallerySnapshot) -> Encoder:
        """The model, opened once; whenever the gallery has changed, it must still be the gallery's.

        Raises:
            ModelMismatchError: it is not; ModelError: it cannot be opened.
        """
        async with self._opening:
            if self._encoder is None or self._encoder[0] is not snapshot:
                self._encoder = snapshot, await self._pool.run(self._gallery.encoder)
            return self._encoder[1]

    async def embed(self, encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, s, s, 3) -> unit rows (n, dim)."""

        def run() -> NDArray[np.float32]:
            began = time.perf_counter()
            rows = encoder.embed(pixels)
            self._metrics.encode.observe(time.perf_counter() - began)
            return rows

        return await self._pool.run(run)
