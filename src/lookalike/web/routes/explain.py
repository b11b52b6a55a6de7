"""Why does it look like this picture?"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.web.answers import ExplainAnswer, problems
from lookalike.web.errors import json_response
from lookalike.web.routes.access import service_of
from lookalike.web.schemas import ExplainRequest, json_body

__all__ = ["router"]

router = APIRouter()


@router.post(
    "/api/explain",
    response_model=ExplainAnswer,
    responses=problems(404, 408, 413, 415, 422, 504),
    openapi_extra=json_body(ExplainRequest),
)
async def explain(request: Request) -> Response:
    """The model's attention on both pictures, and which of their parts agree."""
    service = service_of(request)
    asked = await service.bodies.json(request, ExplainRequest)
    snapshot = await service.snapshot()
    return json_response(await service.explanations.explain(asked, snapshot))
