"""Not that one: searches that learn from answers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.web.answers import FeedbackAnswer, problems
from lookalike.web.errors import json_response
from lookalike.web.learn import learn
from lookalike.web.render import hit_objects
from lookalike.web.routes.access import service_of
from lookalike.web.schemas import FeedbackRequest, json_body

__all__ = ["router"]

router = APIRouter()


@router.post(
    "/api/feedback",
    response_model=FeedbackAnswer,
    responses=problems(404, 408, 413, 415, 422, 504),
    openapi_extra=json_body(FeedbackRequest),
)
async def feedback(request: Request) -> Response:
    """All that was said is in the request; nothing is remembered between two of them."""
    service = service_of(request)
    asked = await service.bodies.json(request, FeedbackRequest)
    snapshot = await service.snapshot()
    query = await service.query_images.find(asked, snapshot)
    lesson = await service.searches.run(
        learn,
        snapshot,
        query.embedding,
        query.content_hash if asked.id is not None else None,
        asked.relevant,
        asked.irrelevant,
        asked.k,
        asked.ask,
    )
    return json_response(
        {
            "hits": hit_objects(snapshot, lesson.best),
            "ask": hit_objects(snapshot, lesson.ask),
            "judged": len({*asked.relevant, *asked.irrelevant}),
        }
    )
