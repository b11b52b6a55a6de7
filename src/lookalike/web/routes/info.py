"""What the gallery holds, what could not be read, what is there twice; how the server is doing."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from lookalike.gallery import Duplicate, DuplicateGroup, Kind
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.store import REMOVED
from lookalike.web import answers, statistics
from lookalike.web.answers import DuplicatesAnswer, HealthAnswer, SkippedAnswer, StatsAnswer
from lookalike.web.deps import (
    LimitParam,
    OffsetParam,
    ServiceDep,
    SnapshotDep,
    gallery_of,
    problems,
    with_body,
)
from lookalike.web.errors import ApiError
from lookalike.web.model import CHANNEL, SPATIAL
from lookalike.web.requests import DuplicatesRequest
from lookalike.web.service import Service

router = APIRouter()


@router.get("/api/health", responses=problems())
async def health(service: ServiceDep, snapshot: SnapshotDep) -> HealthAnswer:
    """Needs no token."""
    _, images = await service.workers.searches.run(snapshot.page, None, 0, 0)
    words = await service.workers.files.run(lambda: service.knows_words)
    updating = service.updates.state.updating
    return HealthAnswer(status="ok", images=images, updating=updating, words=words)


@router.get("/metrics", include_in_schema=False)
async def metrics(service: ServiceDep, snapshot: SnapshotDep) -> Response:
    """For Prometheus."""
    _, images = await service.workers.searches.run(snapshot.page, None, 0, 0)
    service.metrics.images.set(images)
    service.metrics.updating.set(service.updates.state.updating)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/api/stats", responses=problems(504))
async def index_stats(service: ServiceDep, snapshot: SnapshotDep) -> StatsAnswer:
    """Counts, model, index, and what was measured last."""
    return await _facts(service, snapshot)


@router.post("/api/stats/measure", responses=problems(504))
async def measure_index(service: ServiceDep, snapshot: SnapshotDep) -> StatsAnswer:
    """Measure recall and speed now; takes seconds."""
    index = snapshot.local_index
    if index is None:
        message = "recall is measured where the index is, and this gallery is in shards"
        raise ApiError("conflict", message, "measure a gallery on disk: lookalike index --from")
    measured = await service.workers.slow.run(statistics.measure, index)
    service.measured = statistics.identity(index), measured
    return await _facts(service, snapshot)


async def _facts(service: Service, snapshot: GallerySnapshot) -> StatsAnswer:
    encoder = await service.model.encoder(snapshot)
    attention = not encoder.outputs.isdisjoint((SPATIAL, CHANNEL))
    return await service.workers.files.run(_read_facts, service, snapshot, attention)


def _read_facts(service: Service, snapshot: GallerySnapshot, attention: bool) -> StatsAnswer:
    facts = service.gallery.info()
    index, model = snapshot.local_index, facts.model
    segments = () if index is None else index.segments()
    settings = facts.lsh.as_dict()
    key_bits = [segment.key_bits for segment in segments]
    measured: dict[str, Any] = {"recall": None, "curve": []}
    if service.measured and index is not None and service.measured[0] == statistics.identity(index):
        measured = service.measured[1]
    files = [segment.file.bytes for segment in segments if segment.file is not None]
    return StatsAnswer(
        gallery=answers.GalleryFacts(
            images=facts.images,
            skipped=facts.skipped,
            bytes=service.folders.bytes(snapshot),
            directory_name=service.gallery.root.name,
            updated=_in_utc(snapshot.changed),
        ),
        model=answers.ModelFacts(
            name=model.name,
            version=model.version,
            dim=model.dim,
            input_size=model.input_size,
            sha256=model.sha256,
            attention=attention,
            words=bool(model.words),
        ),
        index={
            **settings,
            "key_bits": max(key_bits, default=settings["key_bits"] or 0),
            "segments": facts.segments,
            "bytes": facts.disk_bytes if index is None else sum(files),
        },
        **measured,
        **statistics.histogram(statistics.bucket_sizes(segments)),
    )


def _in_utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@router.get("/api/skipped", responses=problems())
async def list_skipped(
    service: ServiceDep,
    offset: OffsetParam = 0,
    limit: LimitParam = 60,
    removed: Annotated[bool, Query(description="Those that were taken out instead.")] = False,
) -> SkippedAnswer:
    """Files that gave no image, by path, and why."""
    rows = await service.workers.files.run(service.gallery.skipped)
    rows = [row for row in rows if (row.skipped == REMOVED) == removed]
    files = [
        answers.SkippedItem(
            id=row.id,
            path=os.fsdecode(row.path),
            reason=row.skipped or "",
            detail=row.detail or "",
            remedy=row.remedy or "",
        )
        for row in rows[min(offset, len(rows)) : offset + limit]
    ]
    counts = Counter(row.skipped or "" for row in rows).most_common()
    reasons = [answers.SkippedReason(reason=reason, files=count) for reason, count in counts]
    return SkippedAnswer(skipped=files, total=len(rows), reasons=reasons)


@router.post("/api/duplicates", responses=with_body(504))
async def find_duplicates(
    asked: DuplicatesRequest, service: ServiceDep, snapshot: SnapshotDep
) -> DuplicatesAnswer:
    """Groups of duplicates, and which file of each to keep. Deletes nothing.

    The `kind` of a file says how it is like the one to keep; null: it is kept. `another shot` is
    what only has a near embedding, from `threshold` on, and should be kept as well.
    Every file of a group was read and holds what was indexed; `changed` are paths that were left
    out since they are gone or do not.
    """
    search = partial(service.gallery.duplicates, asked.threshold, kinds=frozenset(Kind))
    groups = await service.workers.slow.run(search)
    return DuplicatesAnswer(
        groups=[_group(group) for group in groups],
        threshold=asked.threshold,
        changed=list(groups.changed),
        gallery=gallery_of(snapshot),
    )


def _group(group: DuplicateGroup) -> answers.DuplicateGroup:
    (keep,) = group.keep  # without a reference folder there is one
    return answers.DuplicateGroup(keep=_item(keep), others=[_item(x) for x in group.duplicates])


def _item(item: Duplicate) -> answers.DuplicateItem:
    kind = None if item.kind is None else str(item.kind)
    facts = answers.image_object(item.row)
    return {**facts, "kind": kind, "cosine": round(item.cosine, 6), "bytes": item.row.size}
