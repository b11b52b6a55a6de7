"""Around everything: who may ask, which headers go out, what is counted, how failures look."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.web.body import Body
from lookalike.web.errors import ApiError, error_response, explained
from lookalike.web.service import Service

HEAD_ONLY = "lookalike.head_only"
"""In the scope of a request whose answer will lose its body."""

EVERYWHERE: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
]
"""Of every answer."""

PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: nothing inline, nothing from elsewhere."""

CONTENT_POLICY = b"default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of everything else, images among it: nothing runs."""

DEFAULTS: list[tuple[bytes, bytes]] = [(b"cache-control", b"no-store")]
"""Of every answer that has none of its own: what is private stays in no cache."""


class Middleware:
    """ASGI middleware. HEAD is answered as GET, and the body dropped."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        is_head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET", HEAD_ONLY: True} if is_head else scope

        body = Body(self._service.bodies, scope, receive)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _complete(message["headers"])}
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            try:
                self._service.guard.check(scope)
                await self._app(inner, body.receive, send_on)
            except ClientDisconnect:
                status = status or 499
            except asyncio.CancelledError:
                if status or not self._service.stopping:
                    raise
                error = ApiError("busy", "the server is stopping", "ask again when it runs")
                await error_response(error, inner)(inner, receive, send_on)
            except Exception as error:
                if status:  # half an answer is out; the server closes the connection
                    raise
                await error_response(explained(error), inner)(inner, receive, send_on)
        finally:
            body.release()
            route = getattr(inner.get("route"), "path", None) or "none"
            seconds = time.perf_counter() - began
            self._service.metrics.answered(_method(scope), route, status or 500, seconds)


def _complete(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """With those of every answer, and the defaults of those that it does not have."""
    known = dict(given)
    is_page = known.get(b"content-type", b"").startswith(b"text/html")
    policy = PAGE_POLICY if is_page else CONTENT_POLICY
    defaults = [(b"content-security-policy", policy), *DEFAULTS]
    defaults = [header for header in defaults if header[0] not in known]
    return [*given, *EVERYWHERE, *defaults]


def _method(scope: Scope) -> str:
    """Only known ones, since each makes a series of numbers."""
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    return scope["method"] if scope["method"] in known else "other"
