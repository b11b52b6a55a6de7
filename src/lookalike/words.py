"""Words to embeddings that lie among those of images: the other half of a model of both.

It is a file beside the model file, which carries its SHA-256: an ONNX network that takes tokens,
with the tokenizer and what a gallery needs to judge scores in its metadata. Needs tokenizers
(extra: words).
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lookalike.errors import ModelError, extra_needed, first_line
from lookalike.runtimes import OUTPUT, OnnxRuntime, open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS, MASK = "input_ids", "attention_mask"
"""Inputs, int64 (n, t); a network may do without the second."""
PREFIX = "lookalike.words."
FORMAT = "1"
MOST_TOKENS = 4096
LARGEST_TOKENIZER = 64 << 20
MOST_PROMPTS = 4096
LONGEST_TEXT = 10_000
"""Characters, which the tokenizer is not given more of."""


def words_file(model: Path) -> Path:
    """Where the file of words of a model file is."""
    return model.with_name(f"{model.stem}.words.onnx")


def metadata(tokenizer: str, length: int, prompts: NDArray[np.float32]) -> dict[str, str]:
    """What a file of words carries: the tokenizer as JSON, the most tokens that the network takes,
    and embeddings (p, dim) of words that have nothing to do with most galleries."""
    values = {
        "format": FORMAT,
        "tokenizer": tokenizer,
        "length": str(length),
        "prompts": base64.b64encode(prompts.astype("<f2").tobytes()).decode(),
    }
    return {PREFIX + key: value for key, value in values.items()}


def import_tokenizers() -> Any:
    """The module. MissingExtraError if it is not installed."""
    with extra_needed("words", "searching with words"):
        return importlib.import_module("tokenizers")


def read_tokenizer(text: str) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json, which neither cuts nor fills up.

    Raises:
        ValueError: it is not one; MissingExtraError: the package is missing.
    """
    Tokenizer = import_tokenizers().Tokenizer
    if len(text) > LARGEST_TOKENIZER:
        raise ValueError(f"its tokenizer has more than {LARGEST_TOKENIZER:,} characters")
    tokenizer = _guarded(Tokenizer.from_str, text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _guarded(function: Any, *arguments: Any) -> Any:
    """ValueError for whatever a tokenizer raises; a fault in its Rust is not even an Exception."""
    try:
        return function(*arguments)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"its tokenizer fails ({str(error).partition(chr(10))[0]})") from error


class WordEncoder:
    """Any number of threads may use one at once; made by `WordEncoder.open`.

    Attributes:
        prompts: unit embeddings, float32 (p, dim), of words about things that few galleries show.
    """

    def __init__(
        self, runtime: OnnxRuntime, tokenizer: Any, length: int, prompts: NDArray[np.float32]
    ) -> None:
        self.prompts = prompts
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._length = length
        self._inputs = {end.name for end in runtime.inputs}

    @classmethod
    def open(cls, path: Path, sha256: str, dim: int, threads: int) -> WordEncoder:
        """Open a file of words, which may come from anywhere.

        Args:
            sha256: that the model file names; dim: of its embeddings.

        Raises:
            ModelError: it is missing, damaged, another, or keeps weights in other files.
            MissingExtraError: the package tokenizers is missing.
        """
        remedy = "it belongs beside the model file, both as 'lookalike model' made them"
        runtime, _ = open_model(path, threads, remedy, sha256)
        try:
            _check_ends(runtime, dim)
            values = _own(runtime.metadata)
            length = int(values["length"])
            if not 1 <= length <= MOST_TOKENS:
                raise ValueError(f"its length is {length}, not 1 to {MOST_TOKENS}")
            prompts = _prompts(values["prompts"], dim)
            return cls(runtime, read_tokenizer(values["tokenizer"]), length, prompts)
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is not a file of words: {error}; {remedy}") from error

    def embed(self, text: str) -> NDArray[np.float32]:
        """The unit embedding, float32 (dim,).

        Raises:
            ValueError: the text is empty or too long.
            ModelError: the model does not take it.
        """
        text = " ".join(text.split())
        if not text:
            raise ValueError("there are no words to search with")
        try:
            ids = [] if len(text) > LONGEST_TEXT else _guarded(self._tokenizer.encode, text).ids
        except ValueError as error:
            raise ModelError(f"the model's words cannot be read: {error}") from error
        if not 1 <= len(ids) <= self._length:
            count = f"{len(ids):,} tokens" if ids else f"{len(text):,} characters"
            raise ValueError(
                f"these words are {count}; the model takes at most {self._length} tokens, about "
                f"{3 * self._length // 4} words: shorten them"
            )
        tokens = np.array([ids], np.int64)
        given = {TOKENS: tokens, MASK: np.ones_like(tokens)}
        try:
            (row,) = self._runtime.run({k: v for k, v in given.items() if k in self._inputs})
        except Exception as error:  # onnxruntime has a dozen unrelated classes
            raise ModelError(
                f"the model does not take these words ({first_line(error)})"
            ) from error
        norm = np.linalg.norm(row)
        if not (np.isfinite(norm) and norm > 0):
            raise ModelError("the model gives these words an embedding that is zero or not finite")
        unit: NDArray[np.float32] = (row / norm).astype(np.float32)
        return unit


def _own(carried: Mapping[str, str]) -> dict[str, str]:
    own = {k.removeprefix(PREFIX): v for k, v in carried.items() if k.startswith(PREFIX)}
    if own.get("format") != FORMAT:
        raise ValueError(f"its words have format {own.get('format')}, this version reads {FORMAT}")
    return own


def _check_ends(runtime: OnnxRuntime, dim: int) -> None:
    taken = {(end.name, end.type) for end in runtime.inputs}
    allowed = {(name, "tensor(int64)") for name in (TOKENS, MASK)}
    given = [(end.name, end.type, end.shape[1:]) for end in runtime.outputs]
    if (
        not {(TOKENS, "tensor(int64)")} <= taken <= allowed
        or any(isinstance(size, int) for end in runtime.inputs for size in end.shape)
        or given != [(OUTPUT, "tensor(float)", [dim])]
    ):
        raise ValueError(f"it takes {sorted(taken)} and gives {given}, not {dim} numbers of tokens")


def _prompts(text: str, dim: int) -> NDArray[np.float32]:
    content = base64.b64decode(text, validate=True)
    if len(content) % (2 * dim) or not 2 <= len(content) // (2 * dim) <= MOST_PROMPTS:
        raise ValueError("its prompts are not embeddings of the model")
    rows = np.frombuffer(content, "<f2").astype(np.float32).reshape(-1, dim)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0.5).all()):
        raise ValueError("its prompts are not unit vectors")
    return np.asarray(rows / lengths, np.float32)
