"""From a request to what all routes share."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Path, Query, Request
from pydantic import BeforeValidator

from lookalike.web import schemas
from lookalike.web.schemas import MAX_ID, value_of
from lookalike.web.service import Service

__all__ = ["Glob", "ImageId", "Limit", "Offset", "service_of"]

AS_IN_JSON = BeforeValidator(value_of)
ImageId = Annotated[
    int, Path(strict=True, ge=1, le=MAX_ID, description="Number of an image."), AS_IN_JSON
]
Offset = Annotated[
    int, Query(strict=True, ge=0, le=MAX_ID, description="How many to pass over."), AS_IN_JSON
]
Limit = Annotated[
    int, Query(strict=True, ge=1, le=200, description="How many to return."), AS_IN_JSON
]
Glob = Annotated[schemas.Glob | None, Query(description="Shell pattern on the path, or the name.")]


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)
