"""What the gallery holds, what could not be read, what is there twice."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lookalike.gallery import Duplicate, DuplicateGroup
from lookalike.web import statistics
from lookalike.web.answers import DuplicatesAnswer, SkippedAnswer, StatsAnswer, problems
from lookalike.web.attention import has_attention
from lookalike.web.errors import ApiError, json_response
from lookalike.web.render import image_object
from lookalike.web.routes.access import Limit, Offset, service_of
from lookalike.web.schemas import DuplicatesRequest, json_body
from lookalike.web.service import Service

__all__ = ["router"]

router = APIRouter()


@router.get("/api/stats", response_model=StatsAnswer, responses=problems(504))
async def stats(request: Request) -> Response:
    """Counts, model, index, and what was measured last."""
    service = service_of(request)
    return json_response(await _facts(service))


@router.post("/api/stats/measure", response_model=StatsAnswer, responses=problems(504))
async def measure(request: Request) -> Response:
    """Measure recall and speed now; takes seconds."""
    service = service_of(request)

    def run() -> None:
        index = service.reader.now().local_index
        if index is None:
            message = "recall is measured where the index is, and this gallery is in shards"
            raise ApiError("conflict", message, "measure a gallery on disk: lookalike index --from")
        service.measured = statistics.identity(index), statistics.measure(index)

    await service.slow.run(run)
    return json_response(await _facts(service))


async def _facts(service: Service) -> dict[str, Any]:
    encoder = await service.model.encoder()
    return await service.files.run(_read_facts, service, has_attention(encoder))


def _read_facts(service: Service, attention: bool) -> dict[str, Any]:
    snapshot = service.reader.now()
    facts = service.gallery.info()
    index, model = snapshot.local_index, facts.model
    segments = () if index is None else index.segments()
    settings = facts.lsh.as_dict()
    key_bits = [segment.key_bits for segment in segments]
    measured: dict[str, Any] = {"recall": None, "curve": []}
    known = service.measured
    if known is not None and index is not None and known[0] == statistics.identity(index):
        measured = dict(known[1])
    files = [segment.file.path.stat().st_size for segment in segments if segment.file is not None]
    return {
        "gallery": {
            "images": facts.images,
            "skipped": facts.skipped,
            "directory_name": service.gallery.root.name,
            "updated": _changed(snapshot.changed),
        },
        "model": {
            "name": model.name,
            "version": model.version,
            "dim": model.dim,
            "input_size": model.input_size,
            "sha256": model.sha256,
            "attention": attention,
        },
        "index": {
            **settings,
            "key_bits": max(key_bits, default=settings["key_bits"] or 0),
            "segments": facts.segments,
            "bytes": facts.disk_bytes if index is None else sum(files),
        },
        **measured,
        **statistics.histogram(statistics.bucket_sizes(segments)),
    }


def _changed(when: float | None) -> str | None:
    """A time in seconds since the epoch, in UTC."""
    return None if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")


@router.get("/api/skipped", response_model=SkippedAnswer, responses=problems())
async def skipped(request: Request, offset: Offset = 0, limit: Limit = 60) -> Response:
    """Files that gave no image, by path, and why."""
    service = service_of(request)
    rows = await service.files.run(service.gallery.skipped)
    files = [
        {
            "path": os.fsdecode(row.path),
            "reason": row.skipped or "",
            "detail": row.detail or "",
            "remedy": row.remedy or "",
        }
        for row in rows[min(offset, len(rows)) : offset + limit]
    ]
    return json_response({"skipped": files, "total": len(rows)})


@router.post(
    "/api/duplicates",
    response_model=DuplicatesAnswer,
    responses=problems(408, 413, 415, 504),
    openapi_extra=json_body(DuplicatesRequest),
)
async def duplicates(request: Request) -> Response:
    """Groups of near duplicates, and which file of each to keep. Deletes nothing.

    Every file of a group was read and holds what was indexed; `changed` are paths that were left
    out since they are gone or do not.
    """
    service = service_of(request)
    asked = await service.bodies.json(request, DuplicatesRequest)
    groups = await service.slow.run(service.gallery.duplicates, asked.threshold)
    listed = [_group(group) for group in groups]
    return json_response(
        {"groups": listed, "threshold": asked.threshold, "changed": list(groups.changed)}
    )


def _group(group: DuplicateGroup) -> dict[str, Any]:
    (keep,) = group.keep  # without a reference folder there is one
    return {"keep": _item(keep), "others": [_item(item) for item in group.duplicates]}


def _item(item: Duplicate) -> dict[str, Any]:
    cosine = round(item.cosine, 6)
    return {**image_object(item.row), "cosine": cosine, "bytes": item.row.size}
