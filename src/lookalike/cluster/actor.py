"""One replica of one shard as a Ray actor: what it answers, refuses, and says of itself."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from lookalike.cluster.build import build_apart
from lookalike.cluster.memory import in_use, keep_little
from lookalike.cluster.shard import Place, Shard
from lookalike.errors import ClusterBusyError, ClusterError, GalleryError, LookalikeError

__all__ = ["QUESTIONS", "Call", "Clocks", "NotReadyError", "ShardActor", "default_cache"]

LOOK_SECONDS = 30.0
"""Between two looks at DIR, for what a writer that was killed could not announce."""
BEHIND_SECONDS = 2.0
"""For which a search waits for a commit that its caller has seen elsewhere."""
KEPT_CLIENTS = 10_000
QUESTIONS = (
    *("search", "nearest", "hamming", "vectors", "rows", "page", "every"),
    *("skipped", "unfinished", "facts", "groups", "items", "alike"),
)
"""Methods of `Shard` that may be asked."""


class Call(NamedTuple):
    """A question; one argument, as Ray takes its time over each.

    Attributes:
        question, arguments, options: the method of `Shard`, and what it takes.
        at_least: the version that the state must have.
        client, sent: who asks, and when by the client's own clock, in seconds.
        patience: seconds in the queue after which it is refused.
    """

    question: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    at_least: int
    client: int
    sent: float
    patience: float


class Clocks:
    """How long calls have waited, by the clocks of other machines: beyond the shortest time between
    sending and arriving that was ever seen of a client.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shortest: dict[int, float] = {}

    def waited(self, client: int, sent: float) -> float:
        """Seconds; 0 for the first call of a client."""
        took = self._clock() - sent
        if len(self._shortest) > KEPT_CLIENTS:
            self._shortest = {}
        shortest = self._shortest[client] = min(took, self._shortest.get(client, took))
        return took - shortest


class NotReadyError(ClusterError):
    """The shard is being built, or has not taken in what the caller has seen elsewhere."""


def default_cache() -> str:
    """Where the nodes keep their shards: LOOKALIKE_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("LOOKALIKE_CACHE") or os.path.join(home, "lookalike")


class ShardActor:
    """What runs in a worker of Ray: one replica of one shard."""

    def __init__(self, place: Place) -> None:
        keep_little()
        if not place.cache:
            place = replace(place, cache=default_cache())  # this node's
        self._place = place
        self._began = time.monotonic()
        self._clocks = Clocks()
        self._answered = self._refused = 0
        self._shard: Shard | None = None
        self._error: LookalikeError | None = None
        self._progress = (0, 0)
        self._wake, self._ready = threading.Event(), threading.Condition()
        threading.Thread(target=self._follow, name="lookalike-follow", daemon=True).start()

    def _follow(self) -> None:
        """Take in what is committed: when it is announced, and every LOOK_SECONDS."""
        while True:
            self._wake.clear()
            try:
                shard = self._shard or Shard(self._place, build_apart)
                shard.catch_up(self._show)
                if self._shard is None:
                    shard.warm()
                self._shard, self._error = shard, None
            except LookalikeError as error:
                self._error = error
            except Exception as error:
                self._error = GalleryError(f"{type(error).__name__}: {error}")
            with self._ready:
                self._ready.notify_all()
            self._wake.wait(LOOK_SECONDS if self._error is None else 2.0)

    def _show(self, done: int, total: int) -> None:
        self._progress = (done, total)

    def ask(self, asked: bytes) -> bytes:
        """`answer`, pickled here, which takes a third of the time that Ray takes for it.

        Args:
            asked: the values of a `Call`, pickled likewise.
        """
        return pickle.dumps(self.answer(Call(*pickle.loads(asked))), 5)

    def answer(self, call: Call) -> tuple[int, Any]:
        """The version of the state that was asked, and the answer of a method of `Shard`.

        Raises:
            NotReadyError: it is being built, or does not reach the version in time.
            ClusterBusyError: the call has waited for longer than it is worth.
        """
        if call.question not in QUESTIONS:
            raise ValueError(f"a shard has no answer to {call.question!r}")
        waited = self._clocks.waited(call.client, call.sent)
        if waited > call.patience:
            self._refused += 1
            raise ClusterBusyError(
                self._about(f"has more to do than it can: a call has waited for {waited:.1f} s")
            )
        shard = self._shard
        if shard is None or shard.version < call.at_least:
            shard = self._caught_up(call.at_least)
        version = shard.version
        answer = getattr(shard, call.question)(*call.arguments, **call.options)
        self._answered += 1
        if shard.version != version:  # a commit came in between
            version = -1
        return version, answer

    def _caught_up(self, version: int) -> Shard:
        if self._shard is None:
            why = f": {self._error}" if self._error else f", {self._progress[0]} parts are read"
            raise NotReadyError(self._about(f"is being built{why}"))
        if not self.take_in(version, BEHIND_SECONDS):
            raise NotReadyError(self._about(f"has not reached version {version}: {self._error}"))
        return self._shard

    def take_in(self, version: int, seconds: float = 30.0) -> bool:
        """Whether the shard has reached that version, waiting a while for it."""
        end = time.monotonic() + seconds
        while self._shard is None or self._shard.version < version:
            self._wake.set()
            with self._ready:
                self._ready.wait(0.05)
            if time.monotonic() > end:
                return False
        return True

    def _about(self, what: str) -> str:
        place = self._place
        return f"shard {place.shard} of {place.shards}, replica {place.replica}, {what}"

    def status(self) -> dict[str, Any]:
        """Facts for `cluster status`; also while the shard is being built."""
        shard = self._shard
        memory, mapped = in_use()
        seconds = time.monotonic() - self._began
        newest = None
        unfinished = False
        if shard is not None:
            names = shard.parts.names()
            newest = sum(shard.parts.version(name) > shard.version for name in names)
            unfinished = shard.unfinished()
        return {
            "pid": os.getpid(),
            "host": _own_address(),
            "ready": shard is not None,
            "error": None if self._error is None else str(self._error),
            "parts_read": self._progress,
            "version": -1 if shard is None else shard.version,
            "behind": newest,
            "unfinished": unfinished,
            "images": None if shard is None else shard.facts()["images"],
            "memory_bytes": memory,
            "mapped_bytes": mapped,
            "answered": self._answered,
            "refused": self._refused,
            "queries_per_second": self._answered / max(seconds, 1e-9),
            "seconds": seconds,
            "directory": None if shard is None else os.fspath(shard.directory),
        }


def _own_address() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address
