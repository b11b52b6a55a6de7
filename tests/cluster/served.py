"""Galleries in a cluster, made of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from jobs import embedded

from lookalike.cluster.collection.loading import LoadReport, load
from lookalike.cluster.gallery import ClusterGallery
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.gallery import Gallery

__all__ = ["interrupt", "load_parts", "opened", "serve", "skipped_of"]


def load_parts(where: Path, uri: str, **options: Any) -> LoadReport:
    """Load what is there as a new generation."""
    parsed = ClusterURI.parse(uri)
    with closing(Connection.open(parsed)) as connection:
        return load(Parts.open(os.fspath(where)), connection, parsed.name, **options)


def opened(uri: str, model: Path | None = None) -> ClusterGallery:
    gallery = Gallery.open(uri, model=model)
    assert isinstance(gallery, ClusterGallery)
    return gallery


def serve(folder: Path, where: Path, uri: str, model: Path, **options: Any) -> ClusterGallery:
    """Embed a folder into the parts ``where``, and load these."""
    embedded(folder, where, model)
    load_parts(where, uri, **options)
    return opened(uri, model)


def skipped_of(gallery: Gallery) -> dict[str, str | None]:
    """Path -> reason."""
    return {os.fsdecode(row.path): row.skipped for row in gallery.skipped()}


def interrupt(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The method, once interrupted by Ctrl-C, before or after it has done its work."""
    left = [1]

    def interrupted(*arguments: Any) -> Any:
        if left and not after:
            left.pop()
            raise KeyboardInterrupt
        result = method(*arguments)
        if left:
            left.pop()
            raise KeyboardInterrupt
        return result

    return interrupted
