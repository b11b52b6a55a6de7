"""What changes: images taken out of the gallery and let back in; duplicates moved to the trash; the
gallery brought up to date."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse

from lookalike.gallery.act import Removal, act
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import REMOVED
from lookalike.gallery.undo import Action, Done, undo
from lookalike.web.answers import ActAnswer, ActedFile, ChangedAnswer, UpdateAnswer, UpdateStarted
from lookalike.web.deps import ServiceDep, SnapshotDep, gallery_of, problems, with_body
from lookalike.web.errors import ApiError, busy
from lookalike.web.middleware import HEAD_ONLY
from lookalike.web.requests import ActRequest, ImagesRequest
from lookalike.web.service import Service

INTERVAL = 0.25
LONGEST = 3600.0
"""Seconds between two events at least, and until a stream ends; clients come again."""
router = APIRouter()
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


@router.post("/api/remove", responses=with_body(404, 504))
async def remove_images(
    asked: ImagesRequest, service: ServiceDep, snapshot: SnapshotDep
) -> ChangedAnswer:
    """Take images out of the gallery and keep them out, as `lookalike remove`."""
    _require_same(asked.gallery, snapshot)
    rows = await service.workers.searches.run(snapshot.rows, asked.ids)
    _require(asked.ids, rows)
    paths = _paths(service.gallery, rows.values())
    return ChangedAnswer(images=await service.workers.slow.run(service.gallery.remove, paths))


@router.post("/api/restore", responses=with_body(404, 504))
async def restore_images(
    asked: ImagesRequest, service: ServiceDep, snapshot: SnapshotDep
) -> ChangedAnswer:
    """Undo that; the next update indexes them again, with the same content but another id."""
    _require_same(asked.gallery, snapshot)
    skipped = await service.workers.files.run(service.gallery.skipped)
    rows = {row.id: row for row in skipped if row.skipped == REMOVED and row.id in asked.ids}
    _require(asked.ids, rows)
    paths = _paths(service.gallery, rows.values())
    return ChangedAnswer(images=await service.workers.slow.run(service.gallery.restore, paths))


@router.post("/api/duplicates/apply", responses=with_body(404, 504))
async def apply_duplicates(
    asked: ActRequest, service: ServiceDep, snapshot: SnapshotDep
) -> ActAnswer:
    """Move duplicates to the trash, or link them to the file that is kept; as `lookalike
    duplicates --apply`. Each file is read again before. Only from this machine."""
    _require_own_files(service, snapshot)
    _require_same(asked.gallery, snapshot)
    ids = {number for group in asked.groups for number in (*group.keep, *group.could_go)}
    rows = await service.workers.searches.run(snapshot.rows, ids)
    _require(ids, rows)
    action = Action(asked.action)
    directory, root = service.gallery.directory, service.gallery.root
    removals = [
        Removal.of(root, rows[going], [rows[kept] for kept in group.keep])
        for group in asked.groups
        for going in group.could_go
    ]
    done = await service.workers.slow.run(act, removals, action, directory, root)
    return _acted(action, done, root)


@router.post("/api/duplicates/undo", responses=problems(504))
async def undo_duplicates(service: ServiceDep, snapshot: SnapshotDep) -> ActAnswer:
    """Undo the last of these, as `lookalike duplicates --undo`. Only from this machine."""
    _require_own_files(service, snapshot)
    root = service.gallery.root
    action, done = await service.workers.slow.run(undo, service.gallery.directory, root)
    return _acted(action, done, root)


def _require_own_files(service: Service, snapshot: GallerySnapshot) -> None:
    if not service.guard.is_local:
        message = "files are only moved for a page that is opened on the server itself"
        remedy = "export the marks, and run there: lookalike duplicates --apply"
        raise ApiError("forbidden", message, remedy)
    if snapshot.local_index is None:
        message = "files are moved for a gallery on disk, and this one is in shards"
        raise ApiError("conflict", message, "copy it first: lookalike index --from")


def _acted(action: Action | None, done: Sequence[Done], root: Path) -> ActAnswer:
    """Paths in the gallery; those of the server stay out of problems."""
    place = os.fspath(root) + os.sep
    files = [
        ActedFile(
            path=os.fspath(each.file).removeprefix(place),
            problem=each.problem and each.problem.replace(place, ""),
        )
        for each in done
    ]
    return ActAnswer(action=None if action is None else action.value, files=files)


def _require(ids: Iterable[int], rows: dict[int, ImageRow]) -> None:
    if missing := [number for number in ids if number not in rows]:
        message = f"there is no image {missing[0]}"
        raise ApiError("not_found", message, "load the page again: the gallery has changed")


def _require_same(gallery: str, snapshot: GallerySnapshot) -> None:
    """A gallery that was deleted and made again gives out the same ids, for other images."""
    if gallery and gallery != gallery_of(snapshot):
        message = "the gallery was made again since these images were listed"
        raise ApiError("conflict", message, "load the page again")


def _paths(gallery: ImageGallery, rows: Iterable[ImageRow]) -> list[str]:
    return [os.path.join(gallery.root, os.fsdecode(row.path)) for row in rows]


# ---- updates -------------------------------------------------------------------------------------


@router.post("/api/update", status_code=202, responses=problems())
async def start_update(service: ServiceDep) -> UpdateStarted:
    """Start an update; searches go on meanwhile."""
    service.updates.start()
    return UpdateStarted(updating=True)


@router.get("/api/update", responses=problems())
async def update_state(service: ServiceDep) -> UpdateAnswer:
    """How far it is, or how the last one ended."""
    return service.updates.state


async def _watcher(service: ServiceDep) -> AsyncIterator[None]:
    """A place among those who watch, until the stream has ended, however that comes."""
    if service.streams >= service.settings.max_streams:
        raise busy("too many clients watch the update")
    service.streams += 1
    try:
        yield
    finally:
        service.streams -= 1


@router.get(
    "/api/update/events",
    response_class=EventSourceResponse,
    responses={status: {"content": ERROR} for status in problems()},  # a model would be an event
)
async def update_events(
    request: Request, service: ServiceDep, _: Annotated[None, Depends(_watcher)]
) -> AsyncIterator[UpdateAnswer]:
    """The same as a stream of events, one whenever it changes, at most four a second."""
    ends = time.monotonic() + LONGEST
    last = None
    while not (HEAD_ONLY in request.scope or service.stopping or time.monotonic() > ends):
        if service.updates.state is not last:
            yield (last := service.updates.state)
        await asyncio.sleep(INTERVAL)
