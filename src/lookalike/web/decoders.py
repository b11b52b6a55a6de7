"""A bounded number of decoding processes, each of which may fail without harm."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.imagefile import SkippedImageError, SkipReason
from lookalike.web.decoder_process import read_message, write_message
from lookalike.web.errors import ApiError
from lookalike.web.pool import WorkerPool

__all__ = ["Decoded", "Decoders"]

BASE_MEMORY = 1 << 30
BYTES_PER_PIXEL = 16
"""RGBA of the file, its white background, RGB, and what a plugin keeps."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, decoded.

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


class _Process:
    """One process; not for two threads at once."""

    def __init__(self, memory: int) -> None:
        # -P: modules beside the photographs are not ours. One thread each: they are several.
        command = [sys.executable, "-P", "-m", "lookalike.web.decoder_process", str(memory)]
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
        )

    def ask(
        self, head: dict[str, Any], content: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        """TimeoutError, or EOFError if it died; either way it is of no more use then."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            write_message(cast("BinaryIO", self._process.stdin), head, content)
            return read_message(cast("BinaryIO", self._process.stdout))
        except (OSError, ValueError, EOFError) as error:
            self.kill()
            if late.is_set():
                raise TimeoutError from error
            raise EOFError from error
        finally:
            timer.cancel()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Kill it and let go of its pipes."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                cast("BinaryIO", pipe).close()
        self._process.wait()


class Decoders:
    """Started when first needed, and anew after one was lost."""

    def __init__(
        self, name: str, workers: int, waiting: int, *, seconds: float, wait: float, max_pixels: int
    ) -> None:
        """``seconds``: for one picture; ``wait``: for its turn, too."""
        self.pool = WorkerPool(name, workers, waiting, wait)
        self._seconds = seconds
        self._max_pixels = max_pixels
        self._memory = BASE_MEMORY + BYTES_PER_PIXEL * max_pixels
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._changing = threading.Lock()
        self._closed = False

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
            self._ask, {"task": "picture", "size": size, "side": side}, content
        )
        pixels = np.frombuffer(payload, np.uint8, 3 * size * size).reshape(size, size, 3)
        image = None
        if side:
            shape = tuple(answer["image"])
            image = Image.frombytes("RGB", shape, memoryview(payload)[3 * size * size :])
        return Decoded(
            bytes.fromhex(answer["hash"]),
            pixels if size else None,
            image,
            answer.get("width", 0),
            answer.get("height", 0),
        )

    async def webp(self, content: bytes, *, side: int, quality: int) -> bytes:
        """A WebP file of the picture, its longest side at most ``side``; raises as `picture`."""
        task = {"task": "webp", "side": side, "quality": quality}
        return (await self.pool.run(self._ask, task, content))[1]

    def _ask(self, head: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._take()
        try:
            answer, payload = process.ask(
                {**head, "max_pixels": self._max_pixels}, content, self._seconds
            )
        except TimeoutError as error:
            self._drop(process)
            message = f"decoding the picture took more than {self._seconds:g} seconds"
            raise ApiError("timeout", message, "save it anew, or smaller") from error
        except EOFError as error:
            self._drop(process)
            detail = "its data make the decoder fail"
            raise SkippedImageError(SkipReason.DAMAGED, detail) from error
        with self._changing:
            self._idle.append(process)
        if "reason" in answer:
            reason = SkipReason(answer["reason"])
            raise SkippedImageError(reason, answer["detail"], answer["remedy"])
        return answer, payload

    def _take(self) -> _Process:
        with self._changing:
            if self._idle:
                return self._idle.pop()
            if self._closed:
                raise ApiError("busy", "the server is stopping", "try again later")
            process = _Process(self._memory)
            self._all.add(process)
            return process

    def _drop(self, process: _Process) -> None:
        with self._changing:
            self._all.discard(process)
        process.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        with self._changing:
            self._closed = True
            processes = list(self._all)
        for process in processes:
            process.kill()
        self.pool.close(wait=True)
        for process in processes:
            process.close()
