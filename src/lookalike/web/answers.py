"""What is answered, as Pydantic models. They describe; the answers themselves are plain values."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "DuplicatesAnswer",
    "ErrorAnswer",
    "ExplainAnswer",
    "FeedbackAnswer",
    "HealthAnswer",
    "HitObject",
    "ImageObject",
    "ImagesAnswer",
    "QueryAnswer",
    "SearchAnswer",
    "SkippedAnswer",
    "StatsAnswer",
    "UpdateAnswer",
    "problems",
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorContent(_Answer):
    """``code`` is stable; ``message`` and ``remedy`` are for people."""

    code: str
    message: str
    remedy: str


class ErrorAnswer(_Answer):
    """Whatever went wrong."""

    error: ErrorContent


class ImageObject(_Answer):
    """An image of the gallery; pixels of the upright picture."""

    id: int
    path: str
    width: int
    height: int
    format: str
    thumbnail: str
    original: str


class HitObject(ImageObject):
    """An image that looks like the query; see `lookalike.gallery.Hit`."""

    cosine: float
    bits: int
    code_bits: int
    rarity: float | None
    words: str


class HealthAnswer(_Answer):
    status: Literal["ok"]
    images: int
    updating: bool


class QueryAnswer(_Answer):
    query: str
    width: int
    height: int


class SearchAnswer(_Answer):
    hits: list[HitObject]
    k: int
    offset: int
    more: bool
    seconds: dict[Literal["encode", "search"], float]
    nothing_similar: bool
    note: str | None


class ImagesAnswer(_Answer):
    images: list[ImageObject]
    total: int


class Grid(_Answer):
    """Values of the cells of a picture, by rows from the top."""

    rows: int
    columns: int
    values: list[list[float]]


class Gate(Grid):
    """0..1 between the true minimum ``low`` and the true maximum ``high``."""

    low: float
    high: float


class Gates(_Answer):
    query: Gate
    hit: Gate


class Pair(_Answer):
    query: tuple[int, int]
    hit: tuple[int, int]
    cosine: float


class Regions(_Answer):
    query: Grid
    hit: Grid
    pairs: list[Pair]


class ExplainAnswer(_Answer):
    attention: Gates | None
    attention_note: str | None
    regions: Regions
    cosine: float


class FeedbackAnswer(_Answer):
    hits: list[HitObject]
    ask: list[HitObject]
    judged: int


class DuplicateItem(ImageObject):
    cosine: float
    bytes: int


class DuplicateGroup(_Answer):
    keep: DuplicateItem
    others: list[DuplicateItem]


class DuplicatesAnswer(_Answer):
    groups: list[DuplicateGroup]
    threshold: float
    changed: list[str]


class SkippedItem(_Answer):
    path: str
    reason: str
    detail: str
    remedy: str


class SkippedAnswer(_Answer):
    skipped: list[SkippedItem]
    total: int


class GalleryFacts(_Answer):
    images: int
    skipped: int
    directory_name: str
    updated: str | None


class ModelFacts(_Answer):
    name: str
    version: str
    dim: int
    input_size: int
    sha256: str
    attention: bool


class Recall(_Answer):
    recall: float
    k: int
    microseconds: float


class Point(_Answer):
    recall: float
    microseconds: float


class Bucket(_Answer):
    size_from: int
    size_to: int
    count: int


class StatsAnswer(_Answer):
    gallery: GalleryFacts
    model: ModelFacts
    index: dict[str, Any]
    recall: Recall | None
    curve: list[Point]
    buckets: list[Bucket]
    largest_bucket: int
    empty_share: float


class UpdateAnswer(_Answer):
    updating: bool
    done: int
    total: int | None
    report: dict[str, Any] | None
    error: ErrorContent | None


class UpdateStarted(_Answer):
    updating: Literal[True] = Field()


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, besides those of every route."""
    always = (400, 401, 403, 409, 429, 503)
    return {status: {"model": ErrorAnswer} for status in sorted({*always, *statuses})}
