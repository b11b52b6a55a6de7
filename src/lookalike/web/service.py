"""What all routes share: the gallery, its model, the workers, and what is kept in memory."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import Any

from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.web.body import Bodies
from lookalike.web.folders import Folders
from lookalike.web.guard import Guard
from lookalike.web.map import Atlas
from lookalike.web.metrics import Metrics
from lookalike.web.model import Model
from lookalike.web.query_images import QueryImages
from lookalike.web.settings import ServeSettings
from lookalike.web.thumbnails import Thumbnails
from lookalike.web.updates import Updates
from lookalike.web.workers import Workers


class Service:
    """One served gallery. Made before the event loop runs; `warm` and `stop` are called in it."""

    def __init__(self, gallery: ImageGallery, settings: ServeSettings) -> None:
        self.gallery = gallery
        self.settings = settings
        self.guard = Guard(settings)
        self.reader = gallery.reader()
        self.metrics = Metrics()
        self.bodies = Bodies(settings)
        self.workers = Workers(settings, gallery.max_pixels)
        self.model = Model(gallery, self.workers.model, self.metrics)
        self.query_images = QueryImages(gallery.root, settings, self.model, self.workers)
        self.thumbnails = Thumbnails(
            gallery.root, gallery.directory, settings.max_thumbnail_bytes, self.workers
        )
        self.updates = Updates(gallery)
        self.folders = Folders()
        self.atlas = Atlas(self.workers.slow, gallery)
        self.measured: tuple[tuple[object, ...], dict[str, Any]] | None = None
        """Identity of the index that was measured last, and what was found."""
        self.streams = 0
        self.stopping = False
        self.is_loaded = False
        """Whether a search has been made: the first loads the compiled kernels."""

    @cached_property
    def knows_words(self) -> bool:
        """Whether the gallery's model does, which it keeps as long as it is served."""
        return bool(self.gallery.info().model.words)

    async def warm(self) -> None:
        """Load what the first search would wait for."""
        try:
            snapshot = await self.workers.searches.run(self.reader.now)
            self.is_loaded = await self.workers.searches.run(_search_once, snapshot)
            await self.model.encoder(snapshot)
        except Exception:  # the next request reports it
            return

    def begin_stop(self) -> None:
        """From any thread or a signal: streams end, an update ends itself soon."""
        self.stopping = True

    async def stop(self) -> None:
        """Nothing goes on afterwards."""
        self.begin_stop()
        await asyncio.to_thread(self.updates.stop)
        await self.workers.close()


def _search_once(snapshot: GallerySnapshot) -> bool:
    """False if there is nothing to search."""
    rows, _ = snapshot.page(None, 0, 1)
    for row in rows:
        snapshot.search(snapshot.vectors([row.id])[0], 1)
    return bool(rows)
