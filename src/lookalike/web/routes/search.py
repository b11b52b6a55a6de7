"""What looks like this picture?"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.search import Found
from lookalike.web.answers import SearchAnswer, problems
from lookalike.web.body import bad_values, media_type
from lookalike.web.errors import ApiError, json_response
from lookalike.web.query_images import QueryImage
from lookalike.web.render import hit_objects
from lookalike.web.routes.access import service_of
from lookalike.web.routes.queries import BINARY, FORM
from lookalike.web.schemas import SearchOptions, SearchRequest, UploadOptions, json_body
from lookalike.web.service import Service

__all__ = ["nothing_similar", "router"]

CHANCE = 0.98
SURE = 0.7
"""A cosine that means something however alike the images of a gallery are."""
NOTHING = "even the best of these is as dissimilar as a random pair of images"
router = APIRouter()


def _parameters() -> list[dict[str, Any]]:
    """Options of a search with the picture in the body, for OpenAPI."""
    schema = UploadOptions.model_json_schema()["properties"]
    schema["crop"] = {"type": "string", "description": "x,y,width,height as shares 0..1"}
    return [
        {"name": name, "in": "query", "required": False, "schema": part}
        for name, part in schema.items()
    ]


@router.post(
    "/api/search",
    response_model=SearchAnswer,
    responses=problems(404, 408, 413, 415, 422, 504),
    openapi_extra={
        **json_body(
            SearchRequest,
            **{
                "image/*": BINARY,
                "application/octet-stream": BINARY,
                "multipart/form-data": FORM,
            },
        ),
        "parameters": _parameters(),
    },
)
async def search(request: Request) -> Response:
    """By id or by the name of a picture sent before (JSON), or with the picture as the body and
    the options in the URL."""
    service = service_of(request)
    options: SearchOptions
    if media_type(request) == "application/json":
        if request.url.query:
            message = "options of a JSON request belong into its body"
            raise ApiError("bad_request", message, "leave the URL without them")
        asked = await service.bodies.json(request, SearchRequest)
        snapshot = await service.snapshot()
        query = await service.query_images.find(asked, snapshot)
        options, exclude = asked, asked.exclude_self
        if exclude is None:
            exclude = asked.id is not None
    else:
        uploaded = _upload_options(request)
        async with service.bodies.picture(request) as content:
            query = await service.query_images.of_upload(content, uploaded.crop)
        snapshot = await service.snapshot()
        options, exclude = uploaded, bool(uploaded.exclude_self)
    return json_response(await _answer(service, snapshot, query, options, exclude))


def _upload_options(request: Request) -> UploadOptions:
    given = dict(request.query_params)
    if len(given) < len(request.query_params.multi_items()):
        message = "an option in the URL is given more than once"
        raise ApiError("bad_request", message, "give each option once")
    try:
        return UploadOptions.model_validate(given)
    except ValidationError as error:
        raise bad_values(error) from error


async def _answer(
    service: Service,
    snapshot: GallerySnapshot,
    query: QueryImage,
    options: SearchOptions,
    exclude: bool,
) -> dict[str, Any]:
    wanted = options.offset + options.k + 1  # one more shows whether there are more

    without = query.content_hash if exclude else None

    def find() -> list[Found]:
        return snapshot.search(
            query.embedding,
            wanted,
            without=without,
            filter=options.filter,
            threshold=options.threshold,
            own=query.own,
        )

    began = time.perf_counter()
    found = None
    if options.filter is None and service.searches_inline(snapshot):
        found = snapshot.search_in_memory(
            query.embedding,
            wanted,
            without=without,
            threshold=options.threshold,
            own=query.own,
        )
    if found is None:
        found = await service.searches.run(find)
    seconds = time.perf_counter() - began
    service.metrics.search.observe(seconds)
    hits = hit_objects(snapshot, found[options.offset : options.offset + options.k])
    nothing = not found or (options.threshold is None and nothing_similar(snapshot, found[0]))
    return {
        "hits": hits,
        "k": options.k,
        "offset": options.offset,
        "more": len(found) == wanted,
        "seconds": {"encode": round(query.seconds, 6), "search": round(seconds, 6)},
        "nothing_similar": nothing,
        "note": NOTHING if nothing and found else None,
    }


def nothing_similar(snapshot: GallerySnapshot, best: Found) -> bool:
    """Whether random pairs of images are as alike as the best hit is to the query.

    The best of n images that have nothing to do with the query is expected to be closer than
    1 - 1/n of random pairs. A hit that does not reach this, or in a large gallery CHANCE, means
    nothing, unless its cosine is SURE: in a gallery of a few large classes many pairs are alike.
    """
    (rarity,) = snapshot.rarities([best.cosine])
    if rarity is None or snapshot.pairs is None:
        return False
    return best.cosine < SURE and rarity < min(CHANCE, 1 - 1 / snapshot.pairs.images)
