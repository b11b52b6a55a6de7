"""The gallery's model, for many requests at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, EncoderSettings
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.lsh.threads import cores
from lookalike.web import attention
from lookalike.web.metrics import Metrics
from lookalike.web.workers import WorkerPool

__all__ = ["Model"]


class Model:
    """Each run has one thread, and there are as many runs at once as cores.

    So no thread waits for another within a layer, as those of a run that uses all cores do, most of
    all if the cores have other work. A picture that comes alone takes some milliseconds longer.
    """

    def __init__(
        self,
        gallery: ImageGallery,
        snapshot: Callable[[], Awaitable[GallerySnapshot]],
        metrics: Metrics,
        waiting: int,
        seconds: float,
    ) -> None:
        """``snapshot``: gives the gallery as it is; ``waiting``, ``seconds``: as `WorkerPool`."""
        self.pool = WorkerPool("the model", cores(), waiting, seconds)
        self._gallery = gallery
        self._snapshot = snapshot
        self._metrics = metrics
        self._opening = asyncio.Lock()
        self._same: ImageGallery | None = None
        self._encoder: tuple[GallerySnapshot, Encoder] | None = None

    async def encoder(self) -> Encoder:
        """The model, opened once; whether it is still the gallery's is asked whenever that has
        changed.

        Raises:
            ModelMismatchError: it is not; ModelError: it cannot be opened.
        """
        snapshot = await self._snapshot()
        async with self._opening:
            if self._encoder is None or self._encoder[0] is not snapshot:
                self._encoder = snapshot, await self.pool.run(self._open)
            return self._encoder[1]

    def _open(self) -> Encoder:
        """From the same gallery, opened again: that of updates uses all cores for one batch."""
        if self._same is None:
            self._same = self._gallery.reopened(EncoderSettings(threads=1))
        return self._same.encoder()

    async def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, s, s, 3) -> unit rows (n, dim); several pictures are shared among the cores."""
        encoder = await self.encoder()

        def run(some: NDArray[np.uint8]) -> NDArray[np.float32]:
            began = time.perf_counter()
            rows = encoder.embed(some)
            self._metrics.encode.observe(time.perf_counter() - began)
            return rows

        parts = np.array_split(pixels, min(len(pixels), cores()))
        return np.concatenate(await asyncio.gather(*(self.pool.run(run, part) for part in parts)))

    async def gates(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """As `attention.gates`."""
        return await self.pool.run(attention.gates, await self.encoder(), pixels)
