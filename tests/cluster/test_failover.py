"""What a connection does while servers die, freeze, come back and hand slots over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from servers import HOST, Servers, slot_of, until

from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import ClusterError


@pytest.fixture
def connect(servers: Servers, name: str) -> Iterator[Callable[..., Connection]]:
    opened: list[Connection] = []

    def connecting(deadline: float = 20) -> Connection:
        opened.append(Connection.open(ClusterURI.parse(servers.uri(name)), deadline=deadline))
        return opened[-1]

    yield connecting
    for connection in opened:
        connection.close()
    servers.heal()


class Worker(threading.Thread):
    """Repeats `work` until `finish`, which raises what `work` raised."""

    def __init__(self, work: Callable[[int], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._stop_asked = threading.Event()
        self.turns = 0
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self._work(self.turns)
                self.turns += 1
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(timeout=40)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def in_slots_of(servers: Servers, key: str, name: str, count: int) -> list[str]:
    """Keys of as many different slots that the master of `key` owns."""
    slots = set(servers.master_of(key).slots())
    found: list[str] = []
    number = 0
    while len(found) < count:
        if slot_of(candidate := f"t:{name}:{number}") in slots:
            slots.remove(slot_of(candidate))
            found.append(candidate)
        number += 1
    return found


def test_no_reply_is_wrong_while_slots_move(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    first, second, _ = servers.masters()
    key = next(f"t:{name}:{i}" for i in range(99) if slot_of(f"t:{name}:{i}") in first.slots())
    moving = in_slots_of(servers, key, name, 60)
    oracle = {key: b"%d" % i for i, key in enumerate(moving)}
    connection.write([("SET", key, value) for key, value in oracle.items()])
    written: dict[str, int] = {}

    def read(turn: int) -> None:
        assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())
        time.sleep(0.002)

    def write(turn: int) -> None:
        connection.write([("HSET", f"{key}:h", turn, turn) for key in moving[:20]])
        written["turns"] = turn + 1
        time.sleep(0.002)

    workers = [Worker(read), Worker(write)]
    slots = [slot_of(key) for key in moving] + [slot_of(f"{key}:h") for key in moving[:20]]
    slots = [slot for slot in dict.fromkeys(slots) if slot in set(first.slots())]
    servers.move_slots(first, second, slots)
    servers.move_slots(second, first, slots)
    for worker in workers:
        worker.finish()
        assert worker.turns > 5
    assert connection.stats.moved >= 2 * 20
    assert connection.stats.reconnects == 0
    lengths = connection.run([("HLEN", f"{key}:h") for key in moving[:20]])
    assert lengths == [written["turns"]] * 20


def test_half_a_slot_is_read_and_written_on_both_sides(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    keys = [f"t:{{{name}}}:{i}" for i in range(20)]  # of one slot
    slot = slot_of(name)
    source = servers.master_of(name)
    target = next(node for node in servers.masters() if node is not source)
    oracle = {key: b"%d" % i for i, key in enumerate(keys)}
    connection.write([("SET", key, value) for key, value in oracle.items()])
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    source.ask("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys[:10])

    oracle[keys[3]], oracle[keys[13]] = b"gone over", b"still here"
    fresh = f"t:{{{name}}}:new"
    oracle[fresh] = b"born over there"
    connection.write([("SET", key, value) for key, value in oracle.items()])
    assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())
    assert connection.stats.moved == 11 + 11  # all that had gone, and the new one, twice
    assert source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 10
    assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 11

    servers.move_slots(source, target, [slot])
    assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())
    servers.move_slots(target, source, [slot])


def test_a_killed_master_loses_no_acknowledged_write(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    writing, reading = connect(), connect()
    acknowledged: dict[str, bytes] = {}

    def write(turn: int) -> None:
        pairs = {f"t:{name}:{turn}:{i}": b"%d.%d" % (turn, i) for i in range(40)}
        writing.write([("SET", key, value) for key, value in pairs.items()])
        acknowledged.update(pairs)
        time.sleep(0.01)

    def read(turn: int) -> None:
        known = list(acknowledged.items())[-100:]
        assert reading.run([("GET", key) for key, _ in known]) == [value for _, value in known]
        time.sleep(0.01)

    workers = [Worker(write), Worker(read)]
    until(lambda: workers[0].turns > 20, 10, "some writes")
    victim = servers.master_of(f"t:{name}")
    heir = servers.replica_of(victim)
    servers.kill(victim)
    turns = workers[0].turns
    until(lambda: workers[0].turns > turns + 20, 20, "writes go on")
    for worker in workers:
        worker.finish()

    everything = [("GET", key) for key in acknowledged]
    assert servers.master_of(f"t:{name}") is heir
    assert reading.run(everything) == list(acknowledged.values())
    for stats in (writing.stats, reading.stats):
        assert stats.reconnects > 0 and stats.retries > 0
        assert 0.5 < stats.slowest_recovery_seconds < 15
    assert writing.stats.unreplicated > 0  # the heir has no replica until the killed one is back
    assert victim.address not in writing.primaries()

    servers.restart(victim)
    servers.wait_whole()
    assert servers.replica_of(heir) is victim
    assert reading.run(everything) == list(acknowledged.values())
    unreplicated = writing.stats.unreplicated
    writing.write([("SET", f"t:{name}", 1)])
    assert writing.stats.unreplicated == unreplicated


def test_after_all_servers_were_killed_everything_older_than_a_second_is_there(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    oracle = {f"t:{name}:{i}": b"%d" % i for i in range(2000)}
    connection.write([("SET", key, value) for key, value in oracle.items()])
    time.sleep(1.5)
    for node in servers.nodes:
        servers.kill(node)
    reading = Worker(lambda _: connection.run([("GET", key) for key in oracle]))
    time.sleep(0.3)
    for node in servers.nodes:
        servers.restart(node)
    until(lambda: reading.turns > 0, 20, "a read that began without servers succeeds")
    reading.finish()
    assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())
    assert 0.3 < connection.stats.slowest_recovery_seconds < 15


def test_cut_connections_are_opened_again(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    oracle = {f"t:{name}:{i}": b"%d" % i * 500 for i in range(1000)}
    connection.write([("SET", key, value) for key, value in oracle.items()])

    def read(turn: int) -> None:
        assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())

    workers = [Worker(read), Worker(read)]
    for _ in range(20):
        time.sleep(0.03)
        for node in servers.masters():
            node.ask("CLIENT", "KILL", "TYPE", "normal")
    for worker in workers:
        worker.finish()
        assert worker.turns > 5
    assert connection.stats.reconnects > 0
    assert connection.stats.slowest_recovery_seconds < 2


def test_a_frozen_master_is_an_error_in_time_and_no_later_reply_is_wrong(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    # A deadline below the time that a failover takes.
    connection = connect(deadline=1.2)
    oracle = {f"t:{name}:{i}": b"%d" % i * 2000 for i in range(1500)}
    connection.write([("SET", key, value) for key, value in oracle.items()])
    victim = servers.master_of(f"t:{name}")
    reading = Worker(lambda _: connection.run([("GET", key) for key in oracle]))
    time.sleep(0.2)  # in the midst of replies, if not for certain
    servers.freeze(victim)
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"commands got no answer within 1\.2 s") as raised:
        connection.run([("GET", key) for key in oracle])
    assert time.monotonic() - begun < 3
    assert victim.address in str(raised.value)
    assert "cluster nodes" in str(raised.value)
    servers.thaw(victim)
    with pytest.raises(ClusterError, match="no answer within"):
        reading.finish()
    keys = list(reversed(oracle))
    assert connection.run([("GET", key) for key in keys]) == [oracle[key] for key in keys]


def test_a_frozen_master_is_replaced_within_the_deadline(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    oracle = {f"t:{name}:{i}": b"%d" % i for i in range(500)}
    connection.write([("SET", key, value) for key, value in oracle.items()])
    victim = servers.master_of(f"t:{name}")
    servers.freeze(victim)
    assert connection.run([("GET", key) for key in oracle]) == list(oracle.values())
    assert list(set(connection.scan(f"t:{name}:*")) ^ {key.encode() for key in oracle}) == []
    assert 1 < connection.stats.slowest_recovery_seconds < 15
    assert victim.address not in connection.primaries()


def test_a_scan_goes_on_with_the_heir_of_a_killed_master(
    servers: Servers, connect: Callable[..., Connection], name: str
) -> None:
    connection = connect()
    keys = {f"t:{name}:{i}".encode() for i in range(6000)}
    connection.write([("SET", key, "") for key in keys])
    scan = connection.scan(f"t:{name}:*")
    seen = {next(scan)}
    servers.kill(servers.master_of(next(iter(seen))))
    seen.update(scan)
    assert seen == keys
