"""How many threads to start, and BLAS kept from starting more beside them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _BlasLimit:
    """BLAS's number of threads is one for the whole process, so that its users are counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._controller: Any = None
        self._limit: Any = None
        self._users = 0

    def enter(self) -> None:
        with self._lock:
            if self._controller is None:
                from threadpoolctl import ThreadpoolController

                self._controller = ThreadpoolController()
            if self._users == 0:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """For the block, matrix products run in the thread that asks for them.

    BLAS's threads wait by spinning; beside threads of our own that costs three times the time.
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


def for_all_parts(work: Callable[[slice], None], n: int, size: int, threads: int) -> None:
    """Call ``work`` for slices of at most ``size`` that cover range(n), in ``threads`` threads.

    For n = 0 it is not called. NumPy and the compiled kernels let go of the interpreter's lock.
    """
    parts = [slice(start, min(n, start + size)) for start in range(0, n, size)]
    if threads == 1 or len(parts) < 2:
        for part in parts:
            work(part)
        return
    with one_blas_thread(), ThreadPoolExecutor(min(threads, len(parts)), "lookalike") as pool:
        for _ in pool.map(work, parts):
            pass
