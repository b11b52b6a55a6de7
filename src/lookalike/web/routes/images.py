"""The gallery's images, by id alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from lookalike.web.answers import (
    ExifAnswer,
    FoldersAnswer,
    ImageInfo,
    ImagesAnswer,
    MapAnswer,
    image_object,
)
from lookalike.web.deps import (
    BINARY,
    GlobParam,
    ImageDep,
    LimitParam,
    OffsetParam,
    ServiceDep,
    SnapshotDep,
    gallery_of,
    problems,
)
from lookalike.web.middleware import HEAD_ONLY
from lookalike.web.originals import MEDIA_TYPES, open_original, read_original

CHUNK = 256 << 10
router = APIRouter()


@router.get("/api/images", responses=problems())
async def list_images(
    service: ServiceDep,
    snapshot: SnapshotDep,
    offset: OffsetParam = 0,
    limit: LimitParam = 60,
    filter: GlobParam = None,
    sort: Annotated[
        Literal["path", "newest", "oldest", "largest"], Query(description="In which order.")
    ] = "path",
) -> ImagesAnswer:
    """A page of the gallery's images."""
    rows, total = await service.workers.searches.run(snapshot.page, filter, offset, limit, sort)
    images = [image_object(row) for row in rows]
    return ImagesAnswer(images=images, total=total, gallery=gallery_of(snapshot))


@router.get("/api/images/{id}/info", responses=problems(404))
async def image_info(row: ImageDep) -> ImageInfo:
    """One image."""
    changed = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row.mtime_ns // 1000)
    text = changed.isoformat(timespec="seconds")
    return {**image_object(row), "bytes": row.size, "changed": text, "note": row.note}


@router.get("/api/images/{id}/exif", responses=problems(404, 413, 422, 504))
async def image_exif(service: ServiceDep, row: ImageDep) -> ExifAnswer:
    """What the camera wrote into the file of an image."""
    content = await service.workers.files.run(read_original, service.gallery.root, row)
    return ExifAnswer(**await service.workers.own_images.exif(content))


@router.get("/api/folders", responses=problems())
async def list_folders(
    service: ServiceDep,
    snapshot: SnapshotDep,
    folder: Annotated[str, Query(max_length=4096, description="Path; empty: all.")] = "",
) -> FoldersAnswer:
    """Folders in a folder, by name, and the months in which images below it were taken, newest
    first."""
    return await service.workers.searches.run(service.folders.below, snapshot, folder)


@router.get("/api/map", responses=problems(504))
async def image_map(service: ServiceDep, snapshot: SnapshotDep) -> MapAnswer:
    """A layout of all images in the plane, those alike near each other; of more than 10,000, so
    many drawn at random. Made in the background."""
    return service.atlas.map(snapshot)


@router.get(
    "/api/images/{id}/thumbnail",
    response_class=Response,
    responses={
        **problems(404, 413, 422, 504),
        200: {"content": {"image/webp": BINARY}},
        304: {"description": "The client has it."},
    },
)
async def image_thumbnail(
    request: Request,
    service: ServiceDep,
    row: ImageDep,
    size: Annotated[
        Literal["128", "256", "512", "2048"], Query(description="Longest side.")
    ] = "256",
) -> Response:
    """A small WebP of an image."""
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
async def image_original(request: Request, service: ServiceDep, row: ImageDep) -> Response:
    """The file of an image, as it is."""
    run = service.workers.files.run
    file = await run(open_original, service.gallery.root, row)
    name = quote(os.path.basename(row.path), safe="")
    fields = {
        **_cache_fields((row.hash or b"").hex()),
        "Content-Disposition": f"inline; filename*=UTF-8''{name}",
    }
    if _is_known(request, fields):
        file.close()
        return Response(None, 304, fields)
    fields["Content-Length"] = str(row.size)
    media_type = MEDIA_TYPES.get(row.format or "", "application/octet-stream")
    if HEAD_ONLY in request.scope:
        file.close()
        return Response(None, 200, fields, media_type)

    async def parts() -> AsyncIterator[bytes]:
        left = row.size
        try:
            while left and (part := await run(file.read, min(left, CHUNK))):
                left -= len(part)
                yield part
        finally:
            file.close()

    return StreamingResponse(parts(), 200, fields, media_type)


def _cache_fields(name: str) -> dict[str, str]:
    """Private, and validated each time: another gallery may be served here tomorrow."""
    return {"ETag": f'"{name}"', "Cache-Control": "private, no-cache"}


def _is_known(request: Request, fields: dict[str, str]) -> bool:
    """If-None-Match asks for weak comparison."""
    given = request.headers.get("if-none-match", "")
    return fields["ETag"] in [tag.strip().removeprefix("W/") for tag in given.split(",")]
