"""What is asked for and what is answered, as Pydantic models that check it. Unknown names are
errors."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from lookalike.errors import GalleryError
from lookalike.gallery.filter import parse_filter
from lookalike.gallery.hits import likeness_in_words, score_in_words
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rarity import WordScale
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import Found

MAX_ID = 2**63 - 1
QUERY = r"^q_[0-9a-f]{32}$"
DEEP_FOLDERS = 4
"""``**/`` in one filter; each doubles the work of matching."""
SLACK = 1e-4
"""By which rounding may move a part out of its image."""


def _whole(value: object) -> object:
    """JSON knows no integers: 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_whole)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[float, Field(gt=0, le=1)]


def _inside(crop: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = crop
    if x + width > 1 + SLACK or y + height > 1 + SLACK:
        raise ValueError("the part must lie within the image")
    return crop


def _understood(pattern: str) -> str:
    if pattern.count("**/") > DEEP_FOLDERS:
        raise ValueError(f"a filter may hold '**/' {DEEP_FOLDERS} times")
    try:
        parse_filter(pattern)
    except GalleryError as error:
        raise ValueError(str(error)) from error
    return pattern


Crop = Annotated[tuple[Share, Share, Side, Side], AfterValidator(_inside)]
Ids = Annotated[tuple[Id, ...], Field(min_length=1, max_length=200), Field(strict=False)]
Key = tuple[int | None, str | None, Crop | None]
Glob = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_understood)]


def value_of(text: object) -> object:
    """A number, true, false or null in a URL, written as in JSON; ValueError otherwise.

    Pydantic alone would also take "+1", "1_0", " 1", "on".
    """
    if not isinstance(text, str):
        return text
    try:
        if text != text.strip():
            raise ValueError
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, int | float | None):
        return value
    raise ValueError("this must be a number, true or false, written as in JSON")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class QueryRef(_Request):
    """What to compare with: an image of the gallery, or an image that was sent before.

    ``crop``: x, y, width and height of a part of it, as shares of the upright image.
    """

    id: Id | None = None
    query: Annotated[str, Field(pattern=QUERY)] | None = None
    crop: Crop | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.id is None) == (self.query is None):
            raise ValueError("give either id or query")
        return self

    @property
    def key(self) -> Key:
        """What is compared with, equal for equal ones."""
        return self.id, self.query, self.crop


class SearchOptions(_Request):
    """How to search; see `Gallery.search`."""

    k: Annotated[int, Field(ge=1, le=200), BeforeValidator(_whole)] = 30
    offset: Annotated[int, Field(ge=0, le=1000), BeforeValidator(_whole)] = 0
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    filter: Glob | None = None
    exclude_self: bool | None = None
    expand: bool | None = None


class SearchRequest(SearchOptions, QueryRef):
    """Search with an image of the gallery, an image that was sent before, words, or an image and
    words together, if the gallery's model knows words.

    ``like``, ``unlike``: ids of further images that hits should look like, and should not.
    """

    text: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    like: Annotated[list[Id], Field(max_length=200)] = []
    unlike: Annotated[list[Id], Field(max_length=200)] = []

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.id is not None and self.query is not None:
            raise ValueError("give either id or query")
        if self.id is None and self.query is None and (self.text is None or self.crop is not None):
            raise ValueError("give id, query or text; crop is a part of an image")
        if self.text is not None and (self.like or self.unlike):
            raise ValueError("like and unlike go with an image; leave text out")
        return self


class UploadOptions(SearchOptions):
    """Of a search with the image in the body; in the URL."""

    crop: Crop | None = None

    @field_validator("k", "offset", mode="before")
    @classmethod
    def _number(cls, text: object) -> object:
        if isinstance(value := value_of(text), float):
            raise ValueError("this must be a whole number")
        return value

    @field_validator("threshold", "exclude_self", "expand", mode="before")
    @classmethod
    def _value(cls, text: object) -> object:
        return value_of(text)

    @field_validator("crop", mode="before")
    @classmethod
    def _split(cls, crop: object) -> object:
        return tuple(map(value_of, crop.split(","))) if isinstance(crop, str) else crop


class ExplainRequest(QueryRef):
    """Why ``hit`` looks like it."""

    hit: Id


class FeedbackRequest(QueryRef):
    """What a person said of some images."""

    relevant: Annotated[list[Id], Field(max_length=1000)] = []
    irrelevant: Annotated[list[Id], Field(max_length=1000)] = []
    k: Annotated[int, Field(ge=1, le=200), BeforeValidator(_whole)] = 30
    ask: Annotated[int, Field(ge=0, le=100), BeforeValidator(_whole)] = 10

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.relevant) & set(self.irrelevant):
            raise ValueError(f"{min(both)} is called relevant and irrelevant")
        return self


class DuplicatesRequest(_Request):
    """Lower thresholds pair nearly everything with everything."""

    threshold: Annotated[float, Field(ge=0.8, le=1)] = 0.95


class MarkedGroup(_Request):
    """Of images that show the same: which are kept, and which could go."""

    keep: Ids
    could_go: Ids


class ActRequest(_Request):
    """What to do with the images that could go."""

    action: Literal["trash", "hardlink"]
    groups: Annotated[list[MarkedGroup], Field(min_length=1, max_length=100_000)]


class ImagesRequest(_Request):
    """Images of the gallery."""

    ids: Ids


class SessionRequest(_Request):
    """The token, to be kept in a cookie."""

    token: Annotated[str, Field(max_length=1000)]


REQUESTS = (
    SearchRequest,
    ExplainRequest,
    FeedbackRequest,
    DuplicatesRequest,
    ActRequest,
    MarkedGroup,
    ImagesRequest,
    SessionRequest,
)
"""Bodies in JSON, which OpenAPI describes by name."""


# ---- answers -------------------------------------------------------------------------------------


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


class ImageObject(_Answer):
    """An image of the gallery; pixels of the upright image."""

    id: int
    path: str
    width: int
    height: int
    format: str
    thumbnail: str
    original: str

    @classmethod
    def of(cls, row: ImageRow, **others: Any) -> Self:
        """``others``: what a subclass adds."""
        return cls(**_fields(row), **others)


def _fields(row: ImageRow) -> dict[str, Any]:
    original = f"/api/images/{row.id}"
    return {
        "id": row.id,
        "path": os.fsdecode(row.path),
        "width": row.width or 0,
        "height": row.height or 0,
        "format": row.format or "",
        "thumbnail": f"{original}/thumbnail",
        "original": original,
    }


class HitObject(ImageObject):
    """An image that looks like the query; see `lookalike.gallery.Hit`."""

    cosine: float
    bits: int
    code_bits: int
    rarity: float | None
    likeness: str
    words: str


_HITS = TypeAdapter(list[HitObject])


def hit_objects(
    snapshot: GallerySnapshot, found: Sequence[Found], scale: WordScale | None = None
) -> list[HitObject]:
    """In the order of ``found``; checked all at once, which takes half the time. ``scale``: of a
    query with words."""
    bits, cosines = snapshot.code_bits, [item.cosine for item in found]
    rarities = snapshot.rarities(cosines) if scale is None else scale.shares_below(cosines)
    return _HITS.validate_python(
        [
            {
                **_fields(item.row),
                "cosine": round(item.cosine, 6),
                "bits": item.bits,
                "code_bits": bits,
                "rarity": None if rarity is None else round(rarity, 6),
                "likeness": likeness_in_words(item.cosine, rarity, of_words=scale is not None),
                "words": score_in_words(
                    item.cosine, item.bits, bits, rarity, of_words=scale is not None
                ),
            }
            for item, rarity in zip(found, rarities, strict=True)
        ]
    )


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
    """Images whose files were last changed in a month, "2022-05"."""

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


class ChangedAnswer(_Answer):
    """How many images were taken out or let back in."""

    images: int


class ImagesAnswer(_Answer):
    images: list[ImageObject]
    total: int


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
    groups: list[DuplicateGroup]
    threshold: float
    changed: list[str]


class ActedFile(_Answer):
    """``problem``: why nothing was done with it."""

    path: str
    problem: str | None


class ActAnswer(_Answer):
    """``action``: what was done or undone; null if there was nothing to undo."""

    action: Literal["move", "trash", "hardlink", "reflink", "delete"] | None
    files: list[ActedFile]


class SkippedItem(_Answer):
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


class UpdateAnswer(_Answer):
    """How far an update is, in files read of those to read, or how the last one ended."""

    updating: bool = False
    done: int = 0
    total: int | None = None
    report: UpdateCounts | None = None
    error: ErrorContent | None = None


class UpdateStarted(_Answer):
    updating: Literal[True]
