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


@dataclass
class _Asked:
    """One shard's part of a question."""

    replicas: list[int]
    waiting: dict[Any, int] = field(default_factory=dict)  # reference -> replica
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
        self._calls: dict[str, tuple[Any, Any]] = {}  # of an actor: for searches, for long ones
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

    def _look(self) -> None:
        known = self._known[1]
        try:
            known = self._find()
        except ClusterError as error:
            known = error
        except Exception:  # the head does not answer
            return
        finally:
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
            asked = pickle.dumps((newest, question, arguments, options), 5)
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
        is_long = seconds > self._deadline
        for shard, one in asked.items():
            self._submit(made, shard, one, call, is_long)
        began, usual = time.monotonic(), self._usual.get(question, 0.0)
        hedge = max(HEDGE_SECONDS, HEDGE_FACTOR * usual)
        found = self._soon(asked, hedge)
        while len(found) < len(asked):
            now = time.monotonic()
            left = {shard: one for shard, one in asked.items() if shard not in found}
            if now > end:
                raise self._silent(left, made, seconds)
            for shard, one in left.items():
                if one.replicas and (not one.waiting or now - one.last > hedge):
                    self._submit(made, shard, one, call, is_long)
                elif not one.replicas and not one.waiting:
                    if isinstance(one.problem, ClusterBusyError):
                        raise one.problem
                    if now - one.last > AGAIN_SECONDS:
                        current = self.deployment
                        if current.id != made.id:
                            raise _MovedError
                        one.replicas = self._order(current, shard)
            found |= self._collect(made, left)
        self._usual[question] = usual + 0.2 * (time.monotonic() - began - usual)
        return found

    def _order(self, made: Deployment, shard: int) -> list[int]:
        """Replicas as they are to be asked: any, but those that failed lately last."""
        if made.replicas == 1:
            return [0]
        order = random.sample(range(made.replicas), made.replicas)
        now = time.monotonic()
        return sorted(order, key=lambda r: self._avoided.get(made.actor(shard, r), 0.0) > now)

    def _submit(
        self, made: Deployment, shard: int, one: _Asked, call: bytes, is_long: bool
    ) -> None:
        replica = one.replicas.pop(0)
        one.last = time.monotonic()
        name = made.actor(shard, replica)
        try:
            if name not in self._calls:
                ask = self._ray.get_actor(name, namespace=NAMESPACE).ask.options
                groups = (ask(concurrency_group=group) for group in ("search", "long"))
                self._calls[name] = (next(groups), next(groups))
            reference = self._calls[name][is_long].remote(call)
        except self._ray.exceptions.PendingCallsLimitExceeded:
            one.problem = ClusterBusyError(
                f"shard {shard} of {made.shards} of '{self.name}' has as many calls waiting as it "
                f"takes; ask again later, or start more replicas: lookalike cluster replicas"
            )
        except Exception as error:  # no such actor, or no head
            self._note(name, one, error)
        else:
            one.waiting[reference] = replica

    def _soon(self, asked: dict[int, _Asked], seconds: float) -> dict[int, tuple[int, Any]]:
        """The usual case, in one call: all answer soon. Else {}."""
        references = [reference for one in asked.values() for reference in one.waiting]
        if len(references) < len(asked):
            return {}
        try:
            answers = self._ray.get(references, timeout=seconds)
        except Exception:  # `_collect` looks at each
            return {}
        return dict(zip(asked, map(pickle.loads, answers), strict=True))

    def _collect(self, made: Deployment, asked: dict[int, _Asked]) -> dict[int, tuple[int, Any]]:
        """What has been answered by now, waiting some milliseconds."""
        errors, found = self._ray.exceptions, dict[int, tuple[int, Any]]()
        owner = {reference: shard for shard, one in asked.items() for reference in one.waiting}
        if not owner:
            time.sleep(0.01)
            return found
        for reference in self._ray.wait(list(owner), timeout=0.02)[0]:
            shard = owner[reference]
            one = asked[shard]
            name = made.actor(shard, one.waiting.pop(reference))
            try:
                found[shard] = pickle.loads(self._ray.get(reference))
            except errors.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, NotReadyError):
                    self._note(name, one, cause)
                elif isinstance(cause, LookalikeError | ValueError | KeyError):
                    raise cause from error
                else:
                    raise ClusterError(
                        f"shard {shard} of '{self.name}' failed: {cause!r}; check that all "
                        f"machines of the cluster have the same lookalike"
                    ) from error
            except errors.RayError as error:
                self._note(name, one, error)
        return found

    def _note(self, name: str, one: _Asked, error: Exception) -> None:
        one.problem = error
        self._avoided[name] = time.monotonic() + AVOIDED_SECONDS
        if not isinstance(error, LookalikeError):  # it may be another process by then
            self._calls.pop(name, None)

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
