"""Pictures to search with that are not in the gallery."""

from __future__ import annotations

import io
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from PIL import Image
from starlette.responses import Response

from lookalike.web.answers import QueryAnswer, problems
from lookalike.web.errors import json_response
from lookalike.web.routes.access import service_of
from lookalike.web.schemas import QUERY

__all__ = ["router"]

SHOWN_SIDE = 1024
QUALITY = 85
router = APIRouter()
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}},
        "required": ["image"],
    }
}
BODY = {"image/*": BINARY, "application/octet-stream": BINARY, "multipart/form-data": FORM}


@router.post(
    "/api/queries",
    status_code=201,
    response_model=QueryAnswer,
    responses=problems(408, 413, 415, 422, 504),
    openapi_extra={"requestBody": {"required": True, "content": BODY}},
)
async def add(request: Request) -> Response:
    """Keep a picture for some minutes; its name is what later requests call it by."""
    service = service_of(request)
    async with service.bodies.picture(request) as content:
        name, stored = await service.query_images.store(content)
    shape = {"width": stored.width, "height": stored.height}
    return json_response({"query": name, **shape}, 201)


@router.get(
    "/api/queries/{query}/image",
    response_class=Response,
    responses={**problems(404, 504), 200: {"content": {"image/webp": BINARY}}},
)
async def image(request: Request, query: Annotated[str, Path(pattern=QUERY)]) -> Response:
    """The picture, at most 1024 pixels wide and high."""
    service = service_of(request)
    stored = service.queries.get(query)
    content = await service.searches.run(_webp, stored.image)
    return Response(content, 200, {"Cache-Control": "private, max-age=600"}, "image/webp")


def _webp(image: Image.Image) -> bytes:
    shown = image.copy()
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    with io.BytesIO() as out:
        shown.save(out, "WEBP", quality=QUALITY, method=2)
        return out.getvalue()
