"""The gallery's images, by id alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rows import ImageRow
from lookalike.web.answers import ImageObject, ImagesAnswer, problems
from lookalike.web.errors import json_response
from lookalike.web.middleware import CONTENT_POLICY, HEAD_ONLY
from lookalike.web.originals import MEDIA_TYPES, open_original
from lookalike.web.render import image_object
from lookalike.web.routes.access import Glob, ImageId, Limit, Offset, service_of

__all__ = ["router"]

CHUNK = 256 << 10
router = APIRouter()
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get("/api/images", response_model=ImagesAnswer, responses=problems())
async def images(
    request: Request, offset: Offset = 0, limit: Limit = 60, filter: Glob = None
) -> Response:
    """A page of the gallery's images, by path."""

    def page(snapshot: GallerySnapshot) -> dict[str, Any]:
        rows, total = snapshot.page(filter, offset, limit)
        return {"images": [image_object(row) for row in rows], "total": total}

    return json_response(await service_of(request).on_snapshot(page))


@router.get("/api/images/{id}/info", response_model=ImageObject, responses=problems(404))
async def info(request: Request, id: ImageId) -> Response:
    """One image."""
    return json_response(image_object(await service_of(request).row(id)))


@router.get(
    "/api/images/{id}/thumbnail",
    response_class=Response,
    responses={
        **problems(404, 413, 422, 504),
        200: {"content": {"image/webp": BINARY}},
        304: {"description": "The client has it."},
    },
)
async def thumbnail(
    request: Request,
    id: ImageId,
    size: Annotated[Literal["128", "256", "512"], Query(description="Longest side.")] = "256",
) -> Response:
    """A small WebP of an image."""
    service = service_of(request)
    row = await service.row(id)
    fields = _cache_fields(service.thumbnails.name(row, int(size)))
    if _is_known(request, fields):
        return Response(None, 304, fields)
    content = await service.thumbnails.get(row, int(size))
    return Response(content, 200, fields, "image/webp")


@router.get(
    "/api/images/{id}",
    response_class=Response,
    responses={
        **problems(404),
        200: {"content": {"image/*": BINARY}},
        304: {"description": "The client has it."},
    },
)
async def original(request: Request, id: ImageId) -> Response:
    """The file of an image, as it is."""
    service = service_of(request)
    row = await service.row(id)
    file = await service.files.run(open_original, service.gallery.root, row)
    fields = {**_cache_fields((row.hash or b"").hex()), "Content-Disposition": _disposition(row)}
    if _is_known(request, fields):
        file.close()
        return Response(None, 304, fields)
    fields |= {
        "Content-Length": str(row.size),
        "Content-Security-Policy": CONTENT_POLICY.decode(),
    }
    media_type = MEDIA_TYPES.get(row.format or "", "application/octet-stream")
    if HEAD_ONLY in request.scope:
        file.close()
        return Response(None, 200, fields, media_type)

    async def parts() -> AsyncIterator[bytes]:
        left = row.size
        try:
            while left and (part := await service.files.run(_read, file, min(left, CHUNK))):
                left -= len(part)
                yield part
        finally:
            file.close()

    return StreamingResponse(parts(), 200, fields, media_type)


def _read(file: BinaryIO, count: int) -> bytes:
    return file.read(count)


def _cache_fields(name: str) -> dict[str, str]:
    """Private, and validated each time: another gallery may be served here tomorrow."""
    return {"ETag": f'"{name}"', "Cache-Control": "private, no-cache"}


def _is_known(request: Request, fields: dict[str, str]) -> bool:
    """If-None-Match asks for weak comparison."""
    given = request.headers.get("if-none-match", "")
    return fields["ETag"] in [tag.strip().removeprefix("W/") for tag in given.split(",")]


def _disposition(row: ImageRow) -> str:
    return f"inline; filename*=UTF-8''{quote(os.path.basename(row.path), safe='')}"
