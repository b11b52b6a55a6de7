"""What changes: images taken out of the gallery and let back in; duplicates moved to the trash."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastapi import APIRouter, Request

from lookalike.gallery.act import Removal, act
from lookalike.gallery.protocol import GallerySnapshot, ImageGallery
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import REMOVED
from lookalike.gallery.undo import Action, Done, undo
from lookalike.web.answers import ActAnswer, ActedFile, ChangedAnswer
from lookalike.web.deps import ServiceDep, SnapshotDep, problems, takes
from lookalike.web.errors import ApiError
from lookalike.web.requests import ActRequest, ImagesRequest
from lookalike.web.service import Service

router = APIRouter()


@router.post("/api/remove", **takes(ImagesRequest, 404, 504))
async def remove_images(
    request: Request, service: ServiceDep, snapshot: SnapshotDep
) -> ChangedAnswer:
    """Take images out of the gallery and keep them out, as `lookalike remove`."""
    asked = await service.bodies.json(request, ImagesRequest)
    rows = await service.workers.searches.run(snapshot.rows, asked.ids)
    _require(asked.ids, rows)
    paths = _paths(service.gallery, rows.values())
    return ChangedAnswer(images=await service.workers.slow.run(service.gallery.remove, paths))


@router.post("/api/restore", **takes(ImagesRequest, 404, 504))
async def restore_images(request: Request, service: ServiceDep) -> ChangedAnswer:
    """Undo that; the next update indexes them again, with the same content but another id."""
    asked = await service.bodies.json(request, ImagesRequest)
    skipped = await service.workers.files.run(service.gallery.skipped)
    rows = {row.id: row for row in skipped if row.skipped == REMOVED and row.id in asked.ids}
    _require(asked.ids, rows)
    paths = _paths(service.gallery, rows.values())
    return ChangedAnswer(images=await service.workers.slow.run(service.gallery.restore, paths))


@router.post("/api/duplicates/apply", **takes(ActRequest, 404, 504))
async def apply_duplicates(
    request: Request, service: ServiceDep, snapshot: SnapshotDep
) -> ActAnswer:
    """Move duplicates to the trash, or link them to the file that is kept; as `lookalike
    duplicates --apply`. Each file is read again before. Only from this machine."""
    asked = await service.bodies.json(request, ActRequest)
    _require_own_files(service, snapshot)
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


def _paths(gallery: ImageGallery, rows: Iterable[ImageRow]) -> list[str]:
    return [os.path.join(gallery.root, os.fsdecode(row.path)) for row in rows]
