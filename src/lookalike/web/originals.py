"""The gallery's own files, opened by the row that describes them and by nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

from lookalike.gallery.rows import ImageRow
from lookalike.web.errors import ApiError

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "HEIF": "image/heic",
}
"""By the format of the content; the name plays no part."""


def open_original(root: Path, row: ImageRow) -> io.BufferedReader:
    """The file that was indexed as ``row``, open for reading.

    It must have the size and time that it had then. A file outside the gallery's folder, to which a
    link leads, must also have the content that was indexed: links are followed when a gallery is
    made, but one that was put in place later must not lead to anything else.

    Raises:
        ApiError: not_found if it is gone, conflict if it is another.
    """
    path = root / os.fsdecode(row.path)
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        message = "the file of this image is gone, or cannot be read"
        raise ApiError("not_found", message, "update the gallery") from error
    status = os.fstat(descriptor)
    if not (stat.S_ISREG(status.st_mode) and row.fits(status)):
        os.close(descriptor)
        raise _changed()
    file: io.BufferedReader = io.BufferedReader(io.FileIO(descriptor))
    if not (_is_inside(root, path, status) or _digest(file) == row.hash):
        file.close()
        raise _changed()
    return file


def _changed() -> ApiError:
    message = "the file of this image has changed since it was indexed"
    return ApiError("conflict", message, "update the gallery")


def read_original(root: Path, row: ImageRow) -> bytes:
    """All of it; raises as `open_original`."""
    with open_original(root, row) as file:
        return file.read(row.size)


def _is_inside(root: Path, path: Path, opened: os.stat_result) -> bool:
    """Whether what was opened is known to lie in the gallery's folder, whatever links lead there.

    Inode 0, of mounts that do not number files, proves nothing.
    """
    try:
        resolved = path.resolve(strict=True)
        found = os.stat(resolved, follow_symlinks=False)
        same = opened.st_ino != 0 and os.path.samestat(found, opened)
        return same and resolved.is_relative_to(root.resolve())
    except OSError:
        return False


def _digest(file: io.BufferedReader) -> bytes:
    digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    file.seek(0)
    return digest
