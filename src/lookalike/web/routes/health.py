"""Is it alive, and how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.web.answers import HealthAnswer, problems
from lookalike.web.errors import json_response
from lookalike.web.routes.access import service_of

__all__ = ["router"]

router = APIRouter()


def _images(snapshot: GallerySnapshot) -> int:
    return snapshot.page(None, 0, 0)[1]


@router.get("/api/health", response_model=HealthAnswer, responses=problems())
async def health(request: Request) -> Response:
    """Needs no token."""
    service = service_of(request)
    images = await service.on_snapshot(_images)
    updating = service.updates.state.updating
    return json_response({"status": "ok", "images": images, "updating": updating})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    service = service_of(request)
    service.metrics.images.set(await service.on_snapshot(_images))
    service.metrics.updating.set(service.updates.state.updating)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
