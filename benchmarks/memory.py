"""Bytes that an index takes."""

from __future__ import annotations

from lookalike.lsh import LSHIndex
from lookalike.lsh.segment import Segment

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
    arrays = (segment.ids, segment.by_id, segment.vectors, segment.codes, segment.corrections)
    return sum(array.nbytes for array in (*arrays, segment.offsets, segment.blocks, segment.rows))
