"""Why two pictures look alike to the model: its attention, and which of their parts agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.web import attention, schemas
from lookalike.web.crop import squeeze
from lookalike.web.regions import compare, tiles

if TYPE_CHECKING:
    from lookalike.web.query_images import Key
    from lookalike.web.service import Service

__all__ = ["Explanations"]

KEPT = 64


@dataclass(frozen=True, eq=False)
class _Local:
    """Of one picture: embeddings of its tiles, (GRID^2, dim), and its gate."""

    tiles: NDArray[np.float32]
    gate: NDArray[np.float32] | None


class Explanations:
    """Computes them, and remembers what it knows of single pictures. For the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: LRUCache[Key, _Local] = LRUCache(KEPT)

    async def explain(
        self, asked: schemas.ExplainRequest, snapshot: GallerySnapshot
    ) -> dict[str, Any]:
        """As `ExplainAnswer`. Raises what `QueryImages.find` does."""
        service = self._service
        encoder = await service.model.encoder()
        query = await service.query_images.find(asked, snapshot)
        other = schemas.QueryRef(id=asked.hit)
        hit = await service.query_images.find(other, snapshot)
        query_local, hit_local = await self._local(asked), await self._local(other)
        gates = None
        if query_local.gate is not None and hit_local.gate is not None:
            gates = {
                "query": attention.as_grid(query_local.gate),
                "hit": attention.as_grid(hit_local.gate),
            }
        unit = query.embedding / np.linalg.norm(query.embedding)  # it may have been rounded
        cosine = float(np.clip(unit @ hit.embedding, -1, 1))
        return {
            "attention": gates,
            "attention_note": attention.note(encoder),
            "regions": compare(query_local.tiles, hit_local.tiles),
            "cosine": round(cosine, 6),
        }

    async def _local(self, asked: schemas.QueryRef) -> _Local:
        name = asked.query if asked.query is not None else asked.id
        assert name is not None
        key = (name, asked.crop)
        known = self._known.get(key)
        if known is None:
            service = self._service
            image = await service.query_images.picture(asked)
            size = await service.query_images.input_size()
            pixels = await service.searches.run(tiles, image, size)
            embeddings = await service.model.embed(pixels)
            whole = await service.searches.run(squeeze, image, size)
            gate = await service.model.gates(whole)
            known = self._known[key] = _Local(embeddings, gate)
        return known
