"""The application: routes, what surrounds them, and their description."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from lookalike import __version__
from lookalike.gallery.protocol import ImageGallery
from lookalike.web.body import media_type
from lookalike.web.errors import (
    POSSIBLE,
    ApiError,
    SurrogateJSONResponse,
    bad_values,
    error_response,
)
from lookalike.web.middleware import Middleware
from lookalike.web.routes import changes, explain, images, info, pages, search
from lookalike.web.service import Service
from lookalike.web.settings import ServeSettings

PARTS = {
    "search": [search.router, explain.router],
    "images": [images.router],
    "gallery": [info.router, changes.router],
    "session": [pages.router],
}
"""Tag -> its routes."""


def create_app(gallery: ImageGallery, settings: ServeSettings | None = None) -> FastAPI:
    """The page and the API of one gallery, as an ASGI application.

    Its lifespan must run: it ends the processes that requests have started. `lookalike serve` adds
    what only a server can do: limits of connections and of slow clients, and loading what the first
    search needs before it takes requests.
    """
    settings = settings or ServeSettings()
    service = Service(gallery, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.stop()

    app = _Application(
        title="lookalike",
        version=__version__,
        summary="Find images that look alike.",
        generate_unique_id_function=lambda route: route.name,
        openapi_url="/api/openapi.json",
        docs_url=None,  # would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=SurrogateJSONResponse,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.page = pages.read_page()
    app.add_middleware(Middleware, service=service)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_bad_values)
    for tag, routers in PARTS.items():
        for router in routers:
            app.include_router(router, tags=[tag])
    return app


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Without the answers that FastAPI assumes and this application never gives."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path in schema["paths"].values():
                for operation in path.values():
                    declared = operation["responses"].get("422", {}).get("content", {})
                    if "HTTPValidationError" in str(declared):
                        del operation["responses"]["422"]
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return self.openapi_schema or {}


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Those of the framework: no such route, or not by this method; a body beyond its limits."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):
        return error_response(error.__cause__, request.scope)
    if error.status_code == 405:
        refused = ApiError("method_not_allowed", "not by this method", POSSIBLE)
        answer = error_response(refused, request.scope)
        answer.headers["Allow"] = ", ".join(_allowed(request))
        return answer
    if error.status_code == 404:
        missing = ApiError("not_found", "there is nothing here", "go back to /")
        return error_response(missing, request.scope)
    bad = ApiError("bad_request", "the request cannot be understood", POSSIBLE)
    return error_response(bad, request.scope)


def _allowed(request: Request) -> list[str]:
    """Methods of the address: those of all its routes, while the framework names those of one."""
    routes = [
        *request.app.routes,
        *(r for some in PARTS.values() for router in some for r in router.routes),
    ]
    matching = (route for route in routes if isinstance(route, Route))
    methods = {
        method
        for route in matching
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _on_bad_values(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"] == ("body",) and media_type(request.headers) != "application/json":
        remedy = "send JSON with the Content-Type application/json"
        refused = ApiError("unsupported_type", "the body is not said to be JSON", remedy)
        return error_response(refused, request.scope)
    # Without the part of the request that it is in, or the place where it is not JSON.
    where = () if first["type"] == "json_invalid" else first["loc"][1:]
    return error_response(bad_values([{**first, "loc": where}]), request.scope)
