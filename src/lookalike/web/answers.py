"""What is answered, as Pydantic models, from which OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from lookalike.gallery.hits import likeness_in_words, score_in_words
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rarity import WordScale, rarities
from lookalike.gallery.report import UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import Found

KEPT_OBJECTS = 20_000


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorContent(_Answer):
    """``code`` is stable; ``message`` and ``remedy`` are for people."""

    code: str
    message: str
    remedy: str


class ErrorAnswer(_Answer):
    """Whatever went wrong."""

    error: ErrorContent


class ImageObject(TypedDict):
    """An image of the gallery; pixels of the upright image."""

    id: int
    path: str
    width: int
    height: int
    format: str
    thumbnail: str
    original: str


def image_object(row: ImageRow) -> ImageObject:
    """Must not be changed: it is made once for an image."""
    return _image_object(row.id, row.path, row.width, row.height, row.format)


@lru_cache(KEPT_OBJECTS)
def _image_object(number: int, path: bytes, *others: Any) -> ImageObject:
    original = f"/api/images/{number}"
    facts = ImageRow(number, path, 0, 0, None, *others).facts()
    links = {"thumbnail": f"{original}/thumbnail", "original": original}
    return cast("ImageObject", {**facts, **links})


class HitObject(ImageObject):
    """An image that looks like the query; see `lookalike.gallery.Hit`."""

    cosine: float
    bits: int
    code_bits: int
    rarity: float | None
    likeness: str
    words: str


def hit_objects(
    snapshot: GallerySnapshot, found: Sequence[Found], scale: WordScale | None = None
) -> list[HitObject]:
    """In the order of ``found``. ``scale``: of a query with words."""
    code_bits, of_words = snapshot.code_bits, scale is not None
    cosines = [item.cosine for item in found]
    shares = rarities(scale or snapshot.pairs, cosines)
    rounded = np.round(np.array([cosines, shares], np.float64), 6).tolist()
    return [
        {
            **_image_object(row.id, row.path, row.width, row.height, row.format),
            "cosine": shown,
            "bits": bits,
            "code_bits": code_bits,
            "rarity": None if rarity is None else share,
            "likeness": likeness_in_words(cosine, rarity, of_words=of_words),
            "words": score_in_words(cosine, bits, code_bits, rarity, of_words=of_words),
        }
        for (row, cosine, bits), rarity, shown, share in zip(found, shares, *rounded, strict=True)
    ]


class HealthAnswer(_Answer):
    status: Literal["ok"]
    images: int
    updating: bool
    words: bool


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


class ImageInfo(ImageObject):
    """And its file: size, when it was last changed, what the embedding leaves out of it."""

    bytes: int
    changed: str
    note: str | None


class ExifAnswer(_Answer):
    """What the camera wrote: ``taken`` by its own clock, the exposure in seconds, mm, degrees."""

    taken: str | None = None
    camera: str | None = None
    lens: str | None = None
    seconds: float | None = None
    f_number: float | None = None
    iso: float | None = None
    focal_length: float | None = None
    latitude: float | None = None
    longitude: float | None = None


class FolderItem(_Answer):
    """A folder, and the images below it."""

    name: str
    path: str
    images: int


class MonthItem(_Answer):
    """Images that were taken in a month, "2022-05"; or whose files were last changed then."""

    month: str
    images: int


class FoldersAnswer(_Answer):
    folders: list[FolderItem]
    months: list[MonthItem]


class ThemeItem(_Answer):
    """Images that are alike; ``id`` is the most central of them."""

    name: str
    id: int
    images: int


class MapAnswer(_Answer):
    """Where images lie on a map, 0 to 1; ``themes_of``: the place of each one's theme among the
    ``themes``, or -1. ``ready`` is false while the map is being made: ask again."""

    ready: bool
    ids: list[int]
    x: list[float]
    y: list[float]
    themes_of: list[int]
    themes: list[ThemeItem]


NO_MAP = MapAnswer(ready=False, ids=[], x=[], y=[], themes_of=[], themes=[])


class ChangedAnswer(_Answer):
    """How many images were taken out or let back in."""

    images: int


class ImagesAnswer(_Answer):
    """``gallery``: whose ids these are, to be sent along where something is done to images."""

    images: list[ImageObject]
    total: int
    gallery: str


class Grid(_Answer):
    """Values of the cells of an image, by rows from the top."""

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
    kind: str | None
    cosine: float
    bytes: int


class DuplicateGroup(_Answer):
    keep: DuplicateItem
    others: list[DuplicateItem]


class DuplicatesAnswer(_Answer):
    """``gallery``: as of a list of images."""

    groups: list[DuplicateGroup]
    threshold: float
    changed: list[str]
    gallery: str


class ActedFile(_Answer):
    """``problem``: why nothing was done with it."""

    path: str
    problem: str | None


class ActAnswer(_Answer):
    """``action``: what was done or undone; null if there was nothing to undo."""

    action: Literal["move", "trash", "hardlink", "reflink", "delete"] | None
    files: list[ActedFile]


class SkippedItem(_Answer):
    id: int
    path: str
    reason: str
    detail: str
    remedy: str


class SkippedReason(_Answer):
    reason: str
    files: int


class SkippedAnswer(_Answer):
    """Some of the skipped files, and how many there are for each reason, most first."""

    reasons: list[SkippedReason]
    skipped: list[SkippedItem]
    total: int


class GalleryFacts(_Answer):
    images: int
    skipped: int
    bytes: int
    directory_name: str
    updated: str | None


class ModelFacts(_Answer):
    name: str
    version: str
    dim: int
    input_size: int
    sha256: str
    attention: bool
    words: bool


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


class UpdateCounts(_Answer):
    """Of files, as `lookalike.gallery.UpdateReport`; ``missing`` ones were kept."""

    added: int
    changed: int
    moved: int
    dropped: int
    reused: int
    images: int
    skipped: int
    removed: int
    unlisted: int
    missing: int
    missing_why: str
    seconds: float

    @classmethod
    def of(cls, report: UpdateReport) -> Self:
        alike = cls.model_fields.keys() & vars(report).keys()
        return cls(
            **{name: getattr(report, name) for name in alike - {"unlisted", "seconds"}},
            unlisted=len(report.unlisted),
            missing=report.missing,
            missing_why="; ".join(dict.fromkeys(absence.why for absence in report.absent)),
            seconds=round(report.seconds, 3),
        )


class UpdateAnswer(_Answer):
    """How far an update is, in files read of those to read, or how the last one ended."""

    updating: bool = False
    done: int = 0
    total: int | None = None
    report: UpdateCounts | None = None
    error: ErrorContent | None = None


class UpdateStarted(_Answer):
    updating: Literal[True]
