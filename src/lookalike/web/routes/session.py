"""The token as a cookie, for the page."""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.web.answers import problems
from lookalike.web.errors import ApiError
from lookalike.web.guard import COOKIE, Guard
from lookalike.web.routes.access import service_of
from lookalike.web.schemas import SessionRequest, json_body

__all__ = ["router"]

router = APIRouter()


@router.post(
    "/api/session",
    status_code=204,
    response_class=Response,
    responses=problems(408, 413, 415),
    openapi_extra=json_body(SessionRequest),
)
async def session(request: Request) -> Response:
    """Sets the cookie that later requests of a browser carry."""
    given = await service_of(request).bodies.json(request, SessionRequest)
    guard = cast("Guard", request.app.state.guard)
    if not guard.is_token(request.scope, given.token):
        message = "this is not the token of the server"
        raise ApiError("unauthorized", message, "look at how 'lookalike serve' was started")
    answer = Response(status_code=204)
    token = service_of(request).settings.token
    if token is not None:
        answer.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
    return answer
