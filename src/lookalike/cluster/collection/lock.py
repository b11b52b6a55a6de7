"""One writer of a collection at a time: a key that expires when its holder is gone."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lookalike.cluster.collection.keys import lock_key
from lookalike.errors import ClusterError, GalleryLockedError

if TYPE_CHECKING:
    from lookalike.cluster.wire.connection import Connection

__all__ = ["LEASE", "WriterLock"]

LEASE = 60.0
"""Seconds after which the lock of a writer that is gone, or frozen, is free."""
POLL = 0.1


class WriterLock:
    """Held within a ``with`` block, by a thread that renews it.

    It keeps writers apart that both run; it cannot stop one that was frozen for longer than its
    lease in the midst of a command. Call `renew` between steps.

    Args:
        wait: seconds to wait for another writer.

    Raises:
        GalleryLockedError: on entering: another writer holds it; on renewing: it was lost.
    """

    def __init__(self, connection: Connection, name: str, wait: float = 0.0) -> None:
        self._connection = connection
        self._name = name
        self._key = lock_key(name)
        self._wait = wait
        self._mine = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}".encode()
        self._renewed = 0.0
        self._renewing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._wait
        while not self._take():
            if time.monotonic() >= deadline:
                raise GalleryLockedError(
                    f"collection '{self._name}' is being written by {self._holder()}; wait until "
                    f"it is done (one that was killed is forgotten after {LEASE:.0f} s)"
                )
            time.sleep(POLL)
        self._renewed = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        try:
            if self._owner() == self._mine:
                self._connection.run([("DEL", self._key)])
        except ClusterError:
            if error is None:  # else that is what went wrong, and the lock expires by itself
                raise

    def renew(self) -> None:
        """Make sure of the lock. GalleryLockedError: it had expired and somebody else took it."""
        with self._renewing:
            now = time.monotonic()
            if now - self._renewed < LEASE / 4:
                return
            if self._owner() == self._mine:
                self._connection.run([("PEXPIRE", self._key, int(LEASE * 1000))])
            elif not self._take():
                raise GalleryLockedError(
                    f"this process was silent for {now - self._renewed:.0f} s, and "
                    f"{self._holder()} writes to collection '{self._name}' now; try again later"
                )
            self._renewed = now

    def _keep(self) -> None:
        while not self._over.wait(LEASE / 4):
            with contextlib.suppress(ClusterError, GalleryLockedError):  # the writer will see it
                self.renew()

    def _take(self) -> bool:
        """Whether the lock is ours, taken from nobody or from a process that is gone."""
        owner = self._owner()
        if owner is not None and _is_gone(owner):
            self._connection.run([("DEL", self._key)])
        lease = int(LEASE * 1000)
        self._connection.run([("SET", self._key, self._mine, "NX", "PX", lease)])
        # Not the reply to SET: a retry would be refused for a lock that the first try got.
        return self._owner() == self._mine

    def _owner(self) -> bytes | None:
        (owner,) = self._connection.run([("GET", self._key)])
        return None if owner is None else bytes(owner)

    def _holder(self) -> str:
        host, pid, *_ = [*(self._owner() or b"somebody").decode().split(":"), "unknown"]
        return f"process {pid} on {host}"


def _is_gone(owner: bytes) -> bool:
    """Whether it was a process of this machine and runs no more, as far as can be told."""
    host, pid, *_ = [*owner.decode().split(":"), "", ""]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
