"""From the URI of a gallery in a cluster to the gallery."""

from __future__ import annotations

from pathlib import Path

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.keys import name_key
from lookalike.cluster.gallery import ClusterGallery
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.encoder import EncoderSettings
from lookalike.errors import GalleryError
from lookalike.gallery.gallery import Path_

__all__ = ["open_uri"]


def open_uri(
    uri: str,
    *,
    model: Path_ | None = None,
    encoder_settings: EncoderSettings | None = None,
    max_pixels: int = 200_000_000,
) -> ClusterGallery:
    """Open the collection that ``valkey://HOST:PORT/NAME`` names.

    Raises:
        GalleryError: the URI is none, or there is no such collection yet.
        ClusterError: the servers do not answer.
    """
    parsed = ClusterURI.parse(uri)
    connection = Connection.open(parsed)
    try:
        return ClusterGallery(
            parsed,
            _collection(connection, parsed.name),
            model=None if model is None else Path(model).absolute(),
            encoder_settings=encoder_settings or EncoderSettings(),
            max_pixels=max_pixels,
        )
    except BaseException:
        connection.close()
        raise


def _collection(connection: Connection, name: str) -> Collection:
    try:
        return Collection.open(connection, name)
    except GalleryError as error:
        if connection.run([("EXISTS", name_key(name))])[0]:
            raise
        start = name_key("").encode()
        keys = {key.removeprefix(start).decode() for key in connection.scan(start + b"*")}
        names = sorted(key for key in keys if ":" not in key)
        there = f"those that there are: {', '.join(names)}" if names else "there are no others"
        raise GalleryError(f"{error}; {there}") from error
