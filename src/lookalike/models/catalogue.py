"""Encoders by name: those that come with lookalike, and published ones, which one command downloads
and makes model files of.

The latter are kept in the user's cache folder and work offline from then on. A new one is one entry
of `CATALOGUE`. Downloading needs onnx, not torch; using what was downloaded does not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookalike.atomic import NO_SPACE, cache_directory
from lookalike.errors import ModelError
from lookalike.models.download import Report, download, locked
from lookalike.models.settings import IMAGENET, Triple
from lookalike.words import import_tokenizers

if TYPE_CHECKING:
    from lookalike.encoder import ModelInfo
    from lookalike.models.adopt import Tokens

HOST = "https://huggingface.co"
HOST_VARIABLE = "LOOKALIKE_MODELS_URL"
"""Environment variable with the address of a mirror."""


@dataclass(frozen=True)
class Source:
    """A published file: its path in the repository, its size in bytes and its SHA-256."""

    path: str
    bytes: int
    sha256: str

    def within(self, folder: Path) -> Path:
        """Where it is kept until the model file is made."""
        return folder / Path(self.path).name


@dataclass(frozen=True)
class Entry:
    """A model as it was published.

    Attributes:
        repository, revision: of the host, where files are at REPOSITORY/resolve/REVISION/PATH.
        about, licence: for people.
        image: the ONNX file of the image encoder.
        size, statistics, output, tokens: arguments of `adopt`.
        text: of a model that knows words, the ONNX file of the other half, and its tokenizer.
        length: the most tokens that it takes.
    """

    repository: str
    revision: str
    about: str
    licence: str
    image: Source
    size: int
    statistics: tuple[Triple, Triple]
    output: str
    tokens: Tokens | None = None
    text: tuple[Source, Source] | None = None
    length: int = 77

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that is downloaded."""
        return (self.image, *(self.text or ()))

    @property
    def bytes(self) -> int:
        """Of all downloads."""
        return sum(source.bytes for source in self.sources)


def _dinov2(about: str, image: Source) -> Entry:
    revision = "c2bb04a51fab207c420665f1946016107bffc701"
    return Entry(
        "Xenova/dinov2-small",
        revision,
        about,
        "Apache-2.0",
        image,
        224,
        IMAGENET,
        "last_hidden_state",
        "cls",
    )


def _clip(about: str, image: Source, text: Source) -> Entry:
    tokenizer = Source(
        "tokenizer.json",
        2_224_119,
        "f7f3b7af117d467b58374797691a6438d3e6b9e9cef800dfd5dced7f697a90cd",
    )
    return Entry(
        "Xenova/clip-vit-base-patch32",
        "d15189d7028b43f1d3e65039190477f6af591c2a",
        about,
        "MIT",
        image,
        224,
        ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323)),
        "image_embeds",
        text=(text, tokenizer),
    )


CATALOGUE: Mapping[str, Entry] = {
    "dinov2-small": _dinov2(
        "what an image shows, learnt without labels",
        Source(
            "onnx/model.onnx",
            88_459_888,
            "83141175ec78b4ff9a2bb58a4c7c264ba0054d1c2e122e5a8114b79a8d4179ea",
        ),
    ),
    "dinov2-small-quantized": _dinov2(
        "the same in 8 bits: a third of the size",
        Source(
            "onnx/model_quantized.onnx",
            24_451_943,
            "3afdc8bc63b50558d6e5770f5b799bb82455c2311183a2de43803f343a29d917",
        ),
    ),
    "clip-vit-base-patch32": _clip(
        "images and words: search by what they show",
        Source(
            "onnx/vision_model.onnx",
            351_685_709,
            "fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40",
        ),
        Source(
            "onnx/text_model.onnx",
            254_058_553,
            "3f6571f5bad13a97c469c1622e1cfc4d9aef78b79fdbfcff804ca357bfada8cc",
        ),
    ),
    "clip-vit-base-patch32-quantized": _clip(
        "the same in 8 bits: a quarter of the size",
        Source(
            "onnx/vision_model_quantized.onnx",
            89_117_001,
            "583fd1110a514667812fee7d684952aaf82a99b959760c8d7dca7e0ab9839299",
        ),
        Source(
            "onnx/text_model_quantized.onnx",
            64_504_507,
            "73baab855d406190da9faa498cfedf65f15cf309f4cc7385b7b032e6d08e5c3a",
        ),
    ),
}


BUNDLED: Mapping[str, str] = {
    "lookalike-general-3": "the default",
    "lookalike-general-3-int8": "the same in 8 bits: twice as fast, other embeddings",
    "lookalike-general-2": "the default before",
}
"""Models that come with lookalike, and what is to be said of them."""


def model_file(name: str) -> Path:
    """Where the model file of an entry is, or would be.

    Raises:
        ModelError: there is no such entry.
    """
    from lookalike.encoder import DEFAULT_MODEL

    if name in BUNDLED:
        return DEFAULT_MODEL.with_name(f"{name}.onnx")
    if name not in CATALOGUE:
        known = ", ".join((*BUNDLED, *CATALOGUE))
        raise ModelError(f"no model is called {name!r}; there are: {known}")
    return cache_directory() / "models" / name / f"{name}.onnx"


def get(
    name: str, *, host: str | None = None, progress: Callable[[int, int], None] | None = None
) -> ModelInfo:
    """Download an entry, unless it is there, and make its model file.

    Args:
        host: address of a mirror; None: $LOOKALIKE_MODELS_URL, or HOST.
        progress: called with the bytes that have arrived, of all files together, and their sum.

    Raises:
        ModelError: no such entry; a failed download, see `download`, what has arrived is kept; or
            the file is not what the entry says. No model file is written then.
    """
    from lookalike.encoder import Encoder

    out = model_file(name)
    if out.exists():
        return Encoder.open(out).info
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.parent / "lock"):
            return _make(out, CATALOGUE[name], host, progress)
    except OSError as error:
        free = "free some space" if error.errno in NO_SPACE else "see why"
        raise ModelError(
            f"cannot write {out} ({error.strerror}): {free} and run the command again, what was "
            "downloaded is kept"
        ) from error


def _make(
    out: Path, entry: Entry, host: str | None, progress: Callable[[int, int], None] | None
) -> ModelInfo:
    """Download what is missing to a folder beside `out`, and leave `out` alone there."""
    from lookalike.models.adopt import TextTower, adopt

    if entry.text is not None:
        import_tokenizers()  # before anything is downloaded
    for unfinished in out.parent.glob(".lookalike-*"):  # by a process that was killed
        shutil.rmtree(unfinished)
    base = (host or os.environ.get(HOST_VARIABLE) or HOST).rstrip("/")
    files, before = out.parent / "downloads", 0
    for source in entry.sources:
        url = f"{base}/{entry.repository}/resolve/{entry.revision}/{source.path}"
        report = None if progress is None else _counted(progress, before, entry.bytes)
        download(url, source.within(files), source.sha256, size=source.bytes, progress=report)
        before += source.bytes
    mean, std = entry.statistics
    text = entry.text and TextTower(
        entry.text[0].within(files), entry.text[1].within(files), "text_embeds", entry.length
    )
    info = adopt(
        entry.image.within(files),
        out,
        name=out.stem,
        version=entry.revision[:12],
        size=entry.size,
        mean=mean,
        std=std,
        output=entry.output,
        tokens=entry.tokens,
        text=text,
    )
    shutil.rmtree(files)
    return info


def _counted(progress: Callable[[int, int], None], before: int, total: int) -> Report:
    return lambda arrived, _: progress(before + arrived, total)


def remove(name: str) -> bool:
    """Delete what was downloaded and made of an entry; returns whether there was anything.

    Raises:
        ModelError: there is no such entry, or it comes with lookalike.
    """
    folder = model_file(name).parent
    if name in BUNDLED:
        raise ModelError(f"{name} comes with lookalike: only what was downloaded can be removed")
    if not folder.exists():
        return False
    shutil.rmtree(folder)
    return True
