"""The files that a job was made of, as its source lists them now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from lookalike.cluster.embed.source import open_source
from lookalike.cluster.job.filesystem import is_uri
from lookalike.cluster.job.schema import Job
from lookalike.errors import GalleryError
from lookalike.gallery.scan import FoundFile, scan

__all__ = ["check_here", "files_now"]


def check_here(root: str) -> None:
    """Raises GalleryError unless a job's ``root`` is a folder of this machine's file system."""
    if not root or is_uri(root):
        raise GalleryError(
            f"only a gallery of files on this machine can be updated, and this one is of "
            f"{root or 'a table'}; embed that in a new folder and load it, searches go on meanwhile"
        )


def files_now(job: Job, unreadable: Callable[[bytes, OSError], None]) -> Iterator[FoundFile]:
    """The files below the job's root, or those of its list.

    Args:
        job: of a root that `check_here` accepts.
        unreadable: told of each folder that could not be listed.

    Raises:
        GalleryError: there is no list any more, or it has left the root.
    """
    if job.source == job.root:
        return scan(os.fsencode(job.root), unreadable)
    source = open_source(job.source, unreadable)
    if source.root != job.root:
        raise GalleryError(
            f"the files that {job.source} lists now are not below {job.root} any more; embed it in "
            f"a new folder and load that, searches go on meanwhile"
        )
    return (_found(job.root, path) for path in source.items())


def _found(root: str, name: str) -> FoundFile:
    try:
        status = os.stat(os.path.join(root, name))
    except OSError:
        return FoundFile(os.fsencode(name), -1, -1)
    return FoundFile(os.fsencode(name), status.st_size, status.st_mtime_ns)
