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

from lookalike.cluster.actor import Call, NotReadyError
from lookalike.cluster.connect import NAMESPACE, join
from lookalike.cluster.deployment import Deployment, find
from lookalike.errors import ClusterBusyError, ClusterError, LookalikeError

__all__ = ["DEADLINE", "Shards"]

DEADLINE = 10.0
"""Seconds in which every question is answered or raises."""
HEDGE_SECONDS = 0.15
"""Silence after which another replica is asked as well, or HEDGE_FACTOR times the usual time."""
HEDGE_FACTOR = 4.0
AVOIDED_SECONDS = 5.0
"""For which a replica that failed is asked last."""
KNOWN_SECONDS = 1.0
"""For which a name means what it meant: `switch`, `stop` and `replicas` are noticed then."""
AGAIN_SECONDS = 0.1
PATIENCE = 0.1
"""Share of the deadline for which a call may wait in a shard's queue."""


@dataclass
class _Asked:
    """One shard's part of a question."""

    replicas: list[int]
    waiting: dict[Any, int] = field(default_factory=dict)  # reference -> replica
    last: float = 0.0
    problem: Exception | None = None


class Shards:
    """The actors of a gallery. Threads may share it."""

    def __init__(self, name: str, address: str | None, deadline: float = DEADLINE) -> None:
        """Raises ClusterError: no Ray there, or no gallery of that name."""
        self.name = name
        self._ray = join(address)
        self._deadline = deadline
        self._handles: dict[str, Any] = {}
        self._avoided: dict[str, float] = {}
        self._id = random.getrandbits(63)
        self._usual: dict[str, float] = {}  # seconds that a question takes
        self._knowing = threading.Lock()
        self._known: tuple[float, Deployment | ClusterError] = (time.monotonic(), find(name))

    @property
    def deployment(self) -> Deployment:
        """What the name means, as of the last call a second ago or more.

        Raises:
            ClusterError: it means nothing any more.
        """
        when, known = self._known
        # Beside the question: a head that is lost would not answer, but the shards do.
        if time.monotonic() - when > KNOWN_SECONDS and self._knowing.acquire(blocking=False):
            threading.Thread(target=self._look, name="lookalike-names", daemon=True).start()
        if isinstance(known, ClusterError):
            raise known
        return known

    def _look(self) -> None:
        try:
            self._known = (time.monotonic(), find(self.name))
        except ClusterError as error:
            self._known = (time.monotonic(), error)
        except Exception:  # the head does not answer
            self._known = (time.monotonic(), self._known[1])
        finally:
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
            ClusterBusyError: the replicas of a shard refuse, having too much to do.
            ClusterError: a shard does not answer until the deadline; the message names it.
        """
        seconds = deadline or self._deadline
        end = time.monotonic() + seconds
        made = self.deployment
        wanted = list(range(made.shards)) if of is None else list(of)
        answers: dict[int, tuple[int, Any]] = {}
        at_least = 0
        while True:
            behind = [shard for shard in wanted if answers.get(shard, (-1,))[0] < at_least]
            call = Call(question, arguments, options, at_least, self._id, 0.0, seconds * PATIENCE)
            made, found = self._answers(made, behind, call, end, seconds)
            if found is None:
                answers, at_least = {}, 0  # the name means another gallery now
                wanted = list(range(made.shards)) if of is None else wanted
                continue
            answers |= found
            newest = max(version for version, _ in answers.values())
            if all(version == newest for version, _ in answers.values()):
                return [answers[shard][1] for shard in wanted]
            at_least = newest

    def _answers(
        self,
        made: Deployment,
        shards: Sequence[int],
        call: Call,
        end: float,
        seconds: float,
    ) -> tuple[Deployment, dict[int, tuple[int, Any]] | None]:
        """Of these shards; None if the name means another gallery by now, which is returned."""
        asked = {shard: _Asked(self._order(made, shard)) for shard in shards}
        for shard, one in asked.items():
            self._submit(made, shard, one, call)
        found: dict[int, tuple[int, Any]] = {}
        began, usual = time.monotonic(), self._usual.get(call.question, 0.0)
        hedge = max(HEDGE_SECONDS, HEDGE_FACTOR * usual)
        self._get_all(asked, found, hedge)
        while len(found) < len(asked):
            now = time.monotonic()
            if now > end:
                raise self._silent(
                    {s: a for s, a in asked.items() if s not in found}, made, seconds
                )
            self._collect(made, asked, found)
            for shard, one in asked.items():
                if shard in found:
                    continue
                if one.replicas and (not one.waiting or now - one.last > hedge):
                    self._submit(made, shard, one, call)
                elif not one.replicas and not one.waiting:
                    if isinstance(one.problem, ClusterBusyError):
                        raise one.problem
                    if now - one.last > AGAIN_SECONDS:
                        current = self.deployment
                        if current.id != made.id:
                            return current, None
                        made = current
                        one.replicas = self._order(made, shard)
        self._usual[call.question] = usual + 0.2 * (time.monotonic() - began - usual)
        return made, found

    def _order(self, made: Deployment, shard: int) -> list[int]:
        """Replicas as they are to be asked: any, but those that failed lately last."""
        order = random.sample(range(made.replicas), made.replicas)
        now = time.monotonic()
        return sorted(order, key=lambda r: self._avoided.get(made.actor(shard, r), 0.0) > now)

    def _submit(self, made: Deployment, shard: int, one: _Asked, call: Call) -> None:
        replica = one.replicas.pop(0)
        one.last = time.monotonic()
        name = made.actor(shard, replica)
        try:
            known = self._handles.get(name)
            if known is None:
                handle = self._ray.get_actor(name, namespace=NAMESPACE)
                ask = handle.ask.options
                known = (
                    handle,
                    ask(concurrency_group="search"),
                    ask(concurrency_group="long"),
                )
                self._handles[name] = known
            is_long = call.patience > PATIENCE * self._deadline
            reference = known[1 + is_long].remote(
                pickle.dumps(tuple(call._replace(sent=time.monotonic())), 5)
            )
        except Exception as error:  # no such actor, or no head
            self._note(made, shard, replica, one, error)
            return
        one.waiting[reference] = replica

    def _get_all(
        self, asked: dict[int, _Asked], found: dict[int, tuple[int, Any]], seconds: float
    ) -> None:
        """The usual case, in one call: all answer soon."""
        references = [reference for one in asked.values() for reference in one.waiting]
        if len(references) < len(asked):
            return
        try:
            answers = self._ray.get(references, timeout=seconds)
        except Exception:  # `_collect` looks at each
            return
        found.update(zip(asked, map(pickle.loads, answers), strict=True))

    def _collect(
        self, made: Deployment, asked: dict[int, _Asked], found: dict[int, tuple[int, Any]]
    ) -> None:
        """What has been answered by now, waiting some milliseconds."""
        owner = {
            ref: shard for shard, one in asked.items() if shard not in found for ref in one.waiting
        }
        if not owner:
            time.sleep(0.01)
            return
        for reference in self._ray.wait(list(owner), timeout=0.02)[0]:
            shard = owner[reference]
            one = asked[shard]
            replica = one.waiting.pop(reference)
            try:
                found[shard] = pickle.loads(self._ray.get(reference))
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, NotReadyError | ClusterBusyError):
                    self._note(made, shard, replica, one, cause)
                elif isinstance(cause, LookalikeError | ValueError | KeyError):
                    raise cause from error
                else:
                    raise ClusterError(
                        f"shard {shard} of '{self.name}' failed: {cause!r}; check that all "
                        f"machines of the cluster have the same lookalike"
                    ) from error
            except self._ray.exceptions.RayError as error:
                self._note(made, shard, replica, one, error)

    def _note(
        self, made: Deployment, shard: int, replica: int, one: _Asked, error: Exception
    ) -> None:
        one.problem = error
        name = made.actor(shard, replica)
        self._avoided[name] = time.monotonic() + AVOIDED_SECONDS
        if not isinstance(error, LookalikeError):  # it may be another process by then
            self._handles.pop(name, None)

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
        made = self.deployment
        waiting = {}
        for shard, replica in made.places():
            name = made.actor(shard, replica)
            try:
                handle = self._ray.get_actor(name, namespace=NAMESPACE)
                call = handle.take_in.options(concurrency_group="control")
                waiting[call.remote(version, seconds)] = name
            except Exception:  # it reads the parts when it is there again
                continue
        if not seconds:
            return []
        ready, late = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=seconds)
        for reference in ready:
            try:
                if not self._ray.get(reference):
                    late.append(reference)
            except self._ray.exceptions.RayError:
                late.append(reference)
        return [waiting[reference] for reference in late]
