"""The page, served from memory, and the token that it keeps as a cookie."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.web.deps import ServiceDep, with_body
from lookalike.web.errors import ApiError
from lookalike.web.guard import COOKIE
from lookalike.web.middleware import PAGE_POLICY
from lookalike.web.requests import SessionRequest

FOLDER = Path(__file__).resolve().parents[1] / "page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
FIRST = (
    "</page/style.css>; rel=preload; as=style, "
    "</api/images?offset=0&limit=60>; rel=preload; as=fetch; crossorigin"
)
"""What the first paint waits for, then what `browse.js` asks for first: browsers ask for it before
they have the scripts."""
router = APIRouter()


@dataclass(frozen=True)
class PageFile:
    content: bytes
    media_type: str
    etag: str


def read_page(folder: Path = FOLDER) -> dict[str, PageFile]:
    """All files of the folder, by their path below it, with forward slashes; none if it does not
    exist."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            kind = TYPES.get(path.suffix, guessed)
            found[path.relative_to(folder).as_posix()] = PageFile(content, kind, etag)
    return found


@router.get("/", include_in_schema=False)
@router.get("/search", include_in_schema=False)
@router.get("/duplicates", include_in_schema=False)
@router.get("/gallery", include_in_schema=False)
@router.get("/map", include_in_schema=False)
@router.get("/page/{name:path}", include_in_schema=False)
async def page(request: Request, name: str = "index.html") -> Response:
    """All addresses of the page are one document, which reads its address."""
    file: PageFile | None = request.app.state.page.get(name)
    if file is None:
        raise ApiError("not_found", "there is nothing here", "go back to /")
    fields = {
        "Cache-Control": "no-cache",
        "ETag": file.etag,
        "Content-Security-Policy": PAGE_POLICY.decode(),
    }
    if request.url.path == "/" and not request.url.query:
        fields["Link"] = FIRST
    if request.headers.get("if-none-match") == file.etag:
        return Response(None, 304, fields)
    return Response(file.content, 200, fields, file.media_type)


@router.post("/api/session", status_code=204, response_class=Response, responses=with_body())
async def open_session(given: SessionRequest, request: Request, service: ServiceDep) -> Response:
    """Sets the cookie that later requests of a browser carry."""
    if not service.guard.is_token(request.scope, given.token):
        message = "this is not the token of the server"
        raise ApiError("unauthorized", message, "look at how 'lookalike serve' was started")
    answer = Response(status_code=204)
    token = service.settings.token
    if token is not None:
        answer.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
    return answer
