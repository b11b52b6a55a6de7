"""What routes take from a request and declare of themselves."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, BeforeValidator

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rows import ImageRow
from lookalike.web.answers import ErrorAnswer
from lookalike.web.requests import MAX_ID, Glob, value_of
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

AS_IN_JSON = BeforeValidator(value_of)
ImageId = Annotated[
    int, Path(strict=True, ge=1, le=MAX_ID, description="Number of an image."), AS_IN_JSON
]
OffsetParam = Annotated[
    int, Query(strict=True, ge=0, le=MAX_ID, description="How many to pass over."), AS_IN_JSON
]
LimitParam = Annotated[
    int, Query(strict=True, ge=1, le=200, description="How many to return."), AS_IN_JSON
]
FILTER = (
    "Words or patterns of the path, in any case; date:2021..2023, size:>2MB, width:>=1000, "
    "shape:portrait, type:jpeg; a minus before any excludes."
)
GlobParam = Annotated[Glob | None, Query(description=FILTER)]


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


ServiceDep = Annotated[Service, Depends(_service)]


async def _snapshot(request: Request) -> GallerySnapshot:
    service: Service = request.app.state.service
    known = service.reader.unchanged()
    return await service.workers.searches.run(service.reader.now) if known is None else known


SnapshotDep = Annotated[GallerySnapshot, Depends(_snapshot)]
"""The gallery as it was when the request came; taken once."""


async def _image(id: ImageId, snapshot: SnapshotDep, service: ServiceDep) -> ImageRow:
    return await service.query_images.row(id, snapshot)


ImageDep = Annotated[ImageRow, Depends(_image)]
"""The image that the address names."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, besides those of every route."""
    always = (400, 401, 403, 409, 429, 503)
    return {status: {"model": ErrorAnswer} for status in sorted({*always, *statuses})}


def takes(model: type[BaseModel], *statuses: int) -> dict[str, Any]:
    """What a route declares whose body is JSON, of a ``model`` in `requests.REQUESTS`, and read by
    `Bodies.json`. ``statuses``: as of `problems`, besides those of every body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema}}
    return {
        "responses": problems(408, 413, 415, *statuses),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }
