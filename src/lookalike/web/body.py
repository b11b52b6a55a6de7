"""The body of a request, read within limits of size, time and memory.

Starlette's RequestBodyLimitMiddleware bounds the size of one body alone: neither what all of them
hold together nor how long they take.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from lookalike.web.errors import ApiError, busy
from lookalike.web.settings import ServeSettings

JSON_BYTES = 1 << 20
"""Room for some 25,000 pairs of duplicates."""
FORM_BYTES = 4096
"""Of a form, beside the image in it."""


class Bodies:
    """All bodies that are in memory at one time."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.held = 0
        """Bytes."""


class Body:
    """That of one request, which is held until `release`."""

    def __init__(self, bodies: Bodies, scope: Scope, receive: Receive) -> None:
        self._bodies, self._receive = bodies, receive
        headers, limits = Headers(scope=scope), bodies.settings
        kind = media_type(headers)
        self._limit = JSON_BYTES if kind == "application/json" else limits.max_upload_bytes
        self._limit += FORM_BYTES if kind == "multipart/form-data" else 0
        announced = headers.get("content-length", "")
        is_number = announced.isascii() and announced.isdigit()
        self._announced = int(announced[:20]) if is_number else 0
        self._held, self._ends, self._is_whole = 0, 0.0, False

    async def receive(self) -> Message:
        """What is announced counts only against the sender; what comes is counted as it comes.

        Raises:
            ApiError: too_large; busy; timeout.
        """
        if self._is_whole:
            return await self._receive()
        if self._announced > self._limit:
            raise self._too_large()
        loop, seconds = asyncio.get_running_loop(), self._bodies.settings.upload_seconds
        self._ends = self._ends or loop.time() + seconds
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError as error:
            late = f"the body did not arrive within {seconds:g} seconds"
            raise ApiError("timeout", late, "send it faster", status=408) from error
        size = len(message.get("body", b""))
        if self._held + size > self._limit:
            raise self._too_large()
        if self._bodies.held + size > self._bodies.settings.max_upload_memory:
            raise busy("too many uploads at once")
        self._bodies.held += size
        self._held += size
        self._is_whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> ApiError:
        what = f"the body has more than {self._limit:,} bytes"
        return ApiError("too_large", what, "send a smaller one")

    def release(self) -> None:
        """It is held no longer."""
        self._bodies.held -= self._held
        self._held = 0


def media_type(headers: Headers) -> str:
    """Of the body, lower case, without parameters; "" if none is given."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def image_in(request: Request) -> bytes:
    """The bytes of an image file: the body itself, or the field ``image`` of a form.

    Raises:
        ApiError: unsupported_type; bad_request; as `Body.receive`.
    """
    kind = media_type(request.headers)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await request.body()
    if kind != "multipart/form-data":
        raise ApiError(
            "unsupported_type",
            f"an image cannot be of the type {kind or 'that is not given'}",
            "send the file with the Content-Type image/jpeg, application/octet-stream or so, or as "
            "the field 'image' of a form",
        )
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                remedy = "send the file as the field 'image'"
                raise ApiError("bad_request", "the form has no file named 'image'", remedy)
            return await image.read()
    except (HTTPException, ValueError, LookupError) as error:
        raise ApiError("bad_request", "the form cannot be read", "send it whole") from error
