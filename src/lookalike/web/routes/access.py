"""From a request to what all routes share."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Path, Query, Request
from pydantic import BeforeValidator, Strict

from lookalike.web import schemas
from lookalike.web.schemas import MAX_ID, value_of
from lookalike.web.service import Service

__all__ = ["Glob", "ImageId", "Limit", "Offset", "service_of"]

_Int = Annotated[int, Strict(), BeforeValidator(value_of)]
ImageId = Annotated[_Int, Path(ge=1, le=MAX_ID, description="Number of an image of the gallery.")]
Offset = Annotated[_Int, Query(ge=0, le=MAX_ID, description="How many to pass over.")]
Limit = Annotated[_Int, Query(ge=1, le=200, description="How many to return.")]
Glob = Annotated[schemas.Glob | None, Query(description="Shell pattern on the path, or the name.")]


def service_of(request: Request) -> Service:
    return cast("Service", request.app.state.service)
