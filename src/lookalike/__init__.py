"""Content-based image retrieval: point it at a folder, give it an image, get what looks alike.

>>> from lookalike import Gallery
>>> gallery = Gallery.open("photos/")
>>> gallery.update()
>>> for hit in gallery.search("query.jpg", k=10):
...     print(hit.path, hit.cosine, hit.bits)

Importing the package imports none of its parts; they come when they are first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as of typing, which would double the time until Ctrl-C is handled

if TYPE_CHECKING:
    from lookalike.encoder import Encoder, EncoderSettings
    from lookalike.gallery import Blend, Gallery, Hit, Words
    from lookalike.lsh import LSHIndex, LSHSettings
    from lookalike.progress import progress_bar

__version__ = "0.1.0"
__all__ = [
    "Blend",
    "Encoder",
    "EncoderSettings",
    "Gallery",
    "Hit",
    "LSHIndex",
    "LSHSettings",
    "Words",
    "__version__",
    "progress_bar",
]

_HOMES = {
    "Blend": "lookalike.gallery",
    "Encoder": "lookalike.encoder",
    "EncoderSettings": "lookalike.encoder",
    "Gallery": "lookalike.gallery",
    "Hit": "lookalike.gallery",
    "LSHIndex": "lookalike.lsh",
    "LSHSettings": "lookalike.lsh",
    "Words": "lookalike.gallery",
    "progress_bar": "lookalike.progress",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lookalike' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
