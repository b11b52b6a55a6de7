"""Images to embeddings: an ONNX model, its identity, and the pipeline that feeds it."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from lookalike.atomic import cache_directory
from lookalike.errors import DecoderError, LookalikeError, ModelError, NoWordsError
from lookalike.runtimes import (
    INPUT,
    OUTPUT,
    RUNTIMES,
    OnnxRuntime,
    Scaling,
    choose,
    open_model,
)
from lookalike.threads import cores, one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lookalike.words import WordEncoder

DEFAULT_MODEL = Path(__file__).with_name("data") / "lookalike-general-3.onnx"
"""Earlier default models lie beside it, for the galleries that were made with them."""
INT8_MODEL = DEFAULT_MODEL.with_name("lookalike-general-3-int8.onnx")
"""The default model in 8 bits, which is another model: for those who ask for it by name."""

METADATA_PREFIX = "lookalike."
FORMATS = ("1", "2")
"""Of the description in a model file; the second names a file of words."""
WITH_WORDS = "clip-vit-base-patch32"
"""A model of the catalogue for those who ask for words."""
LARGEST = 1 << 16
"""Of an image's side in pixels, and of a dimension."""
BATCHES_AHEAD = 3
"""`Encoder.encode` takes so many batches of items besides those that the model runs on."""
GROUP_SECONDS = 0.04
"""It asks for as many items at once as take about so long to read."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model is and what input it takes. ValueError for values that no model can have.

    Pixels x in 0..255 enter the network as (x - mean) / std per channel, in squares of
    `input_size`; the embedding has dimension `dim`. `sha256` is that of the whole file, in
    hexadecimal, and empty only for a model that has not been written yet. `words` is that of the
    file with the half of the model that embeds words; empty: there is none.
    """

    name: str
    version: str
    sha256: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    words: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "version"):
            text = getattr(self, key)
            if not isinstance(text, str) or not text or not text.isprintable():
                raise ValueError(f"{key} must be some text, not {text!r}")
        for key in ("sha256", "words"):
            digits = getattr(self, key)
            if not isinstance(digits, str) or not re.fullmatch(r"([0-9a-f]{64})?", digits):
                raise ValueError(f"{key} must be 64 hexadecimal digits, not {digits!r}")
        for key in ("input_size", "dim"):
            number = getattr(self, key)
            if type(number) is not int or not 1 <= number <= LARGEST:
                raise ValueError(
                    f"{key} must be a positive integer of at most {LARGEST}, not {number!r}"
                )
        for key in ("mean", "std"):
            values = getattr(self, key)
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{key} must be three finite numbers, not {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std!r}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        values = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        return values if self.words else {k: v for k, v in values.items() if k != "words"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelInfo:
        """ValueError for missing or unknown keys and for values that no model can have."""
        _check_keys(values, {field.name for field in fields(cls)}, {"words"})
        try:
            mean, std = (tuple(float(v) for v in values[key]) for key in ("mean", "std"))
            return cls(**{**values, "mean": mean, "std": std})
        except (TypeError, OverflowError) as error:
            raise ValueError(f"model description: {error}") from error

    def to_metadata(self) -> dict[str, str]:
        """All but `sha256`, as the text that a model file carries."""
        values = {key: value for key, value in self.as_dict().items() if key != "sha256"}
        text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
        text["format"] = FORMATS[bool(self.words)]
        return {METADATA_PREFIX + key: value for key, value in text.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], sha256: str) -> ModelInfo:
        """The reverse of `to_metadata`. Keys of other tools are ignored. ValueError if damaged."""
        own = {
            key.removeprefix(METADATA_PREFIX): value
            for key, value in metadata.items()
            if key.startswith(METADATA_PREFIX)
        }
        if not own:
            raise ValueError(f"it has no {METADATA_PREFIX}* metadata")
        if (version := own.pop("format", None)) not in FORMATS:
            known = " and ".join(FORMATS)
            raise ValueError(f"its metadata has format {version}, this version reads {known}")
        optional = {"words"} if version == FORMATS[1] else set()
        _check_keys(own, {field.name for field in fields(cls)} - {"sha256", "words"} | optional)
        texts = ("name", "version", "words")
        values = {k: v if k in texts else json.loads(v) for k, v in own.items()}
        return cls.from_dict({**values, "sha256": sha256})


def _check_keys(
    values: Mapping[str, Any], known: set[str], optional: Set[str] = frozenset()
) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"model description: {values!r:.80} has no entries")
    missing = known - optional - values.keys()
    if missing or values.keys() - known:
        raise ValueError(
            f"model description: missing {sorted(missing)}, unknown {sorted(values.keys() - known)}"
        )


@dataclass(frozen=True)
class EncoderSettings:
    """How to run a model; never what comes out. ValueError for no positive integer."""

    batch_size: int = 8
    """Images per run. Larger ones cost more per image: activations leave the CPU's cache."""
    threads: int | None = None
    """Of the model, and as many again that decode. None takes all cores this process may use."""
    runtime: str = field(default_factory=lambda: os.environ.get("LOOKALIKE_RUNTIME") or "auto")
    """"onnxruntime"; "openvino" (extra `openvino`); or "auto": the second where it is installed and
    its embeddings agree with those of the first (cosine 0.999). Default: $LOOKALIKE_RUNTIME, or
    "auto"."""

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, not {self.batch_size!r}")
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise ValueError(f"threads must be a positive integer or None, not {self.threads!r}")
        if self.runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, not {self.runtime!r}")


class HasPixels(Protocol):
    """What `Encoder.encode` needs of an image; all else that it carries passes through."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """RGB, (input_size, input_size, 3)."""


Item = TypeVar("Item")
Decoded = TypeVar("Decoded", bound=HasPixels)
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False, slots=True)
class Encoded(Generic[Item, Decoded]):
    """An item with its image and its embedding, a unit vector of float32 (dim,)."""

    item: Item
    image: Decoded
    embedding: NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Failed(Generic[Item]):
    """An item without an embedding, and why."""

    item: Item
    error: LookalikeError


Outcome: TypeAlias = "Encoded[Item, Decoded] | Failed[Item]"


def model_path(given: str | os.PathLike[str]) -> Path:
    """The absolute path of a model file; or of the model that comes along or has been downloaded,
    if that is its name and there is no such file."""
    name = os.fspath(given)
    for folder in (DEFAULT_MODEL.parent, cache_directory() / "models" / name):
        if (file := folder / f"{name}.onnx").exists() and not os.path.exists(name):
            return file
    return Path(name).absolute()


def model_name(path: Path) -> str:
    """What `model_path` takes for a file: its name if it has one, else its path."""
    return path.stem if model_path(path.stem) == path else os.fspath(path)


def bundled_model(known: ModelInfo) -> Path:
    """The file of the model of that name and version, if it comes with lookalike; else the default
    model's.
    """
    beside = DEFAULT_MODEL.parent.glob("*.onnx")
    name = f"{known.name}-{known.version}"
    return next((path for path in beside if path.stem == name), DEFAULT_MODEL)


class Encoder:
    """An open model. Any number of threads may use one at once; made by `Encoder.open`.

    Attributes:
        runtime: what computes the embeddings.
    """

    def __init__(
        self, model: OnnxRuntime, info: ModelInfo, settings: EncoderSettings, path: Path
    ) -> None:
        self.info = info
        self.settings = settings
        self._path = path
        self._words: WordEncoder | None = None
        self._model = model
        self._threads = settings.threads or cores()
        model.scaling = Scaling(info.mean, info.std)
        self.runtime = choose(
            model, path, info.sha256, settings.runtime, self._threads, info.input_size
        )
        self._runs = self.runtime.runs
        self.lookahead = (BATCHES_AHEAD + self._runs) * settings.batch_size

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        settings: EncoderSettings | None = None,
    ) -> Encoder:
        """Open the model at `path`, or of that name (see `model_path`), or the default one.

        ModelError if it is missing, damaged, not an encoder that `lookalike` wrote, or keeps
        weights in other files; or if OpenVINO is asked for and gives other embeddings.
        MissingExtraError if OpenVINO is asked for and not installed.
        """
        settings = settings or EncoderSettings()
        remedy = "use one that lookalike has written, or a name of: lookalike model list"
        path = model_path(path or DEFAULT_MODEL)
        if path.parent == DEFAULT_MODEL.parent:
            remedy = "reinstall lookalike, which brings it"
        elif path.parts[-4:-1] == ("lookalike", "models", path.stem):  # see models.catalogue
            remedy = f"get it again with: lookalike model get {path.stem}"
        runtime, sha256 = open_model(path, settings.threads or cores(), remedy)
        try:
            info = ModelInfo.from_metadata(runtime.metadata, sha256)
            _check_shapes(runtime, info)
        except ValueError as error:
            raise ModelError(f"model {path} is not an image encoder: {error}; {remedy}") from error
        return cls(runtime, info, settings, path)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB pixels, uint8 (n, s, s, 3) with s = `info.input_size` -> unit rows (n, dim).

        Any n, in batches of at most `settings.batch_size`, of small models several at once.
        ModelError if an image has an embedding without a direction (all zeros or not finite),
        which only a broken model makes.
        """
        if pixels.ndim != 4:
            raise ValueError(f"pixels must have four axes, not shape {pixels.shape}")
        self._check(pixels.dtype, pixels.shape[1:])
        embeddings = np.empty((len(pixels), self.info.dim), np.float32)
        size = min(self.settings.batch_size, math.ceil(len(pixels) / self._runs)) or 1
        batches = [slice(start, start + size) for start in range(0, len(pixels), size)]

        def run(rows: slice) -> None:
            embeddings[rows] = self._run(pixels[rows])

        if len(batches) > 1 < self._runs:
            with ThreadPoolExecutor(min(self._runs, len(batches)), "lookalike-model") as pool:
                list(pool.map(run, batches))
        else:
            for rows in batches:
                run(rows)
        bad = np.flatnonzero(np.isnan(embeddings[:, 0]))
        if bad.size:
            raise ModelError(self._no_direction(f"images {bad.tolist()}"))
        return embeddings

    def words(self) -> WordEncoder:
        """What embeds words as this model embeds images; opened once.

        Raises:
            NoWordsError: this model knows images alone.
            ModelError: the file with the other half of the model is not beside it, or is not its.
            MissingExtraError: the package tokenizers is missing.
        """
        if self._words is None:
            info = self.info
            if not info.words:
                raise NoWordsError(
                    f"the gallery's model, {info.name} {info.version}, knows images, not words; "
                    f"{WITH_WORDS} knows both: lookalike model get {WITH_WORDS}, then "
                    f"lookalike index --rebuild --model {WITH_WORDS}"
                )
            from lookalike.words import WordEncoder, words_file

            file = words_file(self._path)
            self._words = WordEncoder.open(file, info.words, info.dim, self._threads)
        return self._words

    @property
    def scaling(self) -> Scaling:
        """How pixels enter the model."""
        return self._model.scaling

    @property
    def outputs(self) -> frozenset[str]:
        """What the model gives: embeddings, and perhaps the gates of its attention."""
        return frozenset(output.name for output in self._model.outputs)

    def output(self, name: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One of `outputs` as the model gives it, of an image uint8 (s, s, 3): float32 (...)."""
        self._check(pixels.dtype, pixels.shape)
        given = {INPUT: self._model.scaling.batch([pixels])}
        row: NDArray[np.float32] = self._model.run(given, name)[0]
        return row

    def encode(
        self,
        items: Iterable[Item],
        read: Callable[[Sequence[Item]], Sequence[Decoded | LookalikeError]],
        stop: Callable[[], None] | None = None,
    ) -> Iterator[Outcome[Item, Decoded]]:
        """Read the items and embed their images; yield the outcomes in the order of `items`.

        `read` runs in threads while the model runs. It is given several items at once if they take
        little time, and returns an image or an error for each (`one_by_one` makes such a function
        of one for a single item). An error becomes a `Failed`, without its traceback, which would
        hold the file's content; so does an image whose embedding has no direction. Any exception
        that `read` raises ends the iteration. Ending it early, by an exception or by closing the
        iterator, calls `stop`, which may end the reads that have begun, and waits for them.

        Items are taken as they are needed: at most `lookahead` are being read or embedded and not
        yet yielded, so memory does not grow with the number of items.
        """
        batch_size = self.settings.batch_size
        room = self.lookahead
        waiting: deque[tuple[list[Item], Future[Sequence[Decoded | LookalikeError]]]] = deque()
        ready: deque[tuple[Item, Decoded | LookalikeError]] = deque()
        batch: list[tuple[Item, Decoded | LookalikeError]] = []
        images = 0
        running: deque[tuple[int, Future[list[Outcome[Item, Decoded]]]]] = deque()
        group_size = 1

        def read_timed(group: list[Item]) -> Sequence[Decoded | LookalikeError]:
            nonlocal group_size
            began = time.perf_counter()
            made = read(group)
            seconds = max((time.perf_counter() - began) / len(group), 1e-6)
            group_size = max(1, min(batch_size, int(GROUP_SECONDS / seconds)))
            return made

        source = iter(items)
        with (
            one_blas_thread(),
            ThreadPoolExecutor(self._threads, "lookalike-read") as pool,
            ThreadPoolExecutor(self._runs, "lookalike-model") as models,
        ):
            try:
                while True:
                    while group := list(islice(source, min(group_size, room))):
                        waiting.append((group, pool.submit(read_timed, group)))
                        room -= len(group)
                    if batch and (images == batch_size or not (ready or waiting)):
                        running.append((len(batch), models.submit(self._finish, batch)))
                        batch, images = [], 0
                    if len(running) > self._runs or (running and not (ready or waiting)):
                        count, outcomes = running.popleft()
                        yield from outcomes.result()
                        room += count
                    elif ready:
                        item, made = ready.popleft()
                        if isinstance(made, LookalikeError):
                            made = _without_frames(made)
                        else:
                            images += 1
                        batch.append((item, made))
                    elif waiting:
                        group, future = waiting.popleft()
                        ready.extend(zip(group, future.result(), strict=True))
                    else:
                        return
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                models.shutdown(wait=False, cancel_futures=True)
                if stop is not None:
                    stop()

    def _finish(
        self, batch: list[tuple[Item, Decoded | LookalikeError]]
    ) -> list[Outcome[Item, Decoded]]:
        pixels = [part.pixels for _, part in batch if not isinstance(part, LookalikeError)]
        for array in pixels:
            self._check(array.dtype, array.shape)
        rows = iter(self._run(pixels))
        outcomes: list[Outcome[Item, Decoded]] = []
        for item, part in batch:
            if isinstance(part, LookalikeError):
                outcomes.append(Failed(item, part))
            elif not np.isnan((embedding := next(rows))[0]):
                outcomes.append(Encoded(item, part, embedding))
            else:
                outcomes.append(Failed(item, ModelError(self._no_direction("the image"))))
        return outcomes

    def _run(self, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """At most one batch. Rows without a direction become NaN."""
        if not len(pixels):
            return np.empty((0, self.info.dim), np.float32)
        rows = self.runtime.embed(pixels)
        lengths = np.linalg.norm(rows, axis=1)
        lengths[~np.isfinite(lengths) | (lengths == 0)] = np.nan
        rows /= lengths[:, None]
        return rows

    def _check(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        size = self.info.input_size
        if dtype != np.uint8 or shape != (size, size, 3):
            raise ValueError(
                f"an image must be uint8 of shape ({size}, {size}, 3), not {dtype} of {shape}"
            )

    def _no_direction(self, what: str) -> str:
        return (
            f"model {self.info.name} {self.info.version} gives {what} an embedding that is zero "
            "or not finite: use another model"
        )


def one_by_one(
    read: Callable[[Item], Made],
) -> Callable[[Sequence[Item]], list[Made | LookalikeError]]:
    """For `Encoder.encode`: a function of several items, made of one for a single item.

    A LookalikeError that ``read`` raises stands for its item; a DecoderError, which is not the
    item's fault, is raised.
    """

    def read_one(item: Item) -> Made | LookalikeError:
        try:
            return read(item)
        except DecoderError:
            raise
        except LookalikeError as error:
            return error

    return lambda items: [read_one(item) for item in items]


def _without_frames(error: LookalikeError) -> LookalikeError:
    """Traceback and causes hold the reader's variables, file contents among them: let them go."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def _check_shapes(runtime: OnnxRuntime, info: ModelInfo) -> None:
    """ValueError unless the graph takes and gives what its metadata says, for any batch."""
    size = info.input_size
    for ends, name, shape in (
        (runtime.inputs, INPUT, [3, size, size]),
        (runtime.outputs, OUTPUT, [info.dim]),
    ):
        found = [tuple(end) for end in ends]
        if name == OUTPUT:  # a model may give more, its attention say; only this one is asked for
            found = [end for end in found if end[0] == OUTPUT] or found
        if (
            len(found) != 1
            or found[0][:2] != (name, "tensor(float)")
            or isinstance(found[0][2][0], int)
            or found[0][2][1:] != shape
        ):
            raise ValueError(
                f"it has {found}, not one float tensor {name!r} of shape {['n', *shape]}"
            )
