"""Galleries that are not a folder's: named by a URI, opened by a module that is imported then."""

from __future__ import annotations

import importlib
from typing import Any, TypeGuard

from lookalike.errors import GalleryError, extra_needed

HOME = "lookalike.cluster.gallery"
"""The module whose function ``open_uri`` opens a gallery of the scheme ``ray``."""


def is_remote(name: object) -> TypeGuard[str]:
    """Whether a gallery's name is the address of one in shards."""
    return isinstance(name, str) and name.startswith("ray://")


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
        MissingExtraError: the packages that it needs are not installed.
    """
    with extra_needed("cluster", "a gallery in shards"):
        home = importlib.import_module(HOME)
    return home.open_uri(uri, **settings)
