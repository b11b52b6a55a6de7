"""Bring the gallery up to date, and watch it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from lookalike.web.answers import UpdateAnswer, UpdateStarted, problems
from lookalike.web.errors import busy, json_response
from lookalike.web.middleware import HEAD_ONLY
from lookalike.web.routes.access import service_of
from lookalike.web.service import Service

__all__ = ["router"]

EVENTS = "text/event-stream"
INTERVAL = 0.25
SILENCE = 15.0
LONGEST = 3600.0
"""Seconds between two events, until a sign of life, and until a stream ends; clients come again."""
router = APIRouter()


@router.post("/api/update", status_code=202, response_model=UpdateStarted, responses=problems())
async def start(request: Request) -> Response:
    """Start an update; searches go on meanwhile."""
    service_of(request).updates.start()
    return json_response({"updating": True}, 202)


@router.get("/api/update", response_model=UpdateAnswer, responses=problems())
async def state(request: Request) -> Response:
    """How far it is, or how the last one ended."""
    return json_response(service_of(request).updates.state.as_dict())


@router.get(
    "/api/update/events",
    response_class=StreamingResponse,
    responses={
        **problems(),
        200: {"content": {EVENTS: {"schema": {"type": "string"}}}},
    },
)
async def events(request: Request) -> Response:
    """The same as a stream of events, one whenever it changes, at most four a second."""
    service = service_of(request)
    if HEAD_ONLY in request.scope:
        return StreamingResponse(_nothing(), 200, None, EVENTS)
    if service.streams >= service.settings.max_streams:
        raise busy("too many clients watch the update")
    return _Stream(service)


class _Stream(StreamingResponse):
    """Counts as one from the moment it was promised until it has ended, however that comes."""

    def __init__(self, service: Service) -> None:
        super().__init__(_events(service), 200, None, EVENTS)
        self._service = service
        service.streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.streams -= 1


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _events(service: Service) -> AsyncIterator[bytes]:
    ends = time.monotonic() + LONGEST
    version, spoke = -1, time.monotonic()
    while not service.stopping and time.monotonic() < ends:
        now = service.updates.state
        if now.version != version:
            version, spoke = now.version, time.monotonic()
            yield f"data: {json.dumps(now.as_dict())}\n\n".encode()
        elif time.monotonic() - spoke > SILENCE:
            spoke = time.monotonic()
            yield b": nothing new\n\n"
        await asyncio.sleep(INTERVAL)
