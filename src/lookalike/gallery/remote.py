"""Galleries that are not a folder's: named by a URI, opened by a module that is imported then."""

from __future__ import annotations

import importlib
from typing import Any, TypeGuard

from lookalike.errors import GalleryError, MissingExtraError

__all__ = ["check_on_disk", "is_remote", "open_remote"]

CLUSTER = "lookalike.cluster.opening"
HOMES = dict.fromkeys(("valkey", "valkeys", "redis", "rediss"), CLUSTER)
"""Scheme of the URI -> module whose function ``open_uri`` opens it."""
PACKAGES = ("valkey", "libvalkey", "pyarrow")


def is_remote(name: object) -> TypeGuard[str]:
    """Whether a gallery's name is a URI of a known scheme."""
    return isinstance(name, str) and name.partition("://")[0] in HOMES and "://" in name


def check_on_disk(name: object) -> None:
    """Raises GalleryError if a gallery is not on disk, for what is done to such alone."""
    if is_remote(name):
        raise GalleryError(
            "only a gallery on disk is rebuilt or repaired; load one in a cluster anew from its "
            "parts: lookalike cluster load"
        )


def open_remote(uri: str, **settings: Any) -> Any:
    """The gallery of a URI: an object with the methods of `Gallery`.

    Raises:
        MissingExtraError: the packages that it needs are not installed.
    """
    try:
        home = importlib.import_module(HOMES[uri.partition("://")[0]])
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        raise MissingExtraError(
            f"a gallery in a cluster needs {package}: pip install 'lookalike[cluster]'"
        ) from error
    return home.open_uri(uri, **settings)
