"""What `ClusterGallery.info` tells beyond what it tells of a local gallery."""

from __future__ import annotations

from dataclasses import dataclass

from lookalike.gallery.gallery import GalleryInfo

__all__ = ["ClusterInfo"]


@dataclass(frozen=True)
class ClusterInfo(GalleryInfo):
    """Facts about a gallery in a cluster. It takes no disk here: ``disk_bytes`` is 0.

    Attributes:
        uri: where it is, without a password.
        parts: folder or URI of the parts that it was loaded from, the truth.
        generation: how often it was loaded.
        layout: "inline" or "packed".
        created: when it was loaded, seconds since the epoch.
        nodes: host:port of the servers that hold a part of it, without their replicas.
        memory: bytes of one copy by kind of key, estimated from a sample.
    """

    uri: str
    parts: str
    generation: int
    layout: str
    created: float
    nodes: tuple[str, ...]
    memory: dict[str, int]
