"""From a request to what all routes share."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Path, Query, Request

from lookalike.web import schemas
from lookalike.web.schemas import MAX_ID
from lookalike.web.service import Service

__all__ = ["Glob", "ImageId", "Limit", "Offset", "service_of"]

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of an image of the gallery.")]
Offset = Annotated[int, Query(ge=0, le=MAX_ID, description="How many to pass over.")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many to return.")]
Glob = Annotated[schemas.Glob | None, Query(description="Shell pattern on the path, or the name.")]


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)
