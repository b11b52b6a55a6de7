"""Bytes that an index takes."""

from __future__ import annotations

from lookalike.lsh import LSHIndex
from lookalike.lsh.segment import ARRAYS, Segment

__all__ = ["beyond_vectors", "index_bytes"]


def index_bytes(index: LSHIndex) -> int:
    """With the vectors that it keeps."""
    return sum(map(_segment_bytes, index.segments()))


def beyond_vectors(index: LSHIndex) -> float:
    """Per item and table, beside the vectors."""
    segments = index.segments()
    extra = sum(_segment_bytes(segment) - segment.vectors.nbytes for segment in segments)
    return extra / sum(map(len, segments)) / index.settings.tables


def _segment_bytes(segment: Segment) -> int:
    size: int = sum(getattr(segment, name).nbytes for name in ARRAYS)
    return size if segment.links is None else size + segment.links.records.nbytes
