"""How many threads to start, and BLAS kept from starting more beside them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_counting = threading.Lock()
_users = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """For the block, matrix products run in the thread that asks for them.

    BLAS's threads wait by spinning; beside threads of our own that costs three times the time.
    Their number is one for the whole process, so that its users are counted.
    """
    global _users, _limit
    with _counting:
        if _users == 0:
            _limit = _blas(len(sys.modules)).limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _counting:
            _users -= 1
            if _users == 0:
                _limit.restore_original_limits()


@lru_cache(1)
def _blas(modules: int) -> Any:
    """Of all that is loaded, which takes a millisecond to find; each BLAS comes with modules."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def for_all_parts(work: Callable[[slice], None], n: int, size: int, threads: int) -> None:
    """Call ``work`` for slices of at most ``size`` that cover range(n), in ``threads`` threads.

    For n = 0 it is not called. NumPy and the compiled kernels let go of the interpreter's lock.
    """
    parts = [slice(start, min(n, start + size)) for start in range(0, n, size)]
    if threads == 1 or len(parts) < 2:
        with one_blas_thread() if threads == 1 else nullcontext():
            for part in parts:
                work(part)
        return
    with one_blas_thread(), ThreadPoolExecutor(min(threads, len(parts)), "lookalike") as pool:
        for _ in pool.map(work, parts):
            pass
