"""The exceptions that lookalike raises on purpose; each message gives cause and remedy."""

from __future__ import annotations

__all__ = [
    "ClusterBusyError",
    "ClusterError",
    "ClusterStoppedError",
    "DecoderError",
    "GalleryDamagedError",
    "GalleryError",
    "GalleryLockedError",
    "IndexFormatError",
    "LookalikeError",
    "LookalikeWarning",
    "MissingExtraError",
    "ModelError",
    "ModelMismatchError",
    "StorageFullError",
    "TrainingError",
]


class LookalikeError(Exception):
    """Base of every error that a user can cause or fix."""


class LookalikeWarning(UserWarning):
    """What goes on working, but worse than it could; the message names the remedy."""


class ModelError(LookalikeError):
    """A model file is missing, damaged, or not an image encoder that lookalike can run."""


class DecoderError(LookalikeError):
    """Images cannot be decoded here: the processes for it do not start, or were ended."""


class MissingExtraError(LookalikeError):
    """A feature needs an optional dependency; the message names the extra that brings it."""


class TrainingError(LookalikeError):
    """Data that nothing can be learnt from, or a training that cannot go on."""


class IndexFormatError(LookalikeError):
    """An index file is of another version, truncated, forged or damaged."""


class GalleryError(LookalikeError):
    """A gallery cannot be opened or used as asked."""


class ModelMismatchError(GalleryError):
    """The gallery was made with another model than the one in use."""


class GalleryDamagedError(GalleryError):
    """Files of the gallery are missing or altered; the message names the repairing command."""


class GalleryLockedError(GalleryError):
    """Another process is writing to the gallery; the message gives its pid."""


class StorageFullError(GalleryError):
    """The disk (or quota) that holds the gallery is full; the last good state is kept."""


class ClusterError(GalleryError):
    """The Ray cluster, or the shards of a gallery, do not answer, or not as they should."""


class ClusterStoppedError(ClusterError):
    """The Ray cluster serves no gallery of that name."""


class ClusterBusyError(ClusterError):
    """A shard of a gallery has as many requests waiting as it accepts; try again later."""
