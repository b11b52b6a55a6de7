"""One writer of a DIR at a time: numbered lease files, of which the highest counts.

The process that creates the next number holds the lease; creating a file that does not exist is the
only thing that the storage has to do atomically. A lease ends when it is released, or TTL seconds
after its holder renewed it last.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from typing import NamedTuple, Self

from lookalike.cluster.storage import Storage
from lookalike.errors import GalleryError, GalleryLockedError

TTL = 60.0
POLL_SECONDS = 0.5
NAME = re.compile(r"lease-(\d{9})\.json")


class Held(NamedTuple):
    """What a lease file says; as it stands here, of one that has ended.

    Attributes:
        until: seconds since the epoch.
        unfinished: its holder is at work, or was killed, or ended by an error.
    """

    holder: str = ""
    until: float = 0.0
    unfinished: bool = False


class Lease:
    """The right to write; a context manager. Made by `acquire`."""

    def __init__(self, storage: Storage, number: int, ttl: float) -> None:
        self._storage = storage
        self._number = number
        self._ttl = ttl
        self._renewed = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lookalike-lease", daemon=True)

    @classmethod
    def acquire(cls, storage: Storage, wait: float = 0.0, ttl: float = TTL) -> Self:
        """Waits at most ``wait`` seconds for another holder.

        Raises:
            GalleryLockedError: another process holds it; says which and for how long at most.
        """
        end = time.monotonic() + wait
        while True:
            number, held = _latest(storage)
            left = held.until - time.time()
            if left <= 0:
                found = cls(storage, number + 1, ttl)
                try:
                    storage.create(_name(number + 1), found._content())
                except FileExistsError:  # another took it in this moment
                    continue
                if _latest(storage)[0] == number + 1:
                    for old in _numbers(storage)[:-1]:
                        storage.delete(_name(old))
                    found._thread.start()
                    return found
                storage.delete(_name(number + 1))  # the list was read too long ago
            elif time.monotonic() >= end:
                raise GalleryLockedError(
                    f"the gallery in {storage.where} is being written by {held.holder}; "
                    f"wait until it is done (--wait SECONDS), or stop it: what a killed writer "
                    f"held is free after {left:.0f} s"
                )
            else:
                time.sleep(min(POLL_SECONDS, max(0.01, end - time.monotonic())))

    def check(self) -> None:
        """Before something is written. Raises GalleryLockedError if the lease may have ended."""
        if self._ended.is_set() or time.monotonic() - self._renewed > self._ttl / 2:
            raise GalleryLockedError(
                f"the right to write to {self._storage.where} has ended: it could not be renewed "
                f"for {self._ttl / 2:.0f} s; what was written before is kept, run the command again"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release it; after an error the lease also ends, but counts as unfinished."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if _latest(self._storage)[0] == self._number:
            self._storage.write(_name(self._number), self._content(0.0, kind is not None))

    def _content(self, until: float | None = None, unfinished: bool = True) -> bytes:
        until = time.time() + self._ttl if until is None else until
        holder = f"process {os.getpid()} of {socket.gethostname()}"
        return json.dumps(Held(holder, until, unfinished)._asdict()).encode()

    def _renew(self) -> None:
        while not self._ended.wait(self._ttl / 6):
            try:
                if _latest(self._storage)[0] != self._number:
                    self._ended.set()
                    return
                began = time.monotonic()
                self._storage.write(_name(self._number), self._content())
                self._renewed = began
            except (GalleryError, OSError):
                continue  # `check` notices when it has been too long


def is_unfinished(storage: Storage) -> bool:
    """Whether the last writer is still at work, was killed, or ended by an error."""
    return _latest(storage)[1].unfinished


def _name(number: int) -> str:
    return f"lease-{number:09d}.json"


def _numbers(storage: Storage) -> list[int]:
    return sorted(int(found[1]) for name in storage.names() if (found := NAME.fullmatch(name)))


def _latest(storage: Storage) -> tuple[int, Held]:
    """Number and content of the lease that counts; 0 and one that has ended if there was never
    one."""
    numbers = _numbers(storage)
    if not numbers:
        return 0, Held()
    try:
        found = json.loads(storage.read(_name(numbers[-1])))
        held = Held(str(found["holder"]), float(found["until"]), bool(found["unfinished"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # just replaced, or damaged
        held = Held()
    return numbers[-1], held
