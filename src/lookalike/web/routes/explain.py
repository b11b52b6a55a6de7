"""Why does it look like this image? The model's attention, and which parts of the two agree."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from lookalike.web.answers import ExplainAnswer, Gate, Gates, Grid, Pair, Regions
from lookalike.web.deps import ServiceDep, SnapshotDep, with_body
from lookalike.web.model import CHANNEL, SPATIAL
from lookalike.web.query_images import GRID
from lookalike.web.requests import ExplainRequest, QueryRef

NONE = "this model has no attention"
CHANNELS_ONLY = "this model's attention weighs features, not places"
PAIRS = 8
router = APIRouter()


@router.post("/api/explain", responses=with_body(404, 422, 504))
async def explain_hit(
    asked: ExplainRequest, service: ServiceDep, snapshot: SnapshotDep
) -> ExplainAnswer:
    """The model's attention on both images, and which of their parts agree."""
    other = QueryRef(id=asked.hit)
    images = service.query_images
    query, hit = await images.find(asked, snapshot), await images.find(other, snapshot)
    of_query, of_hit = await images.parts(asked, snapshot), await images.parts(other, snapshot)
    gates = None
    if of_query.gate is not None and of_hit.gate is not None:
        gates = Gates(query=_stretched(of_query.gate), hit=_stretched(of_hit.gate))
    unit = query.embedding / np.linalg.norm(query.embedding)  # it may have been rounded
    return ExplainAnswer(
        attention=gates,
        attention_note=_note(await service.model.encoder(snapshot)),
        regions=_compared(of_query.tiles, of_hit.tiles),
        cosine=round(float(np.clip(unit @ hit.embedding, -1, 1)), 6),
    )


def _note(encoder: Encoder) -> str | None:
    """Why the model gives no attention map; None if it does."""
    if SPATIAL in encoder.outputs:
        return None
    return CHANNELS_ONLY if CHANNEL in encoder.outputs else NONE


def _stretched(gate: NDArray[np.float32]) -> Gate:
    """To 0..1, with the true bounds beside it. A constant gate is 0."""
    low, high = float(gate.min()), float(gate.max())
    grid = _grid((gate.astype(np.float64) - low) / ((high - low) or 1.0))
    return Gate(**dict(grid), low=low, high=high)


def _grid(values: NDArray[np.float64]) -> Grid:
    rows, columns = values.shape
    return Grid(rows=rows, columns=columns, values=np.round(values, 4).tolist())


def _compared(query: NDArray[np.float32], hit: NDArray[np.float32]) -> Regions:
    """Of the unit rows of the tiles, (GRID^2, dim) each.

    A cell's value is the best cosine of its tile to any tile of the other image. The pairs are the
    best that use no tile twice, best first.
    """
    cosines = np.clip(query.astype(np.float64) @ hit.T.astype(np.float64), -1, 1)
    left, pairs = cosines.copy(), []
    for _ in range(PAIRS):
        a, b = divmod(int(left.argmax()), left.shape[1])
        cosine = round(float(cosines[a, b]), 4)
        pairs.append(Pair(query=divmod(a, GRID), hit=divmod(b, GRID), cosine=cosine))
        left[a, :] = left[:, b] = -np.inf
    return Regions(
        query=_grid(cosines.max(axis=1).reshape(GRID, GRID)),
        hit=_grid(cosines.max(axis=0).reshape(GRID, GRID)),
        pairs=pairs,
    )
