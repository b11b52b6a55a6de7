"""Not that one: searches that learn from answers."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Request

from lookalike.feedback import Feedback
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.search import Found
from lookalike.web.answers import FeedbackAnswer, hit_objects
from lookalike.web.deps import ServiceDep, SnapshotDep, takes
from lookalike.web.query_images import QueryImage
from lookalike.web.requests import FeedbackRequest

CANDIDATES = 5000
router = APIRouter()


@router.post("/api/feedback", **takes(FeedbackRequest, 404, 422, 504))
async def search_again(
    request: Request, service: ServiceDep, snapshot: SnapshotDep
) -> FeedbackAnswer:
    """All that was said is in the request; nothing is remembered between two of them."""
    asked = await service.bodies.json(request, FeedbackRequest)
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
