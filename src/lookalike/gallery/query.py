"""What a search compares with: images in any form, embeddings, and directions made of several."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, Failed, one_by_one
from lookalike.errors import GalleryError
from lookalike.gallery.rarity import SAMPLE, WordScale, combine
from lookalike.gallery.rows import ImageRow
from lookalike.lsh.vectors import as_floats

if TYPE_CHECKING:
    from PIL import Image

    from lookalike.gallery.search import StoredVectors, Table
    from lookalike.images.decoder import Limits
    from lookalike.images.outcome import DecodedImage
    from lookalike.words import WordEncoder

T = TypeVar("T")

Example: TypeAlias = (
    "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8] "
    "| NDArray[np.floating[Any]] | Words"
)
"""One image: path of a file or of an indexed image, a file's bytes, an open file, a Pillow image,
pixels uint8 (height, width[, 3 or 4]); an embedding, float (dim,); or `Words`."""


@dataclass(frozen=True)
class Words:
    """What an image shows, in words, for a gallery whose model knows them."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"words are {self.text!r}; they must be text")


@dataclass(frozen=True, eq=False)
class Blend:
    """Looks like all of these and not like those: one direction, see `combine`."""

    like: Sequence[Example]
    unlike: Sequence[Example] = ()

    def __post_init__(self) -> None:
        for name in ("like", "unlike"):
            object.__setattr__(self, name, several(getattr(self, name)))
        if not self.like:
            raise ValueError("give at least one image, or words, that the hits should look like")

    @property
    def has_words(self) -> bool:
        """Whether one of them is of words."""
        return any(isinstance(example, Words) for example in (*self.like, *self.unlike))


Query: TypeAlias = "Example | Blend"


class Embedded(NamedTuple):
    """A query's embedding, and the ids that are the query itself or have its content; of words, how
    its cosines are to be read."""

    vector: NDArray[np.float32]
    own: set[int]
    scale: WordScale | None = None


def several(values: Iterable[T]) -> list[T]:
    """A list of ``values``.

    Raises:
        TypeError: they are one path, whose characters would be taken for paths.
    """
    if isinstance(values, str | bytes | os.PathLike):
        raise TypeError(f"{values!r} is one value where several are expected; put it in a list")
    return list(values)


def embed_queries(
    store: Table,
    index: StoredVectors,
    root: Path,
    queries: Sequence[Query],
    encoder: Callable[[], Encoder],
    limits: Limits,
) -> list[Embedded]:
    """Of each query what is compared with the gallery's images.

    An indexed image has its vector stored; for others ``encoder`` is asked for the model, and they
    are read side by side.

    Raises:
        GalleryError: neither a file nor an indexed image.
        SkippedImageError: an image cannot be read; with its name, if there are several.
        NoWordsError: the model knows images alone; ValueError: too many words.
    """
    examples = [_located(store, root, each) for query in queries for each in _examples(query)]
    known = [_stored(store, index, root, example) for example in examples]
    words: WordEncoder | None = None
    for number, example in enumerate(examples):
        if isinstance(example, Words):
            words = words or encoder().words()
            known[number] = words.embed(example.text), set()
    unknown = {
        number: _source(example)
        for number, (example, (vector, _)) in enumerate(zip(examples, known, strict=True))
        if vector is None
    }
    if unknown:
        for number, (digest, vector) in _encoded(examples, unknown, encoder, limits).items():
            own = known[number][1] | {copy.id for copy in store.by_hash(digest)}
            known[number] = vector, own
    found = iter(cast("list[tuple[NDArray[np.float32], set[int]]]", known))
    sample = None if words is None else index.sample(SAMPLE)
    prompts = None if words is None else words.prompts
    return [_together(query, found, sample, prompts) for query in queries]


def with_text(query: Query | list[Any] | None, text: str | None) -> list[Any]:
    """Queries, each with ``text`` beside it if there is any.

    Raises:
        ValueError: neither is given.
    """
    if text is None:
        if query is None:
            raise ValueError("give a query, or text")
        return query if isinstance(query, list) else [query]
    words = Words(text)
    return [
        words
        if one is None
        else Blend([*one.like, words], one.unlike)
        if isinstance(one, Blend)
        else Blend([one, words])
        for one in (query if isinstance(query, list) else [query])
    ]


def _examples(query: Query) -> Sequence[Example]:
    return [*query.like, *query.unlike] if isinstance(query, Blend) else [query]


def _together(
    query: Query,
    found: Iterator[tuple[NDArray[np.float32], set[int]]],
    sample: NDArray[np.float32] | None,
    prompts: NDArray[np.float32] | None,
) -> Embedded:
    blend = query if isinstance(query, Blend) else Blend([query])
    parts = [list(islice(found, len(some))) for some in (blend.like, blend.unlike)]
    like, unlike = ([vector for vector, _ in part] for part in parts)
    own = set[int]().union(*(ids for part in parts for _, ids in part))
    if blend.has_words and sample is not None and prompts is not None:
        words = [isinstance(example, Words) for example in (*blend.like, *blend.unlike)]
        pairs = list(zip([*like, *unlike], words, strict=True))
        scale = WordScale(sample, prompts, pairs[: len(like)], pairs[len(like) :])
        return Embedded(scale.vector, own, scale)
    return Embedded(combine(like, unlike) if query is blend else like[0], own)


def _located(store: Table, root: Path, example: Example) -> Example:
    """An image that is given by its path in the gallery, as the path to its file if that is
    there."""
    if not isinstance(example, str | os.PathLike) or os.path.lexists(example):
        return example
    row = row_of(store, root, example)
    file = None if row is None else root / os.fsdecode(row.path)
    return example if file is None or not os.path.lexists(file) else file


def _stored(
    store: Table, index: StoredVectors, root: Path, example: Example
) -> tuple[NDArray[np.float32] | None, set[int]]:
    """The embedding if there is no need to compute it, and the ids of the example, if it is there.

    Raises:
        GalleryError, ValueError: as `embed_queries`; an array of another type or shape.
    """
    if isinstance(example, np.ndarray):
        if np.issubdtype(example.dtype, np.floating) and example.ndim == 1:
            return as_floats(example), set()
        is_shaped = example.ndim == 2 or example.shape[2:] in ((2,), (3,), (4,))
        if example.dtype != np.uint8 or not is_shaped or not example.size:
            raise ValueError(
                f"an array of {example.dtype} and shape {example.shape} is not a query: give "
                f"pixels, uint8 (height, width, 3), or an embedding, float (dim,); several as a "
                f"list"
            )
    if not isinstance(example, str | os.PathLike):
        return None, set()  # of words as well, which no gallery stores
    row, own = row_of(store, root, example), set[int]()
    if row is not None and row.skipped is None and index.contains([row.id])[0]:
        own.add(row.id)
        if is_as_indexed(root, row, if_gone=True, strict=True):
            copies = store.by_hash(row.hash) if row.hash else []
            return index.vectors([row.id])[0], own | {copy.id for copy in copies}
    if not os.path.lexists(example):
        raise GalleryError(f"{os.fspath(example)} is neither a file nor an indexed image of {root}")
    return None, own


def _source(example: Example) -> str | os.PathLike[str] | io.BytesIO:
    """What the decoder takes. Of pixels, a file of them: they are then read as files are."""
    if isinstance(example, str | os.PathLike):
        return example
    if isinstance(example, bytes):
        return io.BytesIO(example)
    if isinstance(example, io.TextIOBase):
        raise TypeError("a file to search with must be opened for reading bytes: open(path, 'rb')")
    if not isinstance(example, np.ndarray) and hasattr(example, "read"):
        return io.BytesIO(example.read())
    from PIL import Image, ImageOps

    assert not isinstance(example, Words)
    if isinstance(example, np.ndarray):
        image = Image.fromarray(example)
    elif not isinstance(example, Image.Image):
        kind = type(example).__name__
        raise TypeError(f"a query cannot be of the type {kind}; several are given as a list")
    else:
        image = ImageOps.exif_transpose(example)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)
    file.seek(0)
    return file


def _encoded(
    examples: Sequence[Example],
    sources: dict[int, str | os.PathLike[str] | io.BytesIO],
    encoder: Callable[[], Encoder],
    limits: Limits,
) -> dict[int, tuple[bytes, NDArray[np.float32]]]:
    """Content hash and embedding of each of the ``sources``, by its place in ``examples``."""
    from lookalike.images.decoder import Decoder
    from lookalike.images.outcome import SkippedImageError

    made = dict[int, tuple[bytes, NDArray[np.float32]]]()
    with Decoder(limits) as decoder:
        decoder.prepare(len(sources))  # while the model is opened
        model = encoder()
        hashes = dict[int, bytes]()

        def read(number: int) -> DecodedImage:
            hashes[number], image = decoder.read_hashed(sources[number], model.info.input_size)
            return image

        for outcome in model.encode(sources, one_by_one(read), decoder.close):
            if not isinstance(outcome, Failed):
                made[outcome.item] = hashes[outcome.item], outcome.embedding
                continue
            error, example = outcome.error, examples[outcome.item]
            if isinstance(error, SkippedImageError) and len(examples) > 1:
                name = os.fspath(example) if isinstance(example, str | os.PathLike) else "an image"
                detail = f"{error.detail} ({name}, number {outcome.item + 1} of {len(examples)})"
                raise SkippedImageError(error.reason, detail, error.remedy)
            raise error
    return made


def names_of(root: Path, path: str | os.PathLike[str]) -> list[bytes]:
    """What a path may be called in the gallery: given to the file or folder, or in the gallery."""
    given = Path(path)
    if "\0" in os.fspath(given):  # which no file's name holds
        return []
    names = [
        os.fsencode(spelling.relative_to(folder).as_posix())
        for spelling in (Path(os.path.abspath(given)), Path(os.path.realpath(given)))
        for folder in (root.absolute(), Path(os.path.realpath(root)))
        if spelling.is_relative_to(folder)
    ]
    if not given.is_absolute() and not os.path.exists(given):
        names.append(os.fsencode(Path(os.path.normpath(given)).as_posix()))
    return names


def row_of(store: Table, root: Path, path: str | os.PathLike[str]) -> ImageRow | None:
    """The row of a file, given by any path to it or by its path in the gallery.

    A name that is spelled in another Unicode form than on disk is recognised.
    """
    given, names = Path(path), names_of(root, path)
    for name in names:
        if (row := store.by_path(name)) is not None:
            return row
    if os.path.exists(given):
        return None
    alike = {_composed(name) for name in names if not name.isascii()}
    if not alike:
        return None
    known = chain(store.indexed(), store.skipped())
    return next((row for row in known if _composed(row.path) in alike), None)


def _composed(path: bytes) -> str:
    return unicodedata.normalize("NFC", os.fsdecode(path))


def is_as_indexed(root: Path, row: ImageRow, *, if_gone: bool, strict: bool = False) -> bool:
    """Whether a file has the size and time with which it was indexed; see `ImageRow.fits`."""
    try:
        status = (root / os.fsdecode(row.path)).stat()
    except OSError:
        return if_gone
    return row.fits(status, strict=strict)
