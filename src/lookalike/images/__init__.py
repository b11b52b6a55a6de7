"""Image files to RGB arrays: formats, orientation, colour, limits, the reason when one is skipped.

`read_picture` and `read_rgb` decode in this process; `lookalike.images.decoder` does the same in
processes with a bound of time and memory, for untrusted files.
"""

from lookalike.images.formats import SkippedImageError, SkipReason, Source
from lookalike.images.pixels import (
    DEFAULT_MAX_PIXELS,
    Note,
    Picture,
    content_hash,
    looks_like_image,
    read_picture,
    read_rgb,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Note",
    "Picture",
    "SkipReason",
    "SkippedImageError",
    "Source",
    "content_hash",
    "looks_like_image",
    "read_picture",
    "read_rgb",
]
