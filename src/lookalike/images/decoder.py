"""Decoding in processes that may be ended, so that one file cannot take everything.

The processes serve whoever decodes in this one: galleries, the server, contact sheets. They are
started when first needed, replaced after one was lost, and wait for the next file meanwhile.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from PIL import Image

from lookalike.errors import DecoderError
from lookalike.images.formats import (
    MEMORY_REMEDY,
    SkippedImageError,
    SkipReason,
    Source,
    unreadable,
)
from lookalike.images.pixels import DEFAULT_MAX_PIXELS, Note, Picture
from lookalike.images.worker import LENGTHS, message

__all__ = ["Decoder", "Limits"]

START_SECONDS = 120.0
"""To import what decoding needs; on an idle machine a tenth of a second."""
PATIENCE = 6
"""Seconds by the clock for each second of processor time, for slow disks and busy machines."""
PREPARED = 4
"""Processes started before the first file comes; others when a thread needs one."""
KEPT = 2
"""Idle processes that stay when a decoder is closed."""
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one file may take. ValueError for values that are not positive."""

    max_pixels: int = DEFAULT_MAX_PIXELS
    max_seconds: float = 10.0
    """Of processor time."""

    def __post_init__(self) -> None:
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds must be positive, not {self.max_seconds!r}")

    @property
    def memory(self) -> int:
        """Bytes: 1 GiB, or 5 for each of `max_pixels` if that is more.

        Pillow keeps RGB in 4 bytes a pixel. JPEG is decoded at a fraction of its size; WebP, AVIF
        and HEIF take up to 12 bytes a pixel, so that their limit is about 85 million pixels.
        """
        return max(1 << 30, 5 * self.max_pixels)


class _Process:
    """One process; not for two threads at once."""

    def __init__(self) -> None:
        # -P: modules beside the photographs are not ours. One thread each: they are several.
        command = [sys.executable, "-P", "-m", "lookalike.images.worker"]
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.owner = os.getpid()
        self.is_used = False
        self._is_ready = self._is_killed = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **quiet},
                )
            except OSError as error:
                self._socket.close()
                raise DecoderError(_cannot_start(error.strerror or str(error))) from error

    def ask(
        self, head: dict[str, Any], content: bytes, seconds: float
    ) -> tuple[dict[str, Any], memoryview]:
        """TimeoutError, or EOFError if it died; either way it is of no more use then.

        Raises DecoderError if it does not start.
        """
        if not self._is_ready:
            try:
                self._receive(time.monotonic() + START_SECONDS)
            except (EOFError, TimeoutError) as error:
                raise DecoderError(_cannot_start(f"it ends with status {self.end()}")) from error
            self._is_ready = True
        ends = time.monotonic() + seconds
        self._wait_until(ends)
        try:
            self._socket.sendall(message(head, len(content)))
            self._socket.sendall(content)
            return self._receive(ends)
        except TimeoutError:
            raise
        except OSError as error:
            raise EOFError from error

    def _receive(self, ends: float) -> tuple[dict[str, Any], memoryview]:
        text, payload = LENGTHS.unpack(self._exactly(LENGTHS.size, ends))
        return json.loads(bytes(self._exactly(text, ends))), self._exactly(payload, ends)

    def _exactly(self, count: int, ends: float) -> memoryview:
        data = memoryview(bytearray(count))
        rest = data
        while rest:
            self._wait_until(ends)
            try:
                got = self._socket.recv_into(rest)
            except ConnectionError as error:
                raise EOFError from error
            if not got:
                raise EOFError
            rest = rest[got:]
        return data

    def _wait_until(self, ends: float) -> None:
        self._socket.settimeout(max(0.001, ends - time.monotonic()))

    def kill(self) -> None:
        """From any thread."""
        self._is_killed = True
        self._process.kill()

    def end(self) -> int:
        """Its status, negative for the signal that ended it: killed if it had not ended itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)
        self._process.kill()
        self._socket.close()
        return self._process.wait()

    def let_go(self) -> None:
        """End it, unless it is the parent's that this process was forked from."""
        if self.owner == os.getpid():
            self._process.kill()
            self.end()
        else:
            self._process.returncode = 0  # or Popen would warn that it still runs
            self._socket.close()

    def is_running(self) -> bool:
        """And of use: not killed, and not its parent's that this process was forked from."""
        if self._is_killed or self.owner != os.getpid():
            return False
        return self._process.poll() is None


def _cannot_start(why: str) -> str:
    return (
        f"cannot start the process that decodes images ({why}): check how many processes and how "
        f"much memory you may use, and that this works: {sys.executable} -m lookalike.images.worker"
    )


class _Idle:
    """The processes that wait, of all decoders of this process."""

    def __init__(self) -> None:
        self._waiting: list[_Process] = []
        self._changing = threading.Lock()
        self._registered = False

    def take(self) -> _Process:
        """One that waits, or another. Raises DecoderError."""
        with self._changing:
            while self._waiting:
                process = self._waiting.pop()
                if process.is_running():
                    return process
                process.let_go()
            if not self._registered:
                atexit.register(self.trim, 0)
                self._registered = True
        return _Process()

    def give(self, process: _Process) -> None:
        with self._changing:
            self._waiting.append(process)

    def trim(self, kept: int) -> None:
        """End all but so many."""
        with self._changing:
            self._waiting, surplus = self._waiting[:kept], self._waiting[kept:]
        for process in surplus:
            process.let_go()


_idle = _Idle()


class Decoder:
    """Reads image files in other processes. Any number of threads may use one at once.

    Each thread that reads has a process to itself while it does.
    """

    def __init__(self, limits: Limits = Limits(), *, patience: float = PATIENCE) -> None:
        """``patience``: seconds by the clock for each second of processor time."""
        self.limits = limits
        self._patience = patience
        self._at_work: set[_Process] = set()
        self._changing = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, files: int = 1) -> None:
        """Start processes for so many files, a few at most, to be ready when the first comes."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        with suppress(DecoderError):  # reported when it is needed
            waiting = [_idle.take() for _ in range(min(files, cores, PREPARED))]
            for process in waiting:
                _idle.give(process)

    def read_picture(self, source: Source, size: int) -> Picture:
        """As `images.read_picture`. Also raises DecoderError if no process can be started."""
        import numpy as np

        answer, payload = self.ask({"task": "squeeze", "size": size}, source)
        return Picture(
            np.frombuffer(payload, np.uint8).reshape(size, size, 3),
            answer["width"],
            answer["height"],
            answer["format"],
            None if answer["note"] is None else Note(answer["note"]),
        )

    def read_rgb(self, source: Source, *, longest_side: int | None = None) -> Image.Image:
        """As `images.read_rgb`. Also raises DecoderError if no process can be started."""
        answer, payload = self.ask({"task": "rgb", "side": longest_side}, source)
        return Image.frombytes("RGB", tuple(answer["image"]), payload)

    def ask(self, task: dict[str, Any], source: Source) -> tuple[dict[str, Any], memoryview]:
        """The answer of `worker` to a task.

        Raises:
            SkippedImageError: the file gives no image within the limits.
            DecoderError: no process can be started, or the decoder was closed meanwhile.
        """
        limits = self.limits
        head = {
            **task,
            "is_path": not isinstance(source, io.BytesIO),
            "max_pixels": limits.max_pixels,
            "memory": limits.memory,
            "seconds": limits.max_seconds,
        }
        content = source.getvalue() if isinstance(source, io.BytesIO) else _path(source)
        answer = None
        while answer is None:
            process = self._take()
            answer = self._asked(process, head, content)
        if "reason" in answer[0]:
            said = answer[0]
            raise SkippedImageError(SkipReason(said["reason"]), said["detail"], said["remedy"])
        return answer

    def _asked(
        self, process: _Process, head: dict[str, Any], content: bytes
    ) -> tuple[dict[str, Any], memoryview] | None:
        """None: another process must be asked, because an earlier file may have ended this one."""
        seconds = self._patience * self.limits.max_seconds
        try:
            answer, payload = process.ask(head, content, seconds)
        except BaseException as error:
            with self._changing:
                self._at_work.discard(process)
                closed = self._closed
            status = process.end()
            if closed:
                raise DecoderError("decoding was ended") from error
            late = isinstance(error, TimeoutError) or status == -getattr(signal, "SIGPROF", 0)
            if isinstance(error, EOFError) and process.is_used and not late:
                return None
            if isinstance(error, EOFError | TimeoutError):
                raise self._explained(late, status) from error
            raise
        with self._changing:
            self._at_work.discard(process)
        process.is_used = True
        if answer.get("reason") == SkipReason.TOO_LARGE:
            process.end()  # its memory may be in pieces
        else:
            _idle.give(process)
        return answer, payload

    def close(self) -> None:
        """End what is being read; whoever waits for it gets a DecoderError."""
        with self._changing:
            self._closed = True
            for process in self._at_work:
                process.kill()
        _idle.trim(KEPT)

    def _take(self) -> _Process:
        process = _idle.take()
        with self._changing:
            if not self._closed:
                self._at_work.add(process)
                return process
        _idle.give(process)
        raise DecoderError("decoding was ended")

    def _explained(self, late: bool, status: int) -> SkippedImageError:
        if late:
            detail = f"decoding it takes more than {self.limits.max_seconds:g} seconds"
            return SkippedImageError(SkipReason.TOO_SLOW, detail)
        if status == -getattr(signal, "SIGKILL", 0):
            detail = "the system ended its decoding, probably for want of memory"
            return SkippedImageError(SkipReason.TOO_LARGE, detail, MEMORY_REMEDY)
        return SkippedImageError(SkipReason.DAMAGED, "its data make the decoder fail")


def _path(source: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """Absolute: the process may have been started in another folder."""
    try:
        with suppress(OSError):  # there is no current folder
            return os.fsencode(os.path.abspath(source))
        return os.fsencode(source)
    except ValueError as error:  # a name that no file can have
        raise unreadable(error) from error
