"""Numba's compiler as this package uses it: without the GIL, and with a cache where one can be.

A cache is a convenience. Where no folder can be written (a container with a read-only root, a
service user without a home), where the disk is full or a kept file is damaged, functions are
compiled in memory, and one warning says how to provide a folder. That something is compiled is
logged once, since it takes a while.
"""

from __future__ import annotations

import logging
import pkgutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numba
from numba.core import caching

from lookalike.errors import LookalikeWarning

FunctionCache: Any = caching.FunctionCache
SHARED = ("exact", "lookup", "probing", "simd", "vectors", "walk")
"""Modules with compiled functions, or constants of such, that others use."""


@cache
def _shared_sources() -> list[bytes | None]:
    return [pkgutil.get_data(__package__, f"{name}.py") for name in SHARED]


class _Cache:
    """Numba's cache of one function, whose failures cost time only; what its dispatcher calls.

    Numba compares the source of the function's own file; those of SHARED are compiled into callers
    in other files, and so belong to what must not have changed.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._cache = FunctionCache(function)
        with suppress(AttributeError):  # private to Numba
            file = self._cache._cache_file
            file._source_stamp = (file._source_stamp, *_shared_sources())
        self.cache_path = self._cache.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        kept = None
        try:
            kept = self._cache.load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file raises anything
            with suppress(OSError):
                self._cache.flush()
        if kept is None:
            _say_that_it_takes_a_while()
        return kept

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._cache.save_overload(sig, data)
        except Exception as error:
            _warn(error)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As ``numba.njit(**options)``, releasing the GIL and cached on disk if possible."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError) as error:  # RuntimeError: Numba found no folder
            _warn(error)
        return dispatcher

    return decorate


@cache
def _say_that_it_takes_a_while() -> None:
    logging.getLogger(__name__).info(
        "compiling search code for its first use here, which may take half a minute"
    )


_warned = False


def _warn(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled search code cannot be kept ({error}), so every start compiles it again, "
            f"which takes seconds; set NUMBA_CACHE_DIR to a folder that can be written",
            LookalikeWarning,
            stacklevel=2,
        )
