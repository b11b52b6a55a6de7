"""The gallery's model, for many requests at once."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, EncoderSettings
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.web.metrics import Metrics
from lookalike.web.workers import WorkerPool

__all__ = ["CHANNEL", "SPATIAL", "Model"]

SPATIAL, CHANNEL = "spatial_attention", "channel_attention"
"""Further outputs of models that show where, and at which features, they look."""


class Model:
    """Each run has one thread, and there are as many runs at once as cores.

    So no thread waits for another within a layer, as those of a run that uses all cores do, most of
    all if the cores have other work. An image that comes alone takes some milliseconds longer.
    """

    def __init__(self, gallery: ImageGallery, pool: WorkerPool, metrics: Metrics) -> None:
        """``pool``: of as many workers as cores."""
        self._gallery = gallery
        self._pool = pool
        self._metrics = metrics
        self._opening = asyncio.Lock()
        self._same: ImageGallery | None = None
        self._encoder: tuple[GallerySnapshot, Encoder] | None = None

    async def encoder(self, snapshot: GallerySnapshot) -> Encoder:
        """The model, opened once; whenever the gallery has changed, it must still be the gallery's.

        Raises:
            ModelMismatchError: it is not; ModelError: it cannot be opened.
        """
        async with self._opening:
            if self._encoder is None or self._encoder[0] is not snapshot:
                self._encoder = snapshot, await self._pool.run(self._open)
            return self._encoder[1]

    def _open(self) -> Encoder:
        """From the same gallery, opened again: that of updates uses all cores for one batch."""
        if self._same is None:
            self._same = self._gallery.reopened(EncoderSettings(threads=1))
        return self._same.encoder()

    async def embed(self, encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, s, s, 3) -> unit rows (n, dim); several images are shared among the cores."""

        def run(some: NDArray[np.uint8]) -> NDArray[np.float32]:
            began = time.perf_counter()
            rows = encoder.embed(some)
            self._metrics.encode.observe(time.perf_counter() - began)
            return rows

        parts = np.array_split(pixels, min(len(pixels), self._pool.workers))
        return np.concatenate(await asyncio.gather(*(self._pool.run(run, part) for part in parts)))
