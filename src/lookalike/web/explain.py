"""Why two pictures look alike to the model: its attention, and which of their parts agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.web import attention, schemas
from lookalike.web.cropping import squeeze
from lookalike.web.lru import Lru
from lookalike.web.regions import compare, tiles

if TYPE_CHECKING:
    from lookalike.web.service import Service
    from lookalike.web.subjects import Key

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
        self._known: Lru[Key, _Local] = Lru(KEPT)

    async def explain(
        self, asked: schemas.ExplainRequest, snapshot: GallerySnapshot
    ) -> dict[str, Any]:
        """As `ExplainAnswer`. Raises what `Subjects.find` does."""
        service = self._service
        encoder = await service.model.encoder()
        subject = await service.subjects.find(asked, snapshot)
        other = schemas.Subject(id=asked.hit)
        hit = await service.subjects.find(other, snapshot)
        query_local, hit_local = await self._local(asked), await self._local(other)
        gates = None
        if query_local.gate is not None and hit_local.gate is not None:
            gates = {
                "query": attention.as_grid(query_local.gate),
                "hit": attention.as_grid(hit_local.gate),
            }
        unit = subject.embedding / np.linalg.norm(subject.embedding)  # it may have been rounded
        cosine = float(np.clip(unit @ hit.embedding, -1, 1))
        return {
            "attention": gates,
            "attention_note": attention.note(encoder),
            "regions": compare(query_local.tiles, hit_local.tiles),
            "cosine": round(cosine, 6),
        }

    async def _local(self, asked: schemas.Subject) -> _Local:
        name = asked.query if asked.query is not None else asked.id
        assert name is not None
        key = (name, asked.crop)
        known = self._known.get(key)
        if known is None:
            service = self._service
            image = await service.subjects.picture(asked)
            size = await service.subjects.input_size()
            pixels = await service.searches.run(tiles, image, size)
            embeddings = await service.model.embed(pixels)
            whole = await service.searches.run(squeeze, image, size)
            gate = await service.model.gates(whole)
            known = self._known.put(key, _Local(embeddings, gate))
        return known
