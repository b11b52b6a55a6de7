"""What goes wrong, as clients see it: a stable code, a sentence, a remedy. Never a path of the
server's or a traceback."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Sequence
from functools import partial
from string import Template
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Scope

from lookalike.encoder import WITH_WORDS
from lookalike.errors import (
    ClusterBusyError,
    ClusterError,
    ClusterStoppedError,
    GalleryDamagedError,
    GalleryError,
    GalleryGoneError,
    GalleryLockedError,
    IndexFormatError,
    MissingExtraError,
    ModelMismatchError,
    NoNeighboursError,
    NoWordsError,
    ReadOnlyError,
    StorageFullError,
)
from lookalike.images import SkippedImageError, SkipReason
from lookalike.web.answers import ErrorAnswer, ErrorContent

log = logging.getLogger("lookalike.web")

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "unsupported_type": 415,
    "bad_image": 422,
    "too_many_guesses": 429,
    "internal": 500,
    "busy": 503,
    "timeout": 504,
}
POSSIBLE = "see /api/openapi.json for what is possible"
SHORTER = "make it shorter"
RETRY_SECONDS = {429: 5, 503: 1}
"""By status; after a wrong token too many there is a new guess as often."""


class ApiError(Exception):
    """An answer other than what was asked for. ``status``: only where the code has several."""

    def __init__(self, code: str, message: str, remedy: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy
        self.status = STATUS[code] if status is None else status

    @property
    def content(self) -> ErrorContent:
        """What clients get."""
        return ErrorContent(code=self.code, message=self.message, remedy=self.remedy)


class SurrogateJSONResponse(JSONResponse):
    """Of plain values or a model. Names of files that are not UTF-8 pass, as lone surrogates in
    escapes."""

    def render(self, content: Any) -> bytes:
        try:
            return to_json(content, inf_nan_mode="null")
        except PydanticSerializationError:
            plain = partial(BaseModel.model_dump, mode="json")
            return json.dumps(content, separators=(",", ":"), default=plain).encode("ascii")


def busy(what: str) -> ApiError:
    """Too much of one kind at once."""
    return ApiError("busy", f"the server is busy: {what}", "try again in a moment")


def bad_values(errors: Sequence[Any]) -> ApiError:
    """Which of them, and why; not what they were. ``errors``: of Pydantic."""
    where = ".".join(map(str, errors[0]["loc"]))
    why, _, remedy = errors[0]["msg"].removeprefix("Value error, ").partition("; ")
    if not remedy:
        why = f"{where}: {why}" if where else why
        remedy = SHORTER if errors[0]["type"] == "string_too_long" else POSSIBLE
    return ApiError("bad_request", why, remedy)


def error_response(error: ApiError, scope: Scope) -> Response:
    """With ``Retry-After`` if it is worth while, and the challenge that status 401 demands. A page
    for a browser that goes to the address of ``scope``, else JSON."""
    headers = {}
    if error.status in RETRY_SECONDS:
        headers["Retry-After"] = str(RETRY_SECONDS[error.status])
    if error.status == STATUS["unauthorized"]:
        headers["WWW-Authenticate"] = "Bearer"
    accepted = Headers(scope=scope).get("accept", "")
    if "text/html" in accepted and scope["method"] == "GET":
        page = Template(scope["app"].state.page["problem.html"].content.decode())
        words = {"message": _sentence(error.message), "remedy": _sentence(error.remedy) + "."}
        return HTMLResponse(page.substitute(words), error.status, headers)
    content = ErrorAnswer(error=error.content).model_dump()
    return SurrogateJSONResponse(content, error.status, headers)


def _sentence(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:])


def explained(error: Exception) -> ApiError:
    """Of whatever was raised. What the library says of the server's files stays in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SkippedImageError):
        if error.reason is SkipReason.TOO_LARGE:
            return ApiError("too_large", error.detail, "make the image smaller")
        if error.reason is SkipReason.NEEDS_EXTRA:
            remedy = f"on the server, {error.remedy}; or convert the image to JPEG"
            return ApiError("bad_image", error.detail, remedy)
        remedy = "use a JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP or HEIC file that is whole"
        return ApiError("bad_image", f"{error.reason}: {error.detail}", remedy)
    if isinstance(error, GalleryLockedError):
        message = "another process is writing to the gallery"
        return ApiError("conflict", message, "wait until it is done")
    if isinstance(error, GalleryGoneError):
        log.error("%s", error)
        message = "the gallery's folder is gone, its disk perhaps as well"
        return ApiError("not_found", message, "put it back on the server, then try again")
    if isinstance(error, ReadOnlyError | StorageFullError):
        log.error("%s", error)
        message = "the server cannot write to the gallery"
        if isinstance(error, StorageFullError):
            return ApiError("conflict", f"{message}: its disk is full", "make room on the server")
        remedy = "run it as a user who may, or with a gallery elsewhere: lookalike index --gallery"
        return ApiError("conflict", message, remedy)
    if isinstance(error, ClusterBusyError):
        return ApiError("busy", "too many searches at once", "try again in a moment")
    if isinstance(error, ClusterStoppedError):
        log.error("%s", error)
        return ApiError("timeout", "the gallery's shards were stopped", "start them again")
    if isinstance(error, ClusterError):
        log.error("%s", error)
        return ApiError("timeout", "some shards of the gallery do not answer", "try again soon")
    if isinstance(error, NoWordsError):
        remedy = f"on the server: lookalike index --rebuild --model {WITH_WORDS}"
        return ApiError("conflict", "the gallery's model knows images, not words", remedy)
    if isinstance(error, MissingExtraError):
        return ApiError("conflict", str(error), "install it on the server")
    if isinstance(error, ModelMismatchError):
        message = "the gallery has been rebuilt with another model"
        return ApiError("conflict", message, "start the server again")
    if isinstance(error, NoNeighboursError):
        message = "the gallery keeps no neighbour graph, which expand needs"
        return ApiError("conflict", message, "leave out expand, or run: lookalike update")
    if isinstance(error, GalleryDamagedError | IndexFormatError):
        log.error("%s", error)
        message = "the gallery's files are damaged"
        return ApiError("internal", message, "run on the server: lookalike verify --repair")
    if isinstance(error, GalleryError):
        log.error("%s", error)
        return ApiError("internal", "the server could not do it", "read its log, which says why")
    log.error("a request failed", exc_info=error)
    return ApiError(
        "internal",
        "the server failed at this request",
        "try again; if it stays, read the server's log, and run: lookalike verify",
    )
