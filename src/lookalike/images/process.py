"""One process that decodes images, asked over a socket or, as on Windows, over pipes alone."""

from __future__ import annotations

import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, TypeAlias

from lookalike.errors import DecoderError
from lookalike.images.outcome import LENGTHS, message

START_SECONDS = 120.0
"""To import what decoding needs; on an idle machine a tenth of a second."""
_BUFFER = 1 << 20
LOOK_SECONDS = 1.0
"""How long it is waited before the clock is looked at. A wait that takes twice as long was not that
of the file: this process was stopped (Ctrl-Z), the decoding one probably as well."""
Answer: TypeAlias = tuple[dict[str, Any], memoryview]
"""What `worker` says of a file, and its payload."""


class Process:
    """One process; not for two threads at once."""

    def __init__(self) -> None:
        # -P: modules beside the photographs are not ours. One thread each: they are several.
        # Four blocks of 16 MiB that Pillow keeps for the next image: the system clears new ones.
        command = [sys.executable, "-P", "-m", "lookalike.images.worker"]
        settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PILLOW_BLOCKS_MAX": "4"}
        self.is_used = False
        self._is_ready = self._is_killed = False
        try:
            self._start(command, {**os.environ, **settings})
        except OSError as error:
            raise DecoderError(_cannot_start(error.strerror or str(error))) from error

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        # Requests go through a socket, which can be written with a time limit; answers through a
        # pipe, which costs a third of the processor time.
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=environment,
                )
            except OSError:
                self._socket.close()
                raise
        assert self._process.stdout is not None and self._process.stderr is not None
        self._answers, self._begun = self._process.stdout, self._process.stderr
        os.set_blocking(self._begun.fileno(), False)
        with suppress(ImportError, AttributeError, OSError):  # not Linux, or more than allowed
            import fcntl

            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, _BUFFER)
        self._answered = select.poll()
        self._answered.register(self._answers, select.POLLIN)

    def ask(self, head: dict[str, Any], content: bytes, seconds: float) -> list[Answer]:
        """TimeoutError, or EOFError if it died; either way it is of no more use then.

        Raises DecoderError if it does not start.
        """
        if not self._is_ready:
            try:
                self._receive(START_SECONDS)
            except (EOFError, TimeoutError) as error:
                raise DecoderError(_cannot_start(f"it ends with status {self.end()}")) from error
            self._is_ready = True
        self.begun()
        try:
            self._send(message(head, len(content)), content, seconds)
            said, payload = self._receive(seconds)
        except TimeoutError:
            raise
        except OSError as error:
            raise EOFError from error
        answers = []
        for answer in said["answers"]:
            length = answer.pop("length")
            answers.append((answer, payload[:length]))
            payload = payload[length:]
        return answers

    def _send(self, head: bytes, content: bytes, seconds: float) -> None:
        self._socket.settimeout(seconds)
        self._socket.sendall(head)
        self._socket.sendall(content)

    def begun(self) -> int:
        """How many files of the latest request it has begun; asked once."""
        try:
            return len(os.read(self._begun.fileno(), 1 << 16))
        except BlockingIOError:
            return 0

    def _receive(self, seconds: float) -> Answer:
        self._ends = time.monotonic() + seconds
        text, payload = LENGTHS.unpack(self._exactly(LENGTHS.size))
        return json.loads(bytes(self._exactly(text))), self._exactly(payload)

    def _waited(self, wait: Callable[[float], bool]) -> None:
        """Until ``wait``, which takes the seconds to wait, returns True. Raises TimeoutError."""
        now = time.monotonic()
        while not wait(seconds := min(max(0.001, self._ends - now), LOOK_SECONDS)):
            began, now = now, time.monotonic()
            if now - began > seconds + LOOK_SECONDS:
                self._ends += now - began - seconds
            if now >= self._ends:
                raise TimeoutError

    def _exactly(self, count: int) -> memoryview:
        data = memoryview(bytearray(count))
        rest = data
        while rest:
            self._waited(lambda seconds: bool(self._answered.poll(1000 * seconds)))
            if not (got := os.readv(self._answers.fileno(), [rest])):
                raise EOFError
            rest = rest[got:]
        return data

    def kill(self) -> None:
        """From any thread."""
        self._is_killed = True
        self._process.kill()

    def end(self) -> int:
        """Its status, negative for the signal that ended it: killed if it had not ended itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)
        self._process.kill()
        self._close()
        return self._process.wait()

    def let_go(self) -> None:
        """End it, unless it is that of the process from which this one was forked."""
        self._process.kill()  # which does nothing to what is not a child
        self.end()

    def _close(self) -> None:
        for end in (self._socket, self._answers, self._begun):
            end.close()

    def is_running(self) -> bool:
        """And of use: not killed, and a child, not that of the process that was forked."""
        return not self._is_killed and self._process.poll() is None


class PipedProcess(Process):
    """The same where pipes cannot be waited for, as on Windows: threads read them."""

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._started: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._left = bytearray()
        for stream, where in (
            (self._process.stdout, self._arrived),
            (self._process.stderr, self._started),
        ):
            threading.Thread(target=_pass_on, args=(stream, where), daemon=True).start()

    def _send(self, head: bytes, content: bytes, seconds: float) -> None:
        assert self._process.stdin is not None
        for part in (head, content):
            rest = memoryview(part)
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def begun(self) -> int:
        has_ended, count = self._process.poll() is not None, 0
        with suppress(queue.Empty):
            while piece := self._started.get(has_ended, 1.0):
                count += len(piece)
        return count

    def _take(self, seconds: float) -> bool:
        try:
            piece = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return False
        if not piece:
            raise EOFError
        self._left += piece
        return True

    def _exactly(self, count: int) -> memoryview:
        while len(self._left) < count:
            self._waited(self._take)
        data = memoryview(bytes(self._left[:count]))
        del self._left[:count]
        return data

    def _close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()


def _pass_on(stream: IO[bytes], where: queue.SimpleQueue[bytes]) -> None:
    """What arrives, and b"" at the end."""
    while piece := stream.read(_BUFFER):
        where.put(piece)
    where.put(b"")
    stream.close()


start_process = Process if hasattr(select, "poll") else PipedProcess


def _cannot_start(why: str) -> str:
    return (
        f"cannot start the process that decodes images ({why}): check how many processes and how "
        f"much memory you may use, and that this works: {sys.executable} -m lookalike.images.worker"
    )
