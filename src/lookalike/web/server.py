"""The server: uvicorn, bound to one address, stopped gracefully."""

from __future__ import annotations

import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from lookalike.errors import LookalikeError
from lookalike.web.protocol import protocol_of
from lookalike.web.service import Service
from lookalike.web.settings import ServeSettings

__all__ = ["address_of", "listen", "make_server", "serve"]

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


def serve(app: FastAPI, settings: ServeSettings, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then let requests end; returns normally.

    A second signal ends them at once.
    """
    make_server(app, settings).run(sockets=[listener])


def make_server(app: FastAPI, settings: ServeSettings) -> uvicorn.Server:
    """What `serve` runs; setting its ``should_exit`` also ends it."""
    service: Service = app.state.service
    # It warns of every malformed form, so that clients could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=protocol_of(settings, lambda: service.stopping),
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
    return _Server(config, service)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's, which raises the signal again at the end: this is a way to end well."""
        self._service.begin_stop()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
