"""The page: files of the package, read once, so that no request reaches the file system."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.web.errors import ApiError
from lookalike.web.middleware import PAGE_POLICY

__all__ = ["Page", "router"]

FOLDER = Path(__file__).resolve().parents[1] / "page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class PageFile:
    content: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class Page:
    """``files``: by their path below the folder, with forward slashes."""

    files: dict[str, PageFile]

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Page:
        """All files of the folder; none if it does not exist."""
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                content = path.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                kind = TYPES.get(path.suffix, guessed)
                found[path.relative_to(folder).as_posix()] = PageFile(content, kind, etag)
        return cls(found)


@router.get("/")
@router.get("/search")
@router.get("/duplicates")
@router.get("/gallery")
async def index(request: Request) -> Response:
    """All addresses of the page are one document, which reads its address."""
    return _answer(request, "index.html")


@router.get("/page/{name:path}")
async def file(request: Request, name: str) -> Response:
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    page = cast("Page", request.app.state.page)
    found = page.files.get(name)
    if found is None:
        raise ApiError("not_found", "there is nothing here", "go back to /")
    fields = {
        "Cache-Control": "no-cache",
        "ETag": found.etag,
        "Content-Security-Policy": PAGE_POLICY.decode(),
    }
    if request.headers.get("if-none-match") == found.etag:
        return Response(None, 304, fields)
    return Response(found.content, 200, fields, found.media_type)
