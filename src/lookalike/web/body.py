"""The body of a request, read within limits of size, time and memory.

Starlette's RequestBodyLimitMiddleware bounds the size of one body alone: neither what all of them
hold together nor how long they take, and its answer is plain text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from lookalike.web.errors import ApiError, bad_values, busy
from lookalike.web.settings import ServeSettings

JSON_BYTES = 256 << 10
Model = TypeVar("Model", bound=BaseModel)


class Bodies:
    """All bodies that are in memory at one time."""

    def __init__(self, settings: ServeSettings) -> None:
        self.held = 0
        """Bytes."""
        self._settings = settings

    @asynccontextmanager
    async def image(self, request: Request) -> AsyncIterator[bytes]:
        """The bytes of an image file: the body itself, or the field ``image`` of a form.

        Raises:
            ApiError: too_large; busy; timeout; unsupported_type; bad_request.
        """
        kind = media_type(request)
        is_form = kind == "multipart/form-data"
        if not (is_form or kind.startswith("image/") or kind == "application/octet-stream"):
            raise ApiError(
                "unsupported_type",
                f"an image cannot be of the type {kind or 'that is not given'}",
                "send the file with the Content-Type image/jpeg, application/octet-stream or so, "
                "or as the field 'image' of a form",
            )
        limit = self._settings.max_upload_bytes + (4096 if is_form else 0)
        async with self._read(request, limit) as content:
            yield await _field(request, content) if is_form else content

    async def json(self, request: Request, model: type[Model]) -> Model:
        """A JSON body as ``model``.

        Raises:
            ApiError: as `image`; bad_request if it does not fit.
        """
        if media_type(request) != "application/json":
            remedy = "send JSON with the Content-Type application/json"
            raise ApiError("unsupported_type", "the body is not said to be JSON", remedy)
        async with self._read(request, JSON_BYTES) as content:
            try:
                return model.model_validate_json(content)
            except ValidationError as error:
                raise bad_values(error.errors()) from error

    @asynccontextmanager
    async def _read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """What is announced counts only against the sender; what comes is counted as it comes."""
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise _too_large(limit)
        content, held, seconds = bytearray(), 0, self._settings.upload_seconds
        try:
            try:
                async with asyncio.timeout(seconds):
                    async for part in request.stream():
                        if held + len(part) > limit:
                            raise _too_large(limit)
                        if self.held + len(part) > self._settings.max_upload_memory:
                            raise busy("too many uploads at once")
                        self.held += len(part)
                        held += len(part)
                        content += part
            except TimeoutError as error:
                message = f"the body did not arrive within {seconds:g} seconds"
                raise ApiError("timeout", message, "send it faster", status=408) from error
            whole = bytes(content)
            del content
            yield whole
        finally:
            self.held -= held


def media_type(request: Request) -> str:
    """Of the body, lower case, without parameters; "" if none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _field(request: Request, content: bytes) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield content

    parser = MultiPartParser(
        request.headers, stream(), max_files=1, max_fields=8, max_part_size=64 << 10
    )
    parser.spool_max_size = len(content) + 1  # never to a file
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:
        raise ApiError("bad_request", "the form cannot be read", "send it whole") from error
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            remedy = "send the file as the field 'image'"
            raise ApiError("bad_request", "the form has no file named 'image'", remedy)
        return await image.read()
    finally:
        await form.close()


def _too_large(limit: int) -> ApiError:
    return ApiError("too_large", f"the body has more than {limit:,} bytes", "send a smaller one")
