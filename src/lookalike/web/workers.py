"""Threads and decoding processes, so many at once, with a bounded queue in front of them.

anyio's CapacityLimiter bounds threads, but frees the place of a function whose time is over while
its thread still runs, and the end of the process waits for its threads.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import DecoderError
from lookalike.images import SkippedImageError, SkipReason
from lookalike.images.decoder import Decoder, Limits
from lookalike.threads import cores
from lookalike.web.errors import ApiError, busy
from lookalike.web.settings import ServeSettings

SLOW_WAITING = 4

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """Runs functions in threads for coroutines; refuses what it could not begin soon.

    A function whose time is over is not ended, since threads cannot be, but holds its place until
    it is done: there are never more running or waiting than ``workers`` + ``waiting``.
    """

    def __init__(
        self, name: str, workers: int, waiting: int, seconds: float, *, abandon: bool = False
    ) -> None:
        """``seconds``: how long `run` waits for its turn and the result together; ``abandon``: the
        process may end while a function runs, which must leave nothing half done by that."""
        self.name = name
        self.workers = workers
        self.limit = workers + waiting
        self._seconds = seconds
        self._taken = 0
        self._counting = threading.Lock()
        self._executor: Executor = (
            _Abandoned(workers) if abandon else ThreadPoolExecutor(workers, f"lookalike-{name}")
        )

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result.

        Raises:
            ApiError: busy; timeout.
        """
        with self._counting:
            if self._taken >= self.limit:
                raise busy(f"too many requests wait for {self.name}")
            self._taken += 1
        try:
            future = self._executor.submit(function, *args, **kwargs)
        except RuntimeError as error:  # shut down
            self._free(None)
            raise busy("it is stopping") from error
        future.add_done_callback(self._free)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except TimeoutError as error:
            message = f"{self.name} took more than {self._seconds:g} seconds"
            raise ApiError("timeout", message, "try again later, or with less") from error

    @property
    def taken(self) -> int:
        """How many functions run or wait."""
        return self._taken

    def close(self, *, wait: bool = False) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=wait, cancel_futures=True)

    def _free(self, _: Future[Any] | None) -> None:
        with self._counting:
            self._taken -= 1


class _Abandoned(Executor):
    """A daemon thread for each function: Python does not wait for such when it ends."""

    def __init__(self, workers: int) -> None:
        self._turns = threading.Semaphore(workers)
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._closed:
            raise RuntimeError("it is closed")
        future: Future[T] = Future()
        work = partial(self._run, future, partial(fn, *args, **kwargs))
        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Without waiting for anything; what does not run yet never will."""
        self._closed = True

    def _run(self, future: Future[T], function: Callable[[], T]) -> None:
        with self._turns:
            if self._closed:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image, decoded.

    Attributes:
        content_hash: BLAKE2b-128 of the file.
        pixels: for the encoder, uint8 (s, s, 3); s is 0 if it was not asked for.
        image: upright, RGB, at most as large as asked for; 0 x 0 if it was not asked for.
        width, height: of the upright original; 0 without ``pixels``.
    """

    content_hash: bytes
    pixels: NDArray[np.uint8]
    image: Image.Image
    width: int
    height: int

    @property
    def nbytes(self) -> int:
        """In memory."""
        return self.pixels.nbytes + 3 * self.image.width * self.image.height


class Decoders:
    """A `Decoder` for coroutines, with a bounded queue."""

    def __init__(
        self, name: str, workers: int, waiting: int, seconds: float, limits: Limits
    ) -> None:
        """``seconds``: for an image and its turn together."""
        self.pool = WorkerPool(name, workers, waiting, seconds)
        self._decoder = Decoder(limits, patience=1)

    async def image(self, content: bytes, *, size: int, side: int) -> Decoded:
        """Decode a file's bytes.

        Args:
            size: side of the encoder's square, 0: none.
            side: longest side of the image, 0: none.

        Raises:
            SkippedImageError: it cannot be read, or has too many pixels.
            ApiError: busy; timeout.
        """
        task = {"task": "both", "size": size, "side": side}
        answer, payload = await self.pool.run(self._ask, task, content)
        pixels = np.frombuffer(payload, np.uint8, 3 * size * size).reshape(size, size, 3)
        return Decoded(
            bytes.fromhex(answer["hash"]),
            pixels,
            Image.frombytes("RGB", tuple(answer.get("image", (0, 0))), payload[pixels.nbytes :]),
            answer.get("width", 0),
            answer.get("height", 0),
        )

    async def webp(self, content: bytes, *, side: int, quality: int) -> bytes:
        """A WebP file of the image, its longest side at most ``side``; raises as `image`."""
        task = {"task": "webp", "side": side, "quality": quality}
        return bytes((await self.pool.run(self._ask, task, content))[1])

    async def exif(self, content: bytes) -> dict[str, Any]:
        """As `read_exif`; raises as `image`."""
        answer, _ = await self.pool.run(self._ask, {"task": "exif"}, content)
        found: dict[str, Any] = answer["exif"]
        return found

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


class Workers:
    """All of a server's."""

    def __init__(self, settings: ServeSettings, max_pixels: int) -> None:
        """``max_pixels``: of the gallery's own images."""
        waiting, seconds = settings.waiting, settings.answer_seconds
        self.searches = WorkerPool("searching", settings.search_threads, waiting, seconds)
        self.model = WorkerPool("the model", cores(), waiting, seconds)
        self.slow = WorkerPool("long tasks", 1, SLOW_WAITING, 20 * seconds, abandon=True)
        self.files = WorkerPool("reading files", 8, 8 * waiting, seconds)
        limits = Limits(settings.max_upload_pixels, settings.decode_seconds)
        self.uploads = Decoders("decoding", settings.decoders, waiting, seconds, limits)
        own = Limits(max_pixels, settings.decode_seconds)
        self.own_images = Decoders("reading images", settings.decoders, 8 * waiting, seconds, own)

    async def close(self) -> None:
        """Nothing goes on afterwards but what was begun by ``slow``."""
        for pool in (self.searches, self.model, self.slow, self.files):
            pool.close()
        for decoders in (self.uploads, self.own_images):
            await asyncio.to_thread(decoders.close)
