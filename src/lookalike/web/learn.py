"""What a person said of some images, turned into a ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.feedback import Feedback
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.search import Found

__all__ = ["CANDIDATES", "Lesson", "learn"]

CANDIDATES = 5000


@dataclass(frozen=True)
class Lesson:
    """``best`` by what was learnt; ``ask``: those whose judgement would teach most."""

    best: list[Found]
    ask: list[Found]


def learn(
    snapshot: GallerySnapshot,
    query: NDArray[np.float32],
    without: bytes | None,
    relevant: list[int],
    irrelevant: list[int],
    k: int,
    ask: int,
) -> Lesson:
    """One round of `Feedback` over the CANDIDATES images most like the query and the judged ones.

    Args:
        query: unit vector, float32 (dim,).
        without: content hash of images to leave out.
        relevant, irrelevant: ids; those no longer in the gallery are ignored.
    """
    judged = {**dict.fromkeys(relevant, True), **dict.fromkeys(irrelevant, False)}
    judged = {number: answer for number, answer in judged.items() if snapshot.has(number)}
    found = snapshot.nearest(query, CANDIDATES)
    ids = list(dict.fromkeys([*found.tolist(), *judged]))
    rows = snapshot.rows(ids)
    ids = [i for i in ids if i in rows and (rows[i].hash != without or i in judged)]
    if not ids:
        return Lesson([], [])
    vectors = snapshot.vectors(ids)
    feedback = Feedback(vectors, query)
    places = {number: place for place, number in enumerate(ids)}
    known = [number for number in judged if number in places]
    feedback.tell(
        np.array([places[number] for number in known], np.int64),
        np.array([judged[number] for number in known], np.bool_),
    )
    best = feedback.rank(k).tolist()
    asked = feedback.ask(ask).tolist() if ask else []
    chosen = [ids[place] for place in (*best, *asked)]
    bits = snapshot.bits(query, chosen)
    unit = query / np.linalg.norm(query)  # a stored one has been rounded
    cosines = (vectors[[*best, *asked]] @ unit).tolist() if chosen else []
    items = [
        Found(rows[number], min(1.0, cosine), differ)
        for number, cosine, differ in zip(chosen, cosines, bits, strict=True)
    ]
    return Lesson(items[: len(best)], items[len(best) :])
