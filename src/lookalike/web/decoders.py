"""Uploads and the gallery's own files, decoded in other processes, so many at once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import DecoderError
from lookalike.images import SkippedImageError, SkipReason
from lookalike.images.decoder import Decoder, Limits
from lookalike.web.errors import ApiError
from lookalike.web.pool import WorkerPool

__all__ = ["Decoded", "Decoders"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image, decoded.

    Attributes:
        content_hash: BLAKE2b-128 of the file.
        pixels: for the encoder, uint8 (s, s, 3); None if not asked for.
        image: upright, RGB, at most as large as asked for; None if not asked for.
        width, height: of the upright original; 0 without ``pixels``.
    """

    content_hash: bytes
    pixels: NDArray[np.uint8] | None
    image: Image.Image | None
    width: int
    height: int


class Decoders:
    """A `Decoder` for coroutines, with a bounded queue."""

    def __init__(
        self, name: str, workers: int, waiting: int, *, limits: Limits, wait: float
    ) -> None:
        """``wait``: seconds for an image and its turn together."""
        self.pool = WorkerPool(name, workers, waiting, wait)
        self._decoder = Decoder(limits, patience=1)

    async def picture(self, content: bytes, *, size: int, side: int) -> Decoded:
        """Decode a file's bytes.

        Args:
            size: side of the encoder's square, 0: none.
            side: longest side of the image, 0: none.

        Raises:
            SkippedImageError: it cannot be read, or has too many pixels.
            ApiError: busy; timeout.
        """
        answer, payload = await self.pool.run(
            self._ask, {"task": "both", "size": size, "side": side}, content
        )
        pixels = np.frombuffer(payload, np.uint8, 3 * size * size).reshape(size, size, 3)
        image = None
        if side:
            shape = tuple(answer["image"])
            image = Image.frombytes("RGB", shape, payload[3 * size * size :])
        return Decoded(
            bytes.fromhex(answer["hash"]),
            pixels if size else None,
            image,
            answer.get("width", 0),
            answer.get("height", 0),
        )

    async def webp(self, content: bytes, *, side: int, quality: int) -> bytes:
        """A WebP file of the image, its longest side at most ``side``; raises as `picture`."""
        task = {"task": "webp", "side": side, "quality": quality}
        return bytes((await self.pool.run(self._ask, task, content))[1])

    def _ask(self, task: dict[str, Any], content: bytes) -> tuple[dict[str, Any], memoryview]:
        try:
            return self._decoder.ask(task, io.BytesIO(content))
        except DecoderError as error:
            raise ApiError("busy", "the server cannot decode images now", "try again") from error
        except SkippedImageError as error:
            if error.reason is SkipReason.TOO_SLOW:
                raise ApiError("timeout", error.detail, "make the image smaller") from error
            raise

    def close(self) -> None:
        """End what is being decoded."""
        self._decoder.close()
        self.pool.close(wait=True)
