"""What is asked for, as Pydantic models that check it. Unknown names are errors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from lookalike.errors import GalleryError
from lookalike.gallery.filter import parse_filter

MAX_ID = 2**63 - 1
QUERY = r"^q_[0-9a-f]{32}$"
DEEP_FOLDERS = 4
"""``**/`` in one filter; each doubles the work of matching."""
SLACK = 1e-4
"""By which rounding may move a part out of its image."""


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[float, Field(gt=0, le=1)]


def _inside(crop: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = crop
    if x + width > 1 + SLACK or y + height > 1 + SLACK:
        raise ValueError("the part must lie within the image")
    return crop


def _understood(pattern: str) -> str:
    if pattern.count("**/") > DEEP_FOLDERS:
        raise ValueError(f"a filter may hold '**/' {DEEP_FOLDERS} times; take some out")
    try:
        parse_filter(pattern)
    except GalleryError as error:
        raise ValueError(str(error)) from error
    return pattern


Crop = Annotated[tuple[Share, Share, Side, Side], AfterValidator(_inside)]
Ids = Annotated[tuple[Id, ...], Field(min_length=1, max_length=100_000)]
Key = tuple[int | None, str | None, Crop | None]
Glob = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_understood)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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

    k: Annotated[int, Field(ge=1, le=200)] = 30
    offset: Annotated[int, Field(ge=0, le=1000)] = 0
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
            raise ValueError("give id, query or text; crop needs id or query")
        return self


class UploadOptions(SearchOptions):
    """Of a search with the image in the body; in the URL."""

    crop: Crop | None = None

    @field_validator("crop", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """``x,y,width,height``; clients that know a list alone repeat the option."""
        return ",".join(map(str, given)).split(",") if isinstance(given, list | tuple) else given


class ExplainRequest(QueryRef):
    """Why ``hit`` looks like it."""

    hit: Id


class FeedbackRequest(QueryRef):
    """What a person said of some images."""

    relevant: Annotated[list[Id], Field(max_length=1000)] = []
    irrelevant: Annotated[list[Id], Field(max_length=1000)] = []
    k: Annotated[int, Field(ge=1, le=200)] = 30
    ask: Annotated[int, Field(ge=0, le=100)] = 10

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.relevant) & set(self.irrelevant):
            raise ValueError(f"{min(both)} is called relevant and irrelevant")
        return self


class DuplicatesRequest(_Request):
    """Lower thresholds pair nearly everything with everything."""

    threshold: Annotated[float, Field(ge=0.8, le=1)] = 0.95


class _OfGallery(_Request):
    """Something is done to images, whose ids may be those of a gallery that was rebuilt since."""

    gallery: Annotated[
        str, Field(max_length=100, description="That of the list; refused if it is another now.")
    ] = ""


class MarkedGroup(_Request):
    """Of images that show the same: which are kept, and which could go."""

    keep: Ids
    could_go: Ids


class ActRequest(_OfGallery):
    """What to do with the images that could go."""

    action: Literal["trash", "hardlink"]
    groups: Annotated[list[MarkedGroup], Field(min_length=1, max_length=100_000)]


class ImagesRequest(_OfGallery):
    """Images of the gallery."""

    ids: Ids


class SessionRequest(_Request):
    """The token, to be kept in a cookie."""

    token: Annotated[str, Field(max_length=1000)]
