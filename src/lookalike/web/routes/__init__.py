"""The addresses of the server, one file per subject."""

from __future__ import annotations

from lookalike.web.routes import (
    explain,
    feedback,
    health,
    images,
    info,
    pages,
    queries,
    search,
    session,
    update,
)

__all__ = ["ROUTERS"]

ROUTERS = [
    part.router
    for part in (  # looked through in this order
        search,
        images,
        queries,
        pages,
        health,
        session,
        explain,
        feedback,
        info,
        update,
    )
]
