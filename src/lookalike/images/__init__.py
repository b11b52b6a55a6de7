"""Image files to RGB arrays: formats, orientation, colour, limits, the reason when one is skipped.

`read_image` and `read_rgb` decode in this process; `lookalike.images.decoder` does the same in
processes with a bound of time and memory, for untrusted files. What decodes in this process is
imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lookalike.images.outcome import (
    DEFAULT_MAX_PIXELS,
    DecodedImage,
    Note,
    SkippedImageError,
    SkipReason,
    Source,
)

if TYPE_CHECKING:
    from lookalike.images.pixels import content_hash, looks_like_image, read_image, read_rgb

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DecodedImage",
    "Note",
    "SkipReason",
    "SkippedImageError",
    "Source",
    "content_hash",
    "looks_like_image",
    "read_image",
    "read_rgb",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lookalike.images' has no attribute '{name}'")
    from lookalike.images import pixels

    return getattr(pixels, name)
