"""One replica of one shard as a Ray actor: what it answers, refuses, and says of itself.

Questions come over TCP, see `channel`; Ray starts it, and carries the rest.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lookalike.cluster.channel import Address, Server
from lookalike.cluster.shard import Place, Shard, Show
from lookalike.errors import ClusterBusyError, ClusterError, GalleryError, LookalikeError

LOOK_SECONDS = 30.0
"""Between two looks at DIR, for what a writer that was killed could not announce."""
BEHIND_SECONDS = 2.0
"""For which a search waits for a commit that its caller has seen elsewhere."""
LONG_THREADS = 2
"""Of those questions that take long, which do not wait for the others, nor these for them."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of mallopt(3)
LARGE = 256 << 10


class NotReadyError(ClusterError):
    """The shard is being built, or has not taken in what the caller has seen elsewhere."""


class ShardActor:
    """What runs in a worker of Ray: one replica of one shard."""

    def __init__(self, place: Place, threads: int, queue: int) -> None:
        """Answers ``threads`` questions at once, while at most ``queue`` others wait."""
        _keep_little()
        self._place = place
        self._began = time.monotonic()
        self._answered = 0
        self._shard: Shard | None = None
        self._error: LookalikeError | None = None
        self._progress = (0, 0)
        self._lanes = _Lane(threads, queue), _Lane(LONG_THREADS, queue)
        self._wake, self._ready = threading.Event(), threading.Condition()
        self._host = _host()
        self._server = Server(self._host, self.answer)
        threading.Thread(target=self._follow, name="lookalike-follow", daemon=True).start()

    def address(self) -> Address:
        """Where `answer` is asked. Who may call an actor may ask it."""
        return self._server.address

    def _follow(self) -> None:
        """Take in what is committed: when it is announced, and every LOOK_SECONDS."""
        while True:
            self._wake.clear()
            try:
                shard = self._shard or Shard(self._place, _build_apart)
                shard.catch_up(self.show)
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

    def show(self, done: int, total: int) -> None:
        """Parts that are read, while the shard is built."""
        self._progress = (done, total)

    def answer(self, asked: bytes | bytearray) -> bytes:
        """The version of the state that was asked, and its answer, see `Shard.ask`; or what was
        raised; pickled.

        Args:
            asked: whether it takes long, the version that the state must have at least, the
                question, its arguments and its options, pickled.
        """
        try:
            is_long, at_least, question, arguments, options = pickle.loads(asked)
            with self._lanes[is_long].room(self._about):
                return pickle.dumps(self._ask(at_least, question, arguments, options), 5)
        except (LookalikeError, ValueError, KeyError) as error:
            return pickle.dumps(error)
        except Exception as error:
            why = f"failed: {error!r}; check that all machines have the same lookalike"
            return pickle.dumps(ClusterError(self._about(why)))

    def _ask(self, at_least: int, question: str, arguments: Any, options: Any) -> tuple[int, Any]:
        """Raises NotReadyError: it is being built, or does not reach the version in time."""
        if self._shard is None:
            why = f": {self._error}" if self._error else f", {self._progress[0]} parts are read"
            raise NotReadyError(self._about(f"is being built{why}"))
        if self._shard.version < at_least and not self.take_in(at_least, BEHIND_SECONDS):
            raise NotReadyError(self._about(f"has not reached version {at_least}: {self._error}"))
        answer = self._shard.ask(question, *arguments, **options)
        self._answered += 1
        return answer

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
        shard, (memory, mapped) = self._shard, _memory()
        found = {
            "pid": os.getpid(),
            "host": self._host,
            "ready": shard is not None,
            "error": None if self._error is None else str(self._error),
            "parts_read": self._progress,
            "memory_bytes": memory,
            "mapped_bytes": mapped,
            "answered": self._answered,
            "queries_per_second": self._answered / max(time.monotonic() - self._began, 1e-9),
        }
        if shard is not None:
            versions = map(shard.parts.version, shard.parts.names())
            found["behind"] = sum(version > shard.version for version in versions)
            found["version"], facts = shard.ask("counts")
            found |= {"images": facts["images"], "directory": os.fspath(shard.directory)}
        return found


class _Lane:
    """So many questions at once, and so many more that wait."""

    def __init__(self, threads: int, queue: int) -> None:
        self._running = threading.Semaphore(threads)
        self._taken = threading.Semaphore(threads + queue)

    @contextmanager
    def room(self, about: Callable[[str], str]) -> Iterator[None]:
        """For one question. Raises ClusterBusyError."""
        if not self._taken.acquire(blocking=False):
            raise ClusterBusyError(
                about(
                    "has as many calls waiting as it takes; ask again later, or start more "
                    "replicas: lookalike cluster replicas"
                )
            )
        try:
            with self._running:
                yield
        finally:
            self._taken.release()


def _host() -> str:
    """The address by which other nodes know this one."""
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _build_apart(place: Place, progress: Show) -> None:
    """Build a shard in a worker of its own, whose memory then goes back to the system."""
    import ray

    context = ray.get_runtime_context()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        context.get_node_id(), soft=False
    )
    task = ray.remote(max_calls=1, num_cpus=0)(_build).options(scheduling_strategy=here)
    try:
        ray.get(task.remote(place, context.current_actor))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _build(place: Place, actor: Any) -> None:
    import ray

    Shard(place).build(lambda done, total: ray.get(actor.show.remote(done, total)))


# ---- memory of a process that maps its data ------------------------------------------------------


def _keep_little() -> None:
    """Freed arrays are not kept for later, by each of many threads. Call it once, early."""
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(M_ARENA_MAX, 2)


def _memory() -> tuple[int, int]:
    """Bytes of this process in memory that are its own, and that are pages of mapped files."""
    found = {"RssAnon": 0, "RssFile": 0}
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    return found["RssAnon"], found["RssFile"]
