"""Bring the gallery up to date, and watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse

from lookalike.web.answers import UpdateAnswer, UpdateStarted
from lookalike.web.deps import ServiceDep, problems
from lookalike.web.errors import busy
from lookalike.web.middleware import HEAD_ONLY

INTERVAL = 0.25
LONGEST = 3600.0
"""Seconds between two events at least, and until a stream ends; clients come again."""
router = APIRouter()
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


@router.post("/api/update", status_code=202, responses=problems())
async def start_update(service: ServiceDep) -> UpdateStarted:
    """Start an update; searches go on meanwhile."""
    service.updates.start()
    return UpdateStarted(updating=True)


@router.get("/api/update", responses=problems())
async def update_state(service: ServiceDep) -> UpdateAnswer:
    """How far it is, or how the last one ended."""
    return service.updates.state


async def _watcher(service: ServiceDep) -> AsyncIterator[None]:
    """A place among those who watch, until the stream has ended, however that comes."""
    if service.streams >= service.settings.max_streams:
        raise busy("too many clients watch the update")
    service.streams += 1
    try:
        yield
    finally:
        service.streams -= 1


@router.get(
    "/api/update/events",
    response_class=EventSourceResponse,
    responses={status: {"content": ERROR} for status in problems()},  # a model would be an event
)
async def update_events(
    request: Request, service: ServiceDep, _: Annotated[None, Depends(_watcher)]
) -> AsyncIterator[UpdateAnswer]:
    """The same as a stream of events, one whenever it changes, at most four a second."""
    ends = time.monotonic() + LONGEST
    last = None
    while not (HEAD_ONLY in request.scope or service.stopping or time.monotonic() > ends):
        if service.updates.state is not last:
            yield (last := service.updates.state)
        await asyncio.sleep(INTERVAL)
