"""What all routes share: the gallery, its model, the pools, and what is kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.gallery.rows import ImageRow
from lookalike.images.decoder import Limits
from lookalike.web.body import Bodies
from lookalike.web.errors import ApiError
from lookalike.web.explain import Explanations
from lookalike.web.metrics import Metrics
from lookalike.web.model import Model
from lookalike.web.queries import Queries
from lookalike.web.query_images import QueryImages
from lookalike.web.settings import ServeSettings
from lookalike.web.thumbnails import Thumbnails
from lookalike.web.updates import Updates
from lookalike.web.workers import Decoders, WorkerPool

__all__ = ["Service"]

T = TypeVar("T")
SLOW_WAITING = 4
QUIET = 1.0
"""Seconds between checks whether the server is idle enough to load what searches will need."""
INLINE_UP_TO = 50_000
"""Images up to which a search takes less time than handing it to a thread."""


class Service:
    """One served gallery. Made before the event loop runs; `start` and `stop` are called in it."""

    def __init__(self, gallery: ImageGallery, settings: ServeSettings) -> None:
        self.gallery = gallery
        self.settings = settings
        self.metrics = Metrics()
        self.reader = gallery.reader()
        self.bodies = Bodies(
            settings.max_upload_bytes, settings.max_upload_memory, settings.upload_seconds
        )
        waiting, seconds = settings.waiting, settings.answer_seconds
        self.searches = WorkerPool("searching", settings.search_threads, waiting, seconds)
        self.model = Model(gallery, self.snapshot, self.metrics, waiting, seconds)
        self.slow = WorkerPool("long tasks", 1, SLOW_WAITING, 20 * seconds, abandon=True)
        self.files = WorkerPool("reading files", 8, 8 * waiting, seconds)
        self.uploads = Decoders(
            "decoding",
            settings.decoders,
            waiting,
            limits=Limits(settings.max_upload_pixels, settings.decode_seconds),
            wait=seconds,
        )
        self.own_pictures = Decoders(
            "reading pictures",
            settings.decoders,
            8 * waiting,
            limits=Limits(gallery.max_pixels, settings.decode_seconds),
            wait=seconds,
        )
        self.queries = Queries(settings.max_queries, settings.query_seconds)
        self.query_images = QueryImages(self)
        self.explanations = Explanations(self)
        self.thumbnails = Thumbnails(
            gallery.root,
            gallery.directory,
            settings.max_thumbnail_bytes,
            self.own_pictures,
            self.files,
        )
        self.updates = Updates(gallery)
        self.measured: tuple[tuple[object, ...], dict[str, object]] | None = None
        self.streams = 0
        self.stopping = False
        self._is_loaded = False
        self._warming: asyncio.Task[None] | None = None

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load in the background what the first search would wait for.

        Not while thumbnails are being made for a page that was just opened: loading would take most
        of a second of two cores from them.
        """
        self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        def search() -> bool:
            snapshot = self.reader.now()
            rows, _ = snapshot.page(None, 0, 1)
            if not rows:
                return False
            number = rows[0].id
            (vector,) = snapshot.vectors([number])
            for own in (number, None):
                snapshot.search(vector, 1, own=own)
            return True

        await asyncio.sleep(QUIET)
        while self.own_pictures.pool.taken:
            await asyncio.sleep(QUIET)
        try:
            self._is_loaded = await self.searches.run(search)
            await self.model.encoder()
        except Exception:  # the next request reports it
            return

    def begin_stop(self) -> None:
        """From any thread or a signal: streams end, an update ends itself soon."""
        self.stopping = True

    async def stop(self) -> None:
        """Nothing goes on afterwards."""
        self.begin_stop()
        if self._warming is not None:
            self._warming.cancel()
        await asyncio.to_thread(self.updates.stop)
        for pool in (self.searches, self.model.pool, self.slow, self.files):
            pool.close()
        for decoders in (self.uploads, self.own_pictures):
            await asyncio.to_thread(decoders.close)

    # ---- the gallery -----------------------------------------------------------------------------

    async def snapshot(self) -> GallerySnapshot:
        """The gallery as it is now."""
        known = self.reader.unchanged()
        return await self.searches.run(self.reader.now) if known is None else known

    def searches_inline(self, snapshot: GallerySnapshot) -> bool:
        """Whether a search that needs no file takes less time than handing it to a thread: not the
        first, which loads the compiled kernels."""
        return self._is_loaded and len(snapshot) <= INLINE_UP_TO

    async def on_snapshot(self, function: Callable[[GallerySnapshot], T]) -> T:
        """What ``function``, which may read files, makes of the gallery as it is now."""
        return await self.searches.run(lambda: function(self.reader.now()))

    async def row(self, number: int) -> ImageRow:
        """The indexed image of this id. ApiError not_found."""
        known = self.reader.unchanged()
        if known is not None and known.has_rows([number]):
            row = known.row(number)
        else:
            row = await self.on_snapshot(lambda snapshot: snapshot.row(number))
        if row is None:
            raise unknown_image(number)
        return row


def unknown_image(number: int) -> ApiError:
    """Forged, or forgotten by an update."""
    return ApiError(
        "not_found", f"there is no image {number}", "search again: the gallery may have changed"
    )
