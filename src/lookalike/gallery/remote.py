"""Galleries that are not a folder's: named by a URI, opened by a module that is imported then."""

from __future__ import annotations

import importlib
from typing import Any, TypeGuard

from lookalike.errors import GalleryError, extra_needed

HOME = "lookalike.cluster.gallery"
"""The module whose function ``open_uri`` opens a gallery of the scheme ``ray``."""
BEFORE = ("valkey", "valkeys", "redis", "rediss")


def is_remote(name: object) -> TypeGuard[str]:
    """Whether a gallery's name is a URI of a known scheme."""
    scheme, found, _ = name.partition("://") if isinstance(name, str) else ("", "", "")
    return bool(found) and scheme in ("ray", *BEFORE)


def check_on_disk(name: object) -> None:
    """Raises GalleryError if a gallery is not on disk, for what is done to such alone."""
    if is_remote(name):
        raise GalleryError(
            "only a gallery on disk is rebuilt or repaired; of one in shards, embed the images "
            "into a new DIR, start it under another name, then: lookalike cluster switch"
        )


def open_remote(uri: str, **settings: Any) -> Any:
    """The gallery of a URI: an object with the methods of `lookalike.gallery.protocol`.

    Raises:
        GalleryError: the URI is of a server that lookalike does not use any more.
        MissingExtraError: the packages that it needs are not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme in BEFORE:
        raise GalleryError(
            f"galleries are not kept in Valkey or Redis any more ({scheme}://...). The parts that "
            f"this one was loaded from hold all of it: start Ray, then: lookalike cluster start "
            f"DIR --name NAME, and search --gallery ray://NAME; see docs/scale.md"
        )
    with extra_needed("cluster", "a gallery in shards"):
        home = importlib.import_module(HOME)
    return home.open_uri(uri, **settings)
