"""What a request compares with: an image of the gallery or one that was sent, or a part of it."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
from cachetools import LRUCache, TTLCache
from numpy.typing import NDArray
from PIL import Image

from lookalike.encoder import Encoder
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rarity import SAMPLE, WordScale, combine
from lookalike.gallery.rows import ImageRow
from lookalike.web.errors import ApiError
from lookalike.web.model import SPATIAL, Model
from lookalike.web.originals import read_original
from lookalike.web.requests import Crop, Key, QueryRef, SearchRequest
from lookalike.web.settings import ServeSettings
from lookalike.web.workers import Decoded, Workers

LONGEST_SIDE = 2048
"""Of the images that parts are cut from, pixels."""
GRID = 4
TILE = 0.4
"""Side of a tile, as a share of the image's; GRID of them, half overlapping, cover it."""
KEPT_EMBEDDINGS = 512
KEPT_PARTS = 64
KEPT_IMAGES = 8
KEPT_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class QueryImage:
    """What is searched for.

    Attributes:
        embedding: unit vector, float32 (dim,).
        own: its id if it is a whole image of the gallery.
        content_hash: of the file that it comes from.
        seconds: spent in the model.
        scale: how cosines are to be read if there are words in it.
    """

    embedding: NDArray[np.float32]
    own: int | None
    content_hash: bytes
    seconds: float
    scale: WordScale | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """Of one image.

    Attributes:
        tiles: unit embeddings of its tiles, row by row, float32 (GRID^2, dim).
        gate: spatial gate of the model's attention, float32 (rows, columns), each within 0..1; None
            if the model has none.
    """

    tiles: NDArray[np.float32]
    gate: NDArray[np.float32] | None


class QueryImages:
    """Finds them, and remembers what was decoded and encoded. For the event loop's thread."""

    def __init__(self, root: Path, settings: ServeSettings, model: Model, workers: Workers) -> None:
        """``root``: the gallery's folder."""
        self._root = root
        self._settings = settings
        self._model = model
        self._workers = workers
        self._embeddings: LRUCache[Key, NDArray[np.float32]] = LRUCache(KEPT_EMBEDDINGS)
        self._parts: LRUCache[Key, Parts] = LRUCache(KEPT_PARTS)
        self._images: LRUCache[int, Image.Image] = LRUCache(KEPT_IMAGES)
        self._sent: TTLCache[str, Decoded] = TTLCache(
            KEPT_BYTES, settings.query_seconds, getsizeof=attrgetter("nbytes")
        )

    async def row(self, number: int, snapshot: GallerySnapshot) -> ImageRow:
        """The indexed image of this id. ApiError not_found if it was forged, or has gone."""
        if snapshot.local_index is not None:  # which takes less time than asking a thread
            row = snapshot.row(number)
        else:
            row = await self._workers.searches.run(snapshot.row, number)
        if row is None:
            message = f"there is no image {number}"
            raise ApiError("not_found", message, "search again: the gallery may have changed")
        return row

    async def find(self, asked: QueryRef, snapshot: GallerySnapshot) -> QueryImage:
        """Raises ApiError not_found, conflict, busy or timeout; SkippedImageError.

        A whole image of the gallery needs neither its file nor the model.
        """
        pixels = None
        if asked.id is not None:
            content_hash = (await self.row(asked.id, snapshot)).hash or b""
            if asked.crop is None:
                with suppress(KeyError):  # of a commit in progress: it is read from its file
                    return QueryImage(snapshot.vectors([asked.id])[0], asked.id, content_hash, 0.0)
        else:
            stored = self.sent(asked.query or "")
            content_hash = stored.content_hash
            pixels = stored.pixels if asked.crop is None else None
        known = self._embeddings.get(asked.key)
        if known is not None:
            return QueryImage(known, None, content_hash, 0.0)
        encoder = await self._model.encoder(snapshot)
        if pixels is None:
            pixels = squeeze(await self.image(asked, snapshot), encoder.info.input_size)
        embedding, seconds = await self._embed(encoder, pixels)
        self._embeddings[asked.key] = embedding
        return QueryImage(embedding, None, content_hash, seconds)

    async def find_together(self, asked: SearchRequest, snapshot: GallerySnapshot) -> QueryImage:
        """With its words and further images, as one direction. Raises as `find`, NoWordsError, and
        ApiError bad_request for too many words, or parts that cancel each other."""
        image = None
        if asked.id is not None or asked.query is not None:
            image = await self.find(asked, snapshot)
            if asked.text is None and not (asked.like or asked.unlike):
                return image
        for number in (*asked.like, *asked.unlike):
            await self.row(number, snapshot)  # or there is no such image
        like, unlike = await self._workers.searches.run(
            lambda: (list(snapshot.vectors(asked.like)), list(snapshot.vectors(asked.unlike)))
        )
        content_hash, seconds = b"", 0.0
        if image is not None:
            like.insert(0, image.embedding)
            content_hash, seconds = image.content_hash, image.seconds
        try:
            if asked.text is None:
                return QueryImage(combine(like, unlike), None, content_hash, seconds)
            encoder = await self._model.encoder(snapshot)
            began = time.perf_counter()
            scale = await self._workers.model.run(
                _scale, encoder, asked.text, like, unlike, snapshot
            )
        except ValueError as error:
            raise ApiError("bad_request", str(error), "leave something out") from error
        seconds += time.perf_counter() - began
        return QueryImage(scale.vector, None, content_hash, seconds, scale)

    async def of_upload(
        self, content: bytes, crop: Crop | None, snapshot: GallerySnapshot
    ) -> QueryImage:
        """Of an image in the body of the request; raises as `find`."""
        encoder = await self._model.encoder(snapshot)
        size, side = encoder.info.input_size, 0 if crop is None else LONGEST_SIDE
        decoded = await self._workers.uploads.image(content, size=size, side=side)
        pixels = decoded.pixels if crop is None else squeeze(cut(decoded.image, crop), size)
        embedding, seconds = await self._embed(encoder, pixels)
        return QueryImage(embedding, None, decoded.content_hash, seconds)

    async def image(self, asked: QueryRef, snapshot: GallerySnapshot) -> Image.Image:
        """The image, or the part of it, upright, RGB, longest side at most LONGEST_SIDE."""
        if asked.id is None:
            image = self.sent(asked.query or "").image
        elif asked.id in self._images:
            image = self._images[asked.id]
        else:
            row = await self.row(asked.id, snapshot)
            content = await self._workers.files.run(read_original, self._root, row)
            decoded = await self._workers.own_images.image(content, size=0, side=LONGEST_SIDE)
            image = self._images[asked.id] = decoded.image
        return image if asked.crop is None else cut(image, asked.crop)

    async def parts(self, asked: QueryRef, snapshot: GallerySnapshot) -> Parts:
        """What its parts are like; raises as `find`. Works with any model: it sees only images."""
        known = self._parts.get(asked.key)
        if known is None:
            encoder = await self._model.encoder(snapshot)
            image = await self.image(asked, snapshot)
            size, run = encoder.info.input_size, self._workers.searches.run
            tiles = await self._model.embed(encoder, await run(_tiles, image, size))
            gate = None
            if SPATIAL in encoder.outputs:
                pixels = await run(squeeze, image, size)
                gate = await self._workers.model.run(encoder.output, SPATIAL, pixels)
            known = self._parts[asked.key] = Parts(tiles, gate)
        return known

    async def store(self, content: bytes, snapshot: GallerySnapshot) -> tuple[str, Decoded]:
        """Keep an image to search with; returns its name and the image.

        Names are random, so that no client can guess another's image. Of too many or too large
        ones, those not used longest go first.
        """
        size = (await self._model.encoder(snapshot)).info.input_size
        decoded = await self._workers.uploads.image(content, size=size, side=LONGEST_SIDE)
        name = f"q_{secrets.token_hex(16)}"
        while len(self._sent) >= self._settings.max_queries:
            self._sent.popitem()
        self._sent[name] = decoded
        return name, decoded

    def sent(self, name: str) -> Decoded:
        """An image of `store`. ApiError not_found if it never was, or is not kept any more."""
        decoded = self._sent.pop(name, None)
        if decoded is None:
            message = "the image to search with is not kept any more"
            raise ApiError("not_found", message, "send it again")
        self._sent[name] = decoded  # its time begins again
        return decoded

    async def _embed(
        self, encoder: Encoder, pixels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], float]:
        """The embedding, and seconds for it."""
        began = time.perf_counter()
        (embedding,) = await self._model.embed(encoder, pixels[np.newaxis])
        return embedding, time.perf_counter() - began


def _scale(
    encoder: Encoder,
    text: str,
    like: Sequence[NDArray[np.float32]],
    unlike: Sequence[NDArray[np.float32]],
    snapshot: GallerySnapshot,
) -> WordScale:
    """Of words with images that hits should look like, and should not: embeddings (dim,)."""
    words = encoder.words()
    above, below = ([(vector, False) for vector in some] for some in (like, unlike))
    above.append((words.embed(text), True))
    return WordScale(snapshot.sample(SAMPLE), words.prompts, above, below)


def cut(image: Image.Image, crop: Crop) -> Image.Image:
    """The part x, y, width, height (shares 0..1) of an upright image; at least one pixel."""
    x, y, width, height = crop
    left = min(math.floor(x * image.width + 1e-6), image.width - 1)
    top = min(math.floor(y * image.height + 1e-6), image.height - 1)
    right = max(left + 1, min(image.width, math.ceil((x + width) * image.width - 1e-6)))
    bottom = max(top + 1, min(image.height, math.ceil((y + height) * image.height - 1e-6)))
    return image.crop((left, top, right, bottom))


def squeeze(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """RGB -> uint8 (size, size, 3), as `read_image` does it."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(image)


def _tiles(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """uint8 (GRID^2, size, size, 3), row by row."""
    starts = np.linspace(0, 1 - TILE, GRID).tolist()
    return np.stack([squeeze(cut(image, (x, y, TILE, TILE)), size) for y in starts for x in starts])
