"""The model that a gallery is searched with, which has to be the one that it was made with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lookalike.atomic import file_sha256
from lookalike.encoder import DEFAULT_MODEL, Encoder, EncoderSettings, ModelInfo, bundled_model
from lookalike.errors import ModelMismatchError


class GalleryModel:
    """A model file, and its encoder.

    Args:
        path: of the ONNX file; None: the one that comes with lookalike, for a gallery that was
            made with an earlier one that one.
        settings: of the encoder.
    """

    def __init__(self, path: Path | None, settings: EncoderSettings) -> None:
        self.path = path
        self._settings = settings
        self._encoder: Encoder | None = None
        self._opened: Path | None = None
        self._is_checked = path is None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None}  # another process opens its own

    def open(self, known: ModelInfo | None = None) -> Encoder:
        """Opened once; ``known`` is the gallery's model, None before there is one.

        Raises ModelError.
        """
        path = self._file(known)
        if self._encoder is None or path != self._opened:
            self._encoder, self._opened = Encoder.open(path, self._settings), path
        return self._encoder

    def _file(self, known: ModelInfo | None) -> Path:
        return self.path or (DEFAULT_MODEL if known is None else bundled_model(known))

    def matching(self, known: ModelInfo, rebuild: Callable[[], str]) -> Encoder:
        """The encoder, after checking that it is the ``known`` one, of the gallery's embeddings.

        Args:
            rebuild: gives the command that encodes everything with the model in use.

        Raises:
            ModelMismatchError: it is another.
        """
        encoder = self.open(known)
        if known.sha256 != encoder.info.sha256:
            raise ModelMismatchError(
                f"the gallery was made with model {_name(known)}, the one in use is "
                f"{_name(encoder.info)}; their embeddings cannot be compared. Use the first with "
                f"--model FILE, or encode everything again: {rebuild()}"
            )
        return encoder

    def check(self, known: ModelInfo, rebuild: Callable[[], str]) -> None:
        """Once: a model that was given is the gallery's, also if it is not needed."""
        if not self._is_checked:
            if self._sha256(known) != known.sha256:
                self.matching(known, rebuild)
            self._is_checked = True

    def check_now(self, known: ModelInfo, rebuild: Callable[[], str]) -> None:
        """The file, and what was opened of it, is the gallery's model."""
        if self._encoder is not None or self._sha256(known) != known.sha256:
            self.matching(known, rebuild)

    def _sha256(self, known: ModelInfo) -> str:
        """Of the file, hexadecimal; "" if it cannot be read, which opening it will explain."""
        path = self._file(known)
        with suppress(OSError):
            if path.is_file():  # a pipe or device may never end
                return file_sha256(path)
        return ""


def _name(info: ModelInfo) -> str:
    return f"{info.name} {info.version} (sha256 {info.sha256[:12]})"
