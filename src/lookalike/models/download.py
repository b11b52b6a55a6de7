"""Downloads of large files that go on where they were cut, and are checked before anything sees
them. Needs the standard library alone; proxies are those of the environment.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from lookalike.atomic import NO_SPACE, IrregularFileError, file_sha256, open_locked
from lookalike.errors import ModelError

Report: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes expected, None if unknown."""

_PIECE = 1 << 20
_TIMEOUT_SECONDS = 30
_CONNECTIONS = 20
"""Of one download, as long as each of them brings something."""


def download(
    url: str,
    path: Path,
    sha256: str,
    *,
    size: int | None = None,
    progress: Report | None = None,
    otherwise: str = "",
) -> None:
    """Make `path` the file at `url`; nothing is done if it is that already.

    What has arrived stays in a hidden file beside `path` when the connection or the process ends,
    and is completed by the next call. `path` appears only when it is whole and right.

    Args:
        sha256: the first digits of the content's, or all, in hexadecimal.
        size: in bytes; None: unknown.
        otherwise: ends the errors: what else a user can do, besides putting the file at `path`.

    Raises:
        ModelError: there is no such file, no network, no space, another size or checksum, or
            another process is downloading it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        if path.is_file() and file_sha256(path).startswith(sha256):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(part) as out:
            try:
                _complete(url, out, size, progress)
            except BaseException:
                if not out.tell():
                    part.unlink()
                raise
            os.fsync(out.fileno())
            found = file_sha256(part)
            if not found.startswith(sha256):
                part.unlink()
                raise ModelError(
                    f"{url}: its SHA-256 begins with {found[: len(sha256)][:16]}, not "
                    f"{sha256[:16]}; what came was deleted: try again{otherwise}"
                )
            part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise ModelError(_explained(error, url, path, otherwise)) from error


@contextmanager
def locked(part: Path) -> Iterator[FileIO]:
    """The file, made if there is none, for one process at a time.

    Raises:
        ModelError: another one holds it.
    """
    if (descriptor := open_locked(part)) is None:
        raise ModelError(f"another process is writing {part}: wait until it is done")
    with FileIO(descriptor, "r+") as out:
        yield out


def _complete(url: str, out: FileIO, size: int | None, progress: Report | None) -> None:
    """Over several connections if they are cut."""
    for connection in range(1, _CONNECTIONS + 1):
        before = out.seek(0, os.SEEK_END)
        try:
            _go_on(url, out, size, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            is_cut = not isinstance(error, urllib.error.HTTPError) and out.tell() > before
            if not is_cut or _is_full(error) or connection == _CONNECTIONS:
                raise


def _go_on(url: str, out: FileIO, size: int | None, progress: Report | None) -> None:
    """Append what is missing. OSError or HTTPException if less comes."""
    arrived = out.tell()
    if arrived == size:
        return
    headers = {"Range": f"bytes={arrived}-"} if arrived else {}
    opener = urllib.request.build_opener()  # with the proxies that the environment has now
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), None, _TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size is None:
            return  # nothing is missing, or the checksum will differ
        raise
    with response:
        total = _expected(response, arrived)
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            arrived = out.seek(0)
            out.truncate()
        if size is not None and total not in (size, None):
            out.truncate(0)
            raise ModelError(f"{url}: has {total:,} bytes, not {size:,}: it is another file")
        if hasattr(os, "fstatvfs"):  # not on Windows
            space = os.fstatvfs(out.fileno())
            if (size or total or 0) - arrived > space.f_bavail * space.f_frsize:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while piece := response.read1(_PIECE):
            arrived += len(piece)
            if size is not None and arrived > size:
                out.truncate(0)
                raise ModelError(f"{url}: has more than {size:,} bytes: it is another file")
            rest = memoryview(piece)
            while rest:
                rest = rest[out.write(rest) :]
            if progress is not None:
                progress(arrived, total or size)
    if arrived != (total or size or arrived):
        raise http.client.IncompleteRead(b"", (total or size or arrived) - arrived)


def _expected(response: http.client.HTTPResponse, arrived: int) -> int | None:
    """Bytes of the whole file, if the server says so."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length")
        return int(length) if length and length.isdecimal() else None
    sent = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", sent)
    if not match or int(match[1]) != arrived:
        raise http.client.HTTPException(f"it sent {sent!r:.80}, not bytes from {arrived} on")
    return None if match[2] == "*" else int(match[2])


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in NO_SPACE


def _explained(error: Exception, url: str, path: Path, otherwise: str) -> str:
    if _is_full(error):
        return (
            f"the disk of {path.parent} has no space for {path.name}: free some, or set "
            "XDG_CACHE_HOME to a folder on another disk; then run the command again"
        )
    if isinstance(error, IrregularFileError | PermissionError | FileExistsError):
        return f"cannot write {path} ({error.strerror}): see what is in its place{otherwise}"
    refused = isinstance(error, urllib.error.HTTPError)
    reason = error.reason if isinstance(error, urllib.error.URLError) and not refused else error
    proxy = urlsplit(urllib.request.getproxies().get(urlsplit(url).scheme, "")).hostname
    way = f" by way of the proxy {proxy}" if proxy else ""
    return (
        f"cannot download {url}{way} ({reason}): run the command again to go on where it stopped, "
        f"or get it on another machine and put it at {path}{otherwise}"
    )
