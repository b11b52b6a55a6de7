"""What a client makes of replicas that answer, refuse, are silent or gone: servers in this process
in place of actors, and no Ray."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rays import NETWORK

from lookalike.cluster import client
from lookalike.cluster.actor import NotReadyError
from lookalike.cluster.channel import Address, Server
from lookalike.cluster.client import Shards
from lookalike.cluster.deployment import Deployment
from lookalike.errors import ClusterBusyError, ClusterError

HOST = f"{NETWORK}.7"
Answer = Callable[[bytearray], bytes]


class FakeRay:
    """Where each actor listens, as Ray would say; RuntimeError of one that is not there."""

    class exceptions:
        class GetTimeoutError(Exception):
            pass

    def __init__(self) -> None:
        self.addresses: dict[str, Address] = {}
        self.asked: list[str] = []

    def start(self, shard: int, replica: int, answer: Answer) -> None:
        """An actor, or another one in its place."""
        self.addresses[f"it/{shard}/{replica}"] = Server(HOST, answer).address

    def get_actor(self, name: str, namespace: str) -> Any:
        ray = self

        class Handle:
            class address:
                @staticmethod
                def remote() -> str:
                    ray.asked.append(name)
                    return name

        return Handle

    def get(self, name: str, timeout: float) -> Address:
        if name not in self.addresses:
            raise RuntimeError("no such actor")
        return self.addresses[name]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    known = FakeRay()
    monkeypatch.setattr(client, "join", lambda address: known)
    return known


@pytest.fixture
def shards_of(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shards]]:
    opened = []

    def made(shards: int, replicas: int, deadline: float = 30.0) -> Shards:
        known = Deployment(
            id="it", where="", shards=shards, replicas=replicas, cpus=1, model={}, root=""
        )
        monkeypatch.setattr(client, "find", lambda name, advice: known)
        opened.append(Shards("it", None, deadline))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def says(what: Any, version: int = 0) -> Answer:
    """The same answer to everything, or an exception."""
    reply = pickle.dumps(what if isinstance(what, Exception) else (version, what))
    return lambda asked: reply


def test_all_shards_are_asked_at_once_over_connections_that_are_kept(
    ray: FakeRay, shards_of: Callable[..., Shards]
) -> None:
    all_asked = threading.Barrier(3)
    asked = list[Any]()

    def answer(shard: int) -> Answer:
        def reply(message: bytearray) -> bytes:
            asked.append(pickle.loads(message))
            all_asked.wait(30)
            return pickle.dumps((0, shard))

        return reply

    for shard in range(3):
        ray.start(shard, 0, answer(shard))
    shards = shards_of(3, 1)
    for _ in range(5):
        assert shards.ask("matches", 7, k=3) == [0, 1, 2]
    assert asked == [(False, 0, "matches", (7,), {"k": 3})] * 15
    assert len(ray.asked) == 3


def test_a_silent_replica_is_not_waited_for(ray: FakeRay, shards_of: Callable[..., Shards]) -> None:
    over = threading.Event()

    def silent(message: bytearray) -> bytes:
        over.wait(60)
        return pickle.dumps((0, "late"))

    ray.start(0, 0, silent)
    ray.start(0, 1, says("in time"))
    shards = shards_of(1, 2)
    for _ in range(8):
        assert shards.ask("matches") == ["in time"]
    over.set()
    for _ in range(8):  # the late answer is not taken for one of these
        assert shards.ask("matches")[0] in {"late", "in time"}


def test_the_only_replica_is_asked_where_it_was_started_again(
    ray: FakeRay, shards_of: Callable[..., Shards]
) -> None:
    def dies(message: bytearray) -> bytes:
        ray.start(0, 0, says("again"))
        raise ConnectionError

    ray.start(0, 0, dies)
    shards = shards_of(1, 1)
    assert shards.ask("matches") == ["again"]
    assert ray.asked == ["it/0/0"] * 2


def test_a_shard_that_is_not_there_or_not_ready_is_named_with_the_reason(
    ray: FakeRay, shards_of: Callable[..., Shards]
) -> None:
    ray.start(0, 0, says("here"))
    shards = shards_of(3, 1, deadline=0.3)
    with pytest.raises(ClusterError, match=r"^shards 1, 2 of 3 of 'it' did not answer in 0\.3 s;"):
        shards.ask("matches")
    assert ray.asked.count("it/1/0") <= 1 + 0.3 / client.AGAIN_SECONDS  # not without a pause
    ray.start(1, 0, says(NotReadyError("shard 1 is being built, 2 parts are read")))
    ray.addresses["it/2/0"] = Address(HOST, 1, bytes(32))  # nothing listens there
    with pytest.raises(ClusterError, match=r"in 0\.3 s \(shard 1 is being built, 2 parts are read"):
        shards.ask("matches", of=[0, 1])
    with pytest.raises(ClusterError, match=rf"\(no connection to {HOST}, port 1: .*refused\)"):
        shards.ask("matches", of=[2])


def test_a_busy_replica_leaves_it_to_the_other_and_errors_of_the_question_are_raised(
    ray: FakeRay, shards_of: Callable[..., Shards]
) -> None:
    ray.start(0, 0, says(ClusterBusyError("too many")))
    ray.start(0, 1, says("free"))
    shards = shards_of(1, 2)
    for _ in range(8):
        assert shards.ask("matches") == ["free"]
    assert shards._avoided == {}
    ray.start(0, 1, says(ClusterBusyError("also too many")))
    shards.close()
    with pytest.raises(ClusterBusyError, match="too many"):
        shards.ask("matches")
    for replica in (0, 1):
        ray.start(0, replica, says(ValueError("k is 0")))
    shards.close()
    with pytest.raises(ValueError, match="k is 0"):
        shards.ask("matches")


def test_shards_that_are_behind_are_asked_again(
    ray: FakeRay, shards_of: Callable[..., Shards]
) -> None:
    versions = [3, 5]

    def behind(message: bytearray) -> bytes:
        at_least = pickle.loads(message)[1]
        return pickle.dumps((versions.pop(0), at_least))

    ray.start(0, 0, behind)
    ray.start(1, 0, says("new", version=5))
    assert shards_of(2, 1).ask("matches") == [5, "new"]
    assert versions == []
