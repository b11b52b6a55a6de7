"""A bounded number of threads with a bounded queue in front of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from lookalike.web.errors import ApiError

__all__ = ["WorkerPool", "busy"]

P = ParamSpec("P")
T = TypeVar("T")


def busy(what: str) -> ApiError:
    """Too much of one kind at once."""
    return ApiError("busy", f"the server is busy: {what}", "try again in a moment")


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
