"""What routes take from a request and declare of themselves."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Path, Query, Request

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rows import ImageRow
from lookalike.web.answers import ErrorAnswer
from lookalike.web.requests import MAX_ID, Glob
from lookalike.web.service import Service

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY: dict[str, Any] = {
    "image/*": BINARY,
    "application/octet-stream": BINARY,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"image": BINARY["schema"]},
            "required": ["image"],
        }
    },
}
"""What OpenAPI says of a body with an image."""

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of an image.")]
OffsetParam = Annotated[int, Query(ge=0, le=MAX_ID, description="How many to pass over.")]
LimitParam = Annotated[int, Query(ge=1, le=200, description="How many to return.")]
FILTER = (
    "Words or patterns of the path, in any case; date:2021..2023, size:>2MB, width:>=1000, "
    "shape:portrait, type:jpeg; a minus before any excludes."
)
GlobParam = Annotated[Glob | None, Query(description=FILTER)]


async def service_of(request: Request) -> Service:
    """What the application shares."""
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(service_of)]


async def snapshot_of(request: Request) -> GallerySnapshot:
    """The gallery as it is now."""
    service: Service = request.app.state.service
    known = service.reader.unchanged()
    return await service.workers.searches.run(service.reader.now) if known is None else known


SnapshotDep = Annotated[GallerySnapshot, Depends(snapshot_of)]
"""The gallery as it was when the request came; taken once."""


def gallery_of(snapshot: GallerySnapshot) -> str:
    """What distinguishes a gallery from one that is made in its place; "" of one in shards."""
    index = snapshot.local_index
    return (index and index.owner) or ""


async def _image(id: ImageId, snapshot: SnapshotDep, service: ServiceDep) -> ImageRow:
    return await service.query_images.row(id, snapshot)


ImageDep = Annotated[ImageRow, Depends(_image)]
"""The image that the address names."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, besides those of every route."""
    always = (400, 401, 403, 409, 429, 503)
    return {status: {"model": ErrorAnswer} for status in sorted({*always, *statuses})}


def with_body(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `problems`, of a route that has a body."""
    return problems(408, 413, 415, *statuses)
