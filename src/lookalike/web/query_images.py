"""What a request compares with: its embedding and its picture."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.web import schemas
from lookalike.web.crop import cut, squeeze
from lookalike.web.originals import read_original
from lookalike.web.queries import StoredQuery
from lookalike.web.schemas import Crop

if TYPE_CHECKING:
    from lookalike.web.service import Service

__all__ = ["PICTURE_SIDE", "Key", "QueryImage", "QueryImages"]

PICTURE_SIDE = 2048
"""Longest side of the pictures that parts are cut from."""
KEPT_EMBEDDINGS = 512
KEPT_PICTURES = 8
Key = tuple[int | str, Crop | None]


@dataclass(frozen=True, eq=False)
class QueryImage:
    """What is searched for.

    Attributes:
        embedding: unit vector, float32 (dim,).
        own: its id if it is a whole image of the gallery.
        content_hash: of the file that it comes from.
        seconds: spent in the model.
    """

    embedding: NDArray[np.float32]
    own: int | None
    content_hash: bytes
    seconds: float


class QueryImages:
    """Finds them, and remembers what was encoded. For the event loop's thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._embeddings: LRUCache[Key, NDArray[np.float32]] = LRUCache(KEPT_EMBEDDINGS)
        self._pictures: LRUCache[int, Image.Image] = LRUCache(KEPT_PICTURES)

    async def find(self, asked: schemas.QueryRef, snapshot: GallerySnapshot) -> QueryImage:
        """Raises ApiError not_found, conflict, busy or timeout; SkippedImageError.

        A whole image of the gallery needs neither its file nor the model.
        """
        service = self._service
        if asked.query is not None:
            stored = service.queries.get(asked.query)
            key = (asked.query, asked.crop)
            embedding, seconds = await self._of_query(key, stored)
            return QueryImage(embedding, None, stored.content_hash, seconds)
        number = asked.id
        assert number is not None
        row = await service.row(number)
        if asked.crop is None and snapshot.has(number):
            return QueryImage(snapshot.vectors([number])[0], number, row.hash or b"", 0.0)
        picture = await self.picture(asked)
        embedding, seconds = await self._embed((number, asked.crop), picture)
        return QueryImage(embedding, None, row.hash or b"", seconds)

    async def of_upload(self, content: bytes, crop: Crop | None) -> QueryImage:
        """Of a picture in the body of the request."""
        side = 0 if crop is None else PICTURE_SIDE
        size = await self.input_size()
        decoded = await self._service.uploads.picture(content, size=size, side=side)
        began = time.perf_counter()
        if crop is None:
            pixels = decoded.pixels
        else:
            assert decoded.image is not None
            pixels = squeeze(cut(decoded.image, crop), size)
        assert pixels is not None
        (embedding,) = await self._service.model.embed(pixels[np.newaxis])
        return QueryImage(embedding, None, decoded.content_hash, time.perf_counter() - began)

    async def picture(self, asked: schemas.QueryRef) -> Image.Image:
        """The picture, or the part of it, upright, RGB, longest side at most PICTURE_SIDE."""
        if asked.query is not None:
            image = self._service.queries.get(asked.query).image
        else:
            assert asked.id is not None
            image = await self._of_gallery(asked.id)
        return image if asked.crop is None else cut(image, asked.crop)

    async def store(self, content: bytes) -> tuple[str, StoredQuery]:
        """Keep an image to search with; returns its name and the image."""
        size = await self.input_size()
        decoded = await self._service.uploads.picture(content, size=size, side=PICTURE_SIDE)
        assert decoded.pixels is not None and decoded.image is not None
        stored = StoredQuery(
            decoded.pixels, decoded.image, decoded.width, decoded.height, decoded.content_hash
        )
        return self._service.queries.add(stored), stored

    async def input_size(self) -> int:
        """Side of the encoder's square, pixels."""
        return (await self._service.model.encoder()).info.input_size

    async def _of_gallery(self, number: int) -> Image.Image:
        known = self._pictures.get(number)
        if known is None:
            service = self._service
            row = await service.row(number)
            content = await service.files.run(read_original, service.gallery.root, row)
            decoded = await service.own_pictures.picture(content, size=0, side=PICTURE_SIDE)
            assert decoded.image is not None
            known = self._pictures[number] = decoded.image
        return known

    async def _of_query(self, key: Key, stored: StoredQuery) -> tuple[NDArray[np.float32], float]:
        crop = key[1]
        if crop is None:
            return await self._embed(key, stored.pixels)
        return await self._embed(key, cut(stored.image, crop))

    async def _embed(
        self, key: Key, picture: Image.Image | NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], float]:
        """The embedding, and seconds for it: none if it is remembered."""
        known = self._embeddings.get(key)
        if known is not None:
            return known, 0.0
        began = time.perf_counter()
        if isinstance(picture, Image.Image):
            picture = squeeze(picture, await self.input_size())
        (embedding,) = await self._service.model.embed(picture[np.newaxis])
        self._embeddings[key] = embedding
        return embedding, time.perf_counter() - began
