"""What looks like this image? And images to search with that are not in the gallery."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Path, Request
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from starlette.responses import Response

from lookalike.feedback import Feedback
from lookalike.gallery.hits import CHANCE_IN_WORDS, NO_FILE, UNRELATED_IN_WORDS
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rarity import EXACT_UP_TO
from lookalike.gallery.search import Found
from lookalike.web.answers import FeedbackAnswer, QueryAnswer, SearchAnswer, hit_objects
from lookalike.web.body import image_in, media_type
from lookalike.web.deps import (
    BINARY,
    IMAGE_BODY,
    ServiceDep,
    SnapshotDep,
    problems,
    service_of,
    snapshot_of,
    with_body,
)
from lookalike.web.errors import ApiError, SurrogateJSONResponse, bad_values
from lookalike.web.query_images import QueryImage
from lookalike.web.requests import (
    QUERY,
    FeedbackRequest,
    SearchOptions,
    SearchRequest,
    UploadOptions,
)
from lookalike.web.service import Service

INLINE_UP_TO = 50_000
"""Images up to which a search takes less time than handing it to a thread."""
SHOWN_SIDE = 1024
QUALITY = 85
CANDIDATES = 5000
"""Of which a search that learns chooses."""
router = APIRouter()
G = TypeVar("G")
T = TypeVar("T")


SEARCH_BODY: dict[str, Any] = {
    "application/json": {"schema": SearchRequest.model_json_schema()},
    **IMAGE_BODY,
}
URL_OPTIONS = [
    {"name": name, "in": "query", "required": False, "schema": schema}
    for name, schema in UploadOptions.model_json_schema()["properties"].items()
]
"""Of a search with the image in the body, as OpenAPI describes them."""


@router.post(
    "/api/search",
    responses=with_body(404, 422, 504),
    response_model=SearchAnswer,
    openapi_extra={
        "parameters": URL_OPTIONS,
        "requestBody": {"required": True, "content": SEARCH_BODY},
    },
)
async def search(request: Request) -> Response:
    """By id, by the name of an image sent before, by words, or by all of these together.
    Takes an image as its body as well, as `/api/search/upload` does.

    Takes what it needs from the request itself: to have FastAPI solve it as dependencies, and check
    and serialise the answer once more, takes as long as the search.
    """
    if media_type(request.headers) != "application/json":
        return await search_upload(request)
    service, snapshot = await service_of(request), await snapshot_of(request)
    if request.scope["query_string"]:
        message = "options of a JSON request belong into its body"
        raise ApiError("bad_request", message, "leave the URL without them")
    asked = _checked(SearchRequest.model_validate_json, await request.body())
    query = await service.query_images.find_together(asked, snapshot)
    exclude = asked.id is not None if asked.exclude_self is None else asked.exclude_self
    without: bytes | set[int] = query.content_hash
    if asked.like or asked.unlike:
        without = {*asked.like, *asked.unlike} | ({asked.id} if asked.id is not None else set())
    return await _found(service, snapshot, query, asked, without if exclude else None)


@router.post(
    "/api/search/upload",
    responses=with_body(404, 422, 504),
    response_model=SearchAnswer,
    openapi_extra={
        "parameters": URL_OPTIONS,
        "requestBody": {"required": True, "content": IMAGE_BODY},
    },
)
async def search_upload(request: Request) -> Response:
    """With the image as the field `image` of a form, or as the body; options in the URL."""
    service, snapshot = await service_of(request), await snapshot_of(request)
    given: dict[str, Any] = dict(request.query_params)
    if "crop" in given:
        given["crop"] = request.query_params.getlist("crop")
    asked = _checked(UploadOptions.model_validate, given)
    content = await image_in(request)
    query = await service.query_images.of_upload(content, asked.crop, snapshot)
    without = query.content_hash if asked.exclude_self else None
    return await _found(service, snapshot, query, asked, without)


def _checked(check: Callable[[G], T], given: G) -> T:
    """What ``check`` makes of it. Raises ApiError bad_request."""
    try:
        return check(given)
    except ValidationError as error:
        raise bad_values(error.errors()) from error


async def _found(
    service: Service,
    snapshot: GallerySnapshot,
    query: QueryImage,
    asked: SearchOptions,
    without: bytes | set[int] | None,
) -> Response:
    how: dict[str, Any] = {
        "without": without,
        "threshold": asked.threshold,
        "expand": asked.expand,
        "filter": asked.filter,
    }
    began = time.perf_counter()
    if query.scale is not None:
        how |= {"exact": len(snapshot) <= EXACT_UP_TO, "expand": False}
    page = partial(_page, snapshot, query.embedding, asked, how)
    is_quick = service.is_loaded and len(snapshot) <= INLINE_UP_TO
    if (
        is_quick
        and query.scale is None
        and asked.filter is None
        and snapshot.local_index is not None
    ):
        found, hits = page()
    else:
        found, hits = await service.workers.searches.run(page)
    seconds = time.perf_counter() - began
    service.metrics.search.observe(seconds)
    chance, judge = False, query.scale or snapshot.pairs
    if found and asked.threshold is None and judge is not None:
        chance = judge.is_chance(found[0].cosine)
    answer = SearchAnswer.model_construct(  # of our own values, which need no check
        hits=hit_objects(snapshot, hits[: asked.k], query.scale),
        k=asked.k,
        offset=asked.offset,
        more=len(hits) > asked.k,
        seconds={"encode": round(query.seconds, 6), "search": round(seconds, 6)},
        nothing_similar=not found or chance,
        note=(UNRELATED_IN_WORDS if query.scale else CHANCE_IN_WORDS)
        if chance
        else await _note(service, snapshot, asked.filter, bool(found)),
    )
    return SurrogateJSONResponse(answer)


def _page(
    snapshot: GallerySnapshot,
    embedding: NDArray[np.float32],
    asked: SearchOptions,
    how: dict[str, Any],
) -> tuple[list[Found], list[Found]]:
    """What a search finds, and what is left of it for this page; one more than fits shows whether
    there are more.

    A search for more looks deeper, and may find what belonged on an earlier page: an item that it
    moved from there would come twice. So what the pages before were made of is left out by itself.
    """
    found = snapshot.search(embedding, asked.offset + asked.k + 1, **how)
    if not asked.offset:
        return found, found
    earlier = snapshot.search(embedding, asked.offset + 1, **how)[: asked.offset]
    shown = {item.row.id for item in earlier}
    return found, [item for item in found if item.row.id not in shown]


async def _note(
    service: Service, snapshot: GallerySnapshot, filter: str | None, found: bool
) -> str | None:
    if found or filter is None:
        return None
    _, total = await service.workers.searches.run(snapshot.page, filter, 0, 0)
    return None if total else NO_FILE


@router.post(
    "/api/queries",
    status_code=201,
    responses=with_body(422, 504),
    openapi_extra={"requestBody": {"required": True, "content": IMAGE_BODY}},
)
async def add_query(request: Request, service: ServiceDep, snapshot: SnapshotDep) -> QueryAnswer:
    """Keep an image for some minutes; its name is what later requests call it by."""
    name, stored = await service.query_images.store(await image_in(request), snapshot)
    return QueryAnswer(query=name, width=stored.width, height=stored.height)


@router.get(
    "/api/queries/{query}/image",
    response_class=Response,
    responses={**problems(404, 504), 200: {"content": {"image/webp": BINARY}}},
)
async def query_image(service: ServiceDep, query: Annotated[str, Path(pattern=QUERY)]) -> Response:
    """The image, at most 1024 pixels wide and high."""
    stored = service.query_images.sent(query)
    content = await service.workers.searches.run(_webp, stored.image)
    return Response(content, 200, {"Cache-Control": "private, max-age=600"}, "image/webp")


def _webp(image: Image.Image) -> bytes:
    shown = image.copy()
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    with io.BytesIO() as out:
        shown.save(out, "WEBP", quality=QUALITY, method=2)
        return out.getvalue()


# ---- not that one: searches that learn from answers ----------------------------------------------


@router.post("/api/feedback", responses=with_body(404, 422, 504))
async def search_again(
    asked: FeedbackRequest, service: ServiceDep, snapshot: SnapshotDep
) -> FeedbackAnswer:
    """All that was said is in the request; nothing is remembered between two of them."""
    query = await service.query_images.find(asked, snapshot)
    best, ask = await service.workers.searches.run(_learn, snapshot, query, asked)
    return FeedbackAnswer(
        hits=hit_objects(snapshot, best),
        ask=hit_objects(snapshot, ask),
        judged=len({*asked.relevant, *asked.irrelevant}),
    )


def _learn(
    snapshot: GallerySnapshot, query: QueryImage, asked: FeedbackRequest
) -> tuple[list[Found], list[Found]]:
    """One round of `Feedback` over the CANDIDATES images most like the query and the judged ones:
    the best by what was learnt, and those whose judgement would teach most.

    Judged images that are no longer in the gallery are ignored. A query of the gallery and its
    copies are left out unless they were judged.
    """
    judged = {**dict.fromkeys(asked.relevant, True), **dict.fromkeys(asked.irrelevant, False)}
    judged = {number: answer for number, answer in judged.items() if snapshot.has(number)}
    near = snapshot.nearest(query.embedding, CANDIDATES).tolist()
    rows = snapshot.rows(list(dict.fromkeys([*near, *judged])))
    without = None if asked.id is None else query.content_hash
    ids = [i for i, row in rows.items() if row.hash != without or i in judged]
    if not ids:
        return [], []
    vectors = snapshot.vectors(ids)
    teacher = Feedback(vectors, query.embedding)
    places = {number: place for place, number in enumerate(ids)}
    known = [number for number in judged if number in places]
    teacher.tell(
        np.array([places[number] for number in known], np.int64),
        np.array([judged[number] for number in known], np.bool_),
    )
    best = teacher.rank(asked.k).tolist()
    chosen = [*best, *(teacher.ask(asked.ask).tolist() if asked.ask else [])]
    unit = query.embedding / np.linalg.norm(query.embedding)  # a stored one has been rounded
    cosines = (vectors[chosen] @ unit).tolist()
    numbers = [ids[place] for place in chosen]
    items = [
        Found(rows[number], min(1.0, cosine), bits)
        for number, cosine, bits in zip(
            numbers, cosines, snapshot.bits(query.embedding, numbers), strict=True
        )
    ]
    return items[: len(best)], items[len(best) :]
