"""Questions to all shards of a gallery at once: one replica of each, another one if it does not
answer, until the deadline.
"""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lookalike.cluster.actor import NotReadyError
from lookalike.cluster.channel import Channel, Pool, ready
from lookalike.cluster.connect import NAMESPACE, join
from lookalike.cluster.deployment import Deployment, call_all, find
from lookalike.errors import ClusterBusyError, ClusterError, LookalikeError

DEADLINE = 10.0
"""Seconds in which every question is answered or raises."""
LONG_SECONDS = 60.0
"""For what looks at every image of a shard, and for batches."""
HEDGE_SECONDS = 0.15
"""Silence after which another replica is asked as well, or HEDGE_FACTOR times the usual time."""
HEDGE_FACTOR = 4.0
AVOIDED_SECONDS = 5.0
"""For which a replica that failed is asked last."""
KNOWN_SECONDS = 1.0
"""For which a name means what it meant: `switch`, `stop` and `replicas` are noticed then."""
AGAIN_SECONDS = 0.1
CONNECT_SECONDS = 3.0
"""For a connection to the only replica that is left; to others HEDGE_SECONDS."""
POLL_SECONDS = 0.02


@dataclass
class _Asked:
    """One shard's part of a question."""

    replicas: list[int]
    waiting: dict[Channel, int] = field(default_factory=dict)  # to which replica
    last: float = 0.0
    problem: Exception | None = None


class _MovedError(Exception):
    """The name means another gallery by now."""


class Shards:
    """The actors of a gallery. Threads may share it."""

    def __init__(self, name: str, address: str | None, deadline: float = DEADLINE) -> None:
        """Raises ClusterError: no Ray there, or no gallery of that name."""
        self.name = name
        self._ray = join(address)
        self._deadline = deadline
        self._pool = Pool()
        self._addresses: dict[str, Any] = {}  # of actors, as references that Ray may not know yet
        self._avoided: dict[str, float] = {}
        self._usual: dict[str, float] = {}  # seconds that a question takes
        self._knowing = threading.Lock()
        self._known: tuple[float, Deployment | ClusterError] = (time.monotonic(), self._find())

    @property
    def deployment(self) -> Deployment:
        """What the name means, as of the last call a second ago or more.

        Raises:
            ClusterError: it means nothing any more.
        """
        when, known = self._known
        if time.monotonic() - when > KNOWN_SECONDS and self._knowing.acquire(blocking=False):
            if isinstance(known, ClusterError):  # it may have been started since
                self._look()
                known = self._known[1]
            else:  # beside the question: a lost head does not answer, but the shards do
                threading.Thread(target=self._look, name="lookalike-names", daemon=True).start()
        if isinstance(known, ClusterError):
            raise known
        return known

    def _find(self) -> Deployment:
        return find(self.name, f"; start it with: lookalike cluster start DIR --name {self.name}")

    def close(self) -> None:
        """Close the connections that are not in use; the next question opens others."""
        self._addresses = {}
        self._pool.drop()

    def _look(self) -> None:
        known = self._known[1]
        try:
            known = self._find()
        except ClusterError as error:
            known = error
        except Exception:  # the head does not answer
            return
        finally:
            if known != self._known[1]:
                self.close()
            self._known = (time.monotonic(), known)
            self._knowing.release()

    def ask(
        self,
        question: str,
        *arguments: Any,
        of: Iterable[int] | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> list[Any]:
        """The answers of all shards, or of those ``of``, in order; all of the same version.

        Raises:
            ClusterBusyError: the replicas of a shard have too many calls waiting.
            ClusterError: a shard does not answer until the deadline; the message names it.
        """
        seconds = deadline or self._deadline
        end = time.monotonic() + seconds
        answers: dict[int, tuple[int, Any]] = {}
        newest = 0
        while True:
            made = self.deployment
            wanted = list(range(made.shards) if of is None else of)
            behind = [shard for shard in wanted if answers.get(shard, (-1,))[0] < newest]
            is_long = seconds > self._deadline
            asked = pickle.dumps((is_long, newest, question, arguments, options), 5)
            try:
                answers |= self._answers(made, behind or wanted, question, asked, end, seconds)
            except _MovedError:
                answers, newest = {}, 0
                continue
            newest = max(version for version, _ in answers.values())
            if all(version == newest for version, _ in answers.values()):
                return [answers[shard][1] for shard in wanted]

    def _answers(
        self,
        made: Deployment,
        shards: Sequence[int],
        question: str,
        call: bytes,
        end: float,
        seconds: float,
    ) -> dict[int, tuple[int, Any]]:
        """Version and answer of each. Raises _MovedError, and what `ask` does."""
        asked = {shard: _Asked(self._order(made, shard)) for shard in shards}
        began, usual = time.monotonic(), self._usual.get(question, 0.0)
        hedge = max(HEDGE_SECONDS, HEDGE_FACTOR * usual)
        found = dict[int, tuple[int, Any]]()
        try:
            while len(found) < len(asked):
                now = time.monotonic()
                left = {shard: one for shard, one in asked.items() if shard not in found}
                if now > end:
                    raise self._silent(left, made, seconds)
                for shard, one in left.items():
                    if one.replicas and (not one.waiting or now - one.last > hedge):
                        self._submit(made, shard, one, call, end)
                    elif not one.replicas and not one.waiting:
                        self._again(made, shard, one)
                found |= self._collect(made, left)
        finally:
            for one in asked.values():
                for channel in one.waiting:  # on which an answer may come yet
                    channel.close()
        self._usual[question] = usual + 0.2 * (time.monotonic() - began - usual)
        return found

    def _again(self, made: Deployment, shard: int, one: _Asked) -> None:
        """No replica is left that could be asked."""
        if isinstance(one.problem, ClusterBusyError):
            raise one.problem
        if time.monotonic() - one.last > AGAIN_SECONDS:
            current = self.deployment
            if current.id != made.id:
                raise _MovedError
            one.replicas = self._order(current, shard)

    def _order(self, made: Deployment, shard: int) -> list[int]:
        """Replicas as they are to be asked: any, but those that failed lately last."""
        if made.replicas == 1:
            return [0]
        order = random.sample(range(made.replicas), made.replicas)
        now = time.monotonic()
        return sorted(order, key=lambda r: self._avoided.get(made.actor(shard, r), 0.0) > now)

    def _submit(self, made: Deployment, shard: int, one: _Asked, call: bytes, end: float) -> None:
        replica = one.replicas.pop(0)
        one.last = time.monotonic()
        name = made.actor(shard, replica)
        try:
            channel = self._pool.take(name)
            if channel is None:
                left = HEDGE_SECONDS if one.replicas else min(CONNECT_SECONDS, end - one.last)
                channel = self._connect(name, max(left, HEDGE_SECONDS))
            channel.send(call)
        except Exception as error:  # no such actor, it does not say its address, or is gone
            self._note(name, one, error)
        else:
            one.waiting[channel] = replica

    def _connect(self, name: str, seconds: float) -> Channel:
        if name not in self._addresses:
            handle = self._ray.get_actor(name, namespace=NAMESPACE)
            self._addresses[name] = handle.address.remote()
        address = self._ray.get(self._addresses[name], timeout=HEDGE_SECONDS)
        try:
            return Channel.open(address, seconds)
        except OSError as error:
            raise ClusterError(
                f"no connection to {address.host}, port {address.port}: {error}"
            ) from error

    def _collect(self, made: Deployment, asked: dict[int, _Asked]) -> dict[int, tuple[int, Any]]:
        """What has been answered by now, waiting some milliseconds."""
        found = dict[int, tuple[int, Any]]()
        owner = {channel: shard for shard, one in asked.items() for channel in one.waiting}
        if not owner:
            time.sleep(POLL_SECONDS)
        for channel in ready(owner, POLL_SECONDS):
            shard = owner[channel]
            one = asked[shard]
            name = made.actor(shard, one.waiting.pop(channel))
            try:
                answer = pickle.loads(channel.receive())
            except OSError as error:
                channel.close()
                self._note(name, one, error)
                continue
            self._pool.put(name, channel)
            if isinstance(answer, NotReadyError):
                self._note(name, one, answer)
            elif isinstance(answer, ClusterBusyError):
                one.problem = answer
            elif isinstance(answer, Exception):
                raise answer
            else:
                found[shard] = answer
        return found

    def _note(self, name: str, one: _Asked, error: Exception) -> None:
        one.problem = error
        self._avoided[name] = time.monotonic() + AVOIDED_SECONDS
        if not isinstance(error, NotReadyError | self._ray.exceptions.GetTimeoutError):
            self._addresses.pop(name, None)  # it may be another process by then
            self._pool.drop(name)

    def _silent(self, asked: dict[int, _Asked], made: Deployment, seconds: float) -> ClusterError:
        numbers = ", ".join(str(shard) for shard in sorted(asked))
        problem = next((one.problem for one in asked.values() if one.problem), None)
        why = f" ({problem})" if isinstance(problem, LookalikeError) else ""
        word = "shard" if len(asked) == 1 else "shards"
        return ClusterError(
            f"{word} {numbers} of {made.shards} of '{self.name}' did not answer in "
            f"{seconds:g} s{why}; Ray starts them again where there is room: see lookalike "
            f"cluster status {self.name}"
        )

    def announce(self, version: int, seconds: float) -> list[str]:
        """Have every actor take in what was committed; returns those that have not in time."""
        made, places = self.deployment, list(self.deployment.places())
        taken = call_all(made, places, "take_in", version, seconds, wait=seconds)
        return [made.actor(*place) for place, done in zip(places, taken, strict=True) if not done]
