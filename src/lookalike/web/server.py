"""The server: uvicorn, bound to one address, with bounded connections, stopped gracefully.

uvicorn waits without end for the head of a request, and for clients that read no answer, and
accepts as many connections as the system allows. Thousands of clients that each send a byte now and
then would take every file descriptor. So:

* a head has at most MAX_HEAD bytes, whether it comes at once or in parts;
* a head that leaves open where its body ends is refused, and its connection closed: a proxy between
  client and server might see another request in it;
* a head must be there within ``header_seconds`` of the connection or of the last answer;
* what is left of a body after its answer must be sent within LINGER seconds;
* an answer that the client does not take for ``stall_seconds`` ends the connection;
* of more than ``max_connections``, the one goes whose client has kept the server waiting longest.
  Only if all are being worked for, the new one is refused, with status 503.

Who sends a head at once is served even while a flood of slow connections goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from lookalike.errors import LookalikeError
from lookalike.web.errors import RETRY_SECONDS, STATUS, ApiError, busy
from lookalike.web.service import Service
from lookalike.web.settings import ServeSettings

BACKLOG = 1024
KEEP_ALIVE = 5
"""Seconds that an idle connection is kept; less than the settings' for a head."""
GRACE = 5
"""Seconds that requests may take to end when the server stops."""


def listen(settings: ServeSettings) -> socket.socket:
    """A socket that takes connections already; they wait for `serve`.

    Raises:
        LookalikeError: the address is taken, or none of this machine's.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
        # Head and body of an answer are two packets; the second must not wait until the first is
        # acknowledged. asyncio sets this only for sockets that name their protocol.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except OSError as error:
        raise LookalikeError(
            f"cannot listen on {settings.host}, port {settings.port} "
            f"({error.strerror or error}); choose another with --host or --port (0: any free one)"
        ) from error


def address_of(listener: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    app: FastAPI, settings: ServeSettings, listener: socket.socket, ready: Callable[[], object]
) -> None:
    """Serve until SIGINT or SIGTERM, then let requests end; returns normally.

    ``ready`` is called when the first request would be answered without delay. A second signal ends
    requests at once.
    """
    make_server(app, settings, ready).run(sockets=[listener])


def make_server(
    app: FastAPI, settings: ServeSettings, ready: Callable[[], object] = lambda: None
) -> uvicorn.Server:
    """What `serve` runs; setting its ``should_exit`` also ends it."""
    service: Service = app.state.service
    # It warns of every malformed form, so that clients could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=type("Protocol", (BoundedProtocol,), {"service": service}),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    return _Server(config, service, ready)


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, service: Service, ready: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._service = service
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Loads what searches need; connections wait meanwhile."""
        await self._service.warm()
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's, which raises the signal again at the end: this is a way to end well."""
        self._service.begin_stop()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


# ---- connections ---------------------------------------------------------------------------------

LINGER = 2.0
MAX_HEAD = 16 << 10
TOO_LONG = 431


class Connection(h11.Connection):
    """Refuses heads that h11 lets pass; sends the head of an answer of known length with its body,
    and at once that of a stream, whose first event may be far off.

    Attributes:
        refusal: status of what was refused last.
    """

    refusal = STATUS["bad_request"]
    _head = b""

    @property
    def our_state(self) -> Any:
        """As h11's, but a connection is not closed before the rest of a body is there: its sender
        would lose the answer."""
        state = super().our_state
        is_early = state is h11.MUST_CLOSE and self.their_state is h11.SEND_BODY
        return h11.DONE if is_early else state

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        data = super().send(event)
        if isinstance(event, h11.Response) and b"content-length" in dict(event.headers):
            self._head = data or b""
            return b""
        head, self._head = self._head, b""
        return None if data is None else head + data

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                _check_head(event)
        except h11.RemoteProtocolError as error:
            self.refusal = error.error_status_hint
            raise
        return event


def _check_head(head: h11.Request) -> None:
    size = len(head.method) + len(head.target) + len("  HTTP/1.1\r\n\r\n")
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in head.headers)
    if size > MAX_HEAD:
        raise h11.RemoteProtocolError("too long", error_status_hint=TOO_LONG)
    names = {name for name, _ in head.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or head.http_version < b"1.1"):
        raise h11.RemoteProtocolError("the end of the body is ambiguous")


class BoundedProtocol(H11Protocol):
    """One connection."""

    service: Service

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Connection(h11.SERVER, MAX_HEAD)
        self._limits = self.service.settings
        self._began = self._stalled = self.loop.time()
        self._ends = math.inf
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    # ---- a connection's life ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.service.stopping:  # uvicorn closes those that it knew when it began to stop
            self.drop()
            return
        self._wait(self._limits.header_seconds)
        if len(self.connections) > self._limits.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._began = self.loop.time()
            self._ends = math.inf  # the head is there; the application bounds the rest
        elif self.conn.our_state is h11.MUST_CLOSE:  # the rest of a body has come
            self.transport.close()

    def on_response_complete(self) -> None:
        lingers = self.conn.their_state is h11.SEND_BODY
        self._wait(LINGER if lingers else self._limits.header_seconds)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.time()
        self._stall = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP; nothing else can be said on this connection."""
        if cast("Connection", self.conn).refusal == TOO_LONG:
            message = f"the head of the request has more than {MAX_HEAD:,} bytes"
            error = ApiError("too_large", message, "send shorter headers", status=TOO_LONG)
            self._end_with(error, "Request Header Fields Too Large")
            return
        error = ApiError("bad_request", "this is not an HTTP request", "send HTTP/1.1")
        self._end_with(error, "Bad Request")

    # ---- limits ----------------------------------------------------------------------------------

    @property
    def waits_since(self) -> float | None:
        """When the client last owed something; None while the server does."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return self._began
        return self._stalled if self.flow.write_paused else None

    def _wait(self, seconds: float) -> None:
        """For the head of the next request."""
        self._began = self.loop.time()
        self._ends = self._began + seconds
        if self._deadline is None or self._deadline.when() > self._ends:
            self._watch(self._ends)

    def _watch(self, when: float) -> None:
        """Look then whether it is over, which costs less than a timer for each request."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_at(when, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        if now >= self._ends:
            self.transport.abort()
        else:
            self._watch(min(self._ends, now + self._limits.header_seconds))

    def _make_room(self) -> None:
        others = (
            (since, other)
            for other in self.connections
            if other is not self
            and isinstance(other, BoundedProtocol)
            and (since := other.waits_since) is not None
        )
        longest = min(others, key=lambda pair: pair[0], default=None)
        if longest is None:
            self._end_with(busy("too many connections"), "Service Unavailable")
        else:
            longest[1].drop()

    def drop(self) -> None:
        """Close it now. It no longer counts, though its socket closes a moment later."""
        self.connections.discard(self)
        self.transport.abort()

    def _end_with(self, error: ApiError, phrase: str) -> None:
        body = json.dumps({"error": error.content.model_dump()}).encode()
        seconds = RETRY_SECONDS.get(error.status)
        retry = "" if seconds is None else f"Retry-After: {seconds}\r\n"
        head = (
            f"HTTP/1.1 {error.status} {phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\n"
            f"Cache-Control: no-store\r\n"
            f"{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
