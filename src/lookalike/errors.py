"""The exceptions that lookalike raises on purpose; each message gives cause and remedy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NAMED = 5


def install_command(extra: str) -> str:
    """The command that installs what an extra needs: its packages by name, which works from a
    clone and where lookalike itself is not in the package index."""
    from importlib import metadata

    try:
        declared = metadata.requires("lookalike") or []
    except metadata.PackageNotFoundError:  # run from its sources
        declared = []
    packages = dict.fromkeys(_packages(extra, declared)) or [f"lookalike[{extra}]"]
    return shlex.join(["pip", "install", *packages])


def _packages(extra: str, declared: list[str]) -> Iterator[str]:
    """What an extra needs, by lookalike's requirements; with what the extras in it need."""
    for line in declared:
        package, _, marker = (part.strip() for part in line.partition(";"))
        if f"extra == '{extra}'" in marker.replace('"', "'"):
            if others := re.fullmatch(r"lookalike\[([\w,]+)\]", package):
                for other in others[1].split(","):
                    yield from _packages(other, declared)
            else:
                yield package


class LookalikeError(Exception):
    """Base of every error that a user can cause or fix."""


class LookalikeWarning(UserWarning):
    """What goes on working, but worse than it could; the message names the remedy."""


class ModelError(LookalikeError):
    """A model file is missing, damaged, or not an image encoder that lookalike can run."""


class NoWordsError(ModelError):
    """Words were given to search with, and the gallery's model knows images alone."""


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


class GalleryVersionError(GalleryError):
    """The gallery is of another version of lookalike; the message names the rebuilding command."""


class GalleryLockedError(GalleryError):
    """Another process is writing to the gallery; the message gives its pid."""


class NoNeighboursError(GalleryError):
    """The gallery keeps no neighbour graph; the message says how it comes to one, if it can."""


class StorageFullError(GalleryError):
    """The disk (or quota) that holds the gallery is full; the last good state is kept."""


class GalleryGoneError(GalleryError):
    """The gallery's directory, or the folder of its images, is gone, its disk perhaps as well."""


class ReadOnlyError(GalleryError):
    """The gallery's files can be read and not written; the message says why."""


class ClusterError(GalleryError):
    """The Ray cluster, or the shards of a gallery, do not answer, or not as they should."""


class ClusterStoppedError(ClusterError):
    """The Ray cluster serves no gallery of that name."""


class ClusterBusyError(ClusterError):
    """A shard of a gallery has as many requests waiting as it accepts; try again later."""


def first_line(error: BaseException) -> str:
    """The first line of its message, of which other packages' errors have many or none; then the
    error's name."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def named(names: Sequence[str]) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


@contextmanager
def extra_needed(extra: str, what: str = "this command") -> Iterator[None]:
    """Imports in the block that fail for a package of the extra become a MissingExtraError, which
    says ``what`` needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "lookalike", "reproduction"):
            raise
        raise MissingExtraError(f"{what} needs {package}: {install_command(extra)}") from error
