from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import HOST, Node, Servers, free_port, slot_of

from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import ClusterError


@pytest.fixture
def connection(servers: Servers, name: str) -> Iterator[Connection]:
    opened = Connection.open(ClusterURI.parse(servers.uri(name)))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server that is no cluster."""
    node = Node(tmp_path_factory.mktemp("single") / "0", "--appendonly no")
    yield node
    node.kill()


def refused(address: str, login: str = "", scheme: str = "valkey") -> str:
    """The message of the error that opening raises."""
    with pytest.raises(ClusterError) as raised:
        Connection.open(ClusterURI.parse(f"{scheme}://{login}{address}/n"), deadline=3)
    return str(raised.value)


# replies


def test_replies_come_in_order_over_many_slots(connection: Connection, name: str) -> None:
    random.seed(1)
    oracle = {f"t:{name}:{i}": b"%x" % random.getrandbits(8 * (i % 40)) for i in range(3000)}
    assert len({slot_of(key) for key in oracle}) > 2000
    connection.write([("SET", key, value) for key, value in oracle.items()])
    keys = [*oracle, f"t:{name}:missing"] * 2
    random.shuffle(keys)
    assert connection.run([("GET", key) for key in keys]) == [oracle.get(key) for key in keys]


def test_bytes_strings_and_numbers_are_arguments_alike(connection: Connection, name: str) -> None:
    key = f"t:{name}:all"
    raw = bytes(range(256))
    connection.write([("HSET", key, b"a", raw), (b"HSET", key.encode(), 7, -5)])
    replies = connection.run([("HGET", key, "a"), ("HGET", key, "7"), ("HLEN", key)])
    assert replies == [raw, b"-5", 2]
    assert connection.run([("HGETALL", key), ("SMEMBERS", key + "x")]) == [
        [b"a", raw, b"7", b"-5"],
        [],
    ]


def test_nothing_to_do_is_done(connection: Connection) -> None:
    assert connection.run([]) == []
    assert connection.write([]) == []


def test_replies_and_requests_of_many_megabytes_pass(connection: Connection, name: str) -> None:
    # All in one slot, so over one connection: neither side may wait for the other to read.
    big = [bytes([i]) * 1_000_000 for i in range(24)]
    keys = [f"t:{name}:{{one}}:{i}" for i in range(24)]
    connection.write([("SET", key, value) for key, value in zip(keys, big, strict=True)])
    assert connection.run([("GET", key) for key in keys]) == big
    echoed = [("SET", key, value, "GET") for key, value in zip(keys, reversed(big), strict=True)]
    assert connection.run(echoed) == big


def test_threads_share_a_connection(connection: Connection, name: str) -> None:
    def work(thread: int) -> None:
        for turn in range(20):
            pairs = {f"t:{name}:{thread}:{i}": b"%d.%d" % (turn, i) for i in range(30)}
            connection.write([("SET", key, value) for key, value in pairs.items()])
            assert connection.run([("GET", key) for key in pairs]) == list(pairs.values())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert connection.stats.retries == 0


def test_scan_finds_every_key_of_a_pattern_and_no_other(connection: Connection, name: str) -> None:
    keys = {f"t:{name}:{i}".encode() for i in range(2500)}
    connection.run([("SET", key, "") for key in keys])
    connection.run([("SET", f"u:{name}", "")])
    assert set(connection.scan(f"t:{name}:*")) == keys
    assert set(connection.scan(f"t:{name}:7??")) == {
        f"t:{name}:{i}".encode() for i in range(700, 800)
    }


def test_primaries_are_the_three_masters(connection: Connection, servers: Servers) -> None:
    assert connection.primaries() == sorted(node.address for node in servers.masters())


def test_what_a_server_refuses_for_good_is_an_error_that_names_the_command(
    connection: Connection, servers: Servers, name: str
) -> None:
    key = f"t:{name}:text"
    connection.run([("SET", key, "x")])
    with pytest.raises(ClusterError) as raised:
        connection.run([("GET", key), ("HGET", key, "secret field"), ("GET", key)])
    address = servers.master_of(key).address
    assert str(raised.value).startswith(f"{address} refuses HGET {key}: WRONGTYPE ")
    # The connection was read to its end: the next replies are those of the next commands.
    assert connection.run([("GET", key), ("STRLEN", key)]) == [b"x", 1]
    assert connection.stats.reconnects == 0


def test_a_server_without_memory_is_an_error_with_remedies(
    connection: Connection, servers: Servers, name: str
) -> None:
    key = f"t:{name}:a"
    master = servers.master_of(key)
    master.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(ClusterError, match=r"no memory left.*maxmemory.*packed layout"):
            connection.write([("SET", key, "x")])
    finally:
        master.ask("CONFIG", "SET", "maxmemory", 0)
    assert connection.run([("GET", key)]) == [None]


def test_a_closed_connection_says_so(connection: Connection) -> None:
    connection.close()
    with pytest.raises(ClusterError, match="has been closed"):
        connection.run([("GET", "a")])


# acknowledgement


def test_a_write_returns_when_the_replica_has_it(
    connection: Connection, servers: Servers, name: str
) -> None:
    keys = [f"t:{name}:{i}" for i in range(300)]
    connection.write([("SADD", key, 1) for key in keys])
    held: set[bytes] = set()
    for master in servers.masters():
        held.update(servers.replica_of(master).ask("KEYS", f"t:{name}:*"))
    assert held == {key.encode() for key in keys}
    assert connection.stats.unreplicated == 0
    assert set(connection.scan("lookalike-fence:*")) == set()


def test_more_replicas_than_there_are_is_an_error(servers: Servers, name: str) -> None:
    demanding = Connection.open(ClusterURI.parse(servers.uri(name)), deadline=1.5, replicas=2)
    with pytest.raises(ClusterError, match="1 of 2 replicas acknowledged"):
        demanding.write([("SADD", f"t:{name}", 1)])
    demanding.close()


def test_a_silent_replica_is_an_error_even_when_the_write_is_repeated(
    servers: Servers, name: str
) -> None:
    # The second connection writes nothing, for the member is there: WAIT alone would return 1.
    key = f"t:{name}:set"
    replica = servers.replica_of(servers.master_of(key))
    servers.freeze(replica)
    try:
        for _ in range(2):
            connection = Connection.open(ClusterURI.parse(servers.uri(name)), deadline=1)
            with pytest.raises(ClusterError, match="0 of 1 replicas acknowledged"):
                connection.write([("SADD", key, 1)])
            connection.close()
    finally:
        servers.thaw(replica)
    servers.wait_whole()


def test_a_primary_without_replica_is_counted_and_noted_once(
    connection: Connection, servers: Servers, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"t:{name}:lonely"
    master = servers.master_of(key)
    servers.kill(servers.replica_of(master))
    try:
        with caplog.at_level(logging.WARNING, "lookalike.cluster"):
            begun = time.monotonic()
            for turn in range(5):
                connection.write([("SET", key, turn), ("APPEND", key, "")])
            took = time.monotonic() - begun
        assert connection.stats.unreplicated == 10
        assert [record.getMessage()[: len(master.address) + 15] for record in caplog.records] == [
            f"{master.address} has no replica"
        ]
        assert took < 2.5  # WAIT runs into its time-out once, not five times
    finally:
        servers.heal()
    connection.write([("SET", key, "again")])
    assert connection.stats.unreplicated == 10


# opening


def test_a_port_where_nobody_listens_is_named_with_a_remedy() -> None:
    port = free_port()
    message = refused(f"{HOST}:{port}")
    assert f"127.0.0.1:{port}: Error 111" in message
    assert f"valkey-cli -h 127.0.0.1 -p {port} ping" in message


def test_the_second_host_is_tried_when_the_first_is_silent(servers: Servers) -> None:
    uri = ClusterURI.parse(f"valkey://{HOST}:{free_port()},{servers.address}/n")
    opened = Connection.open(uri)
    assert len(opened.primaries()) == 3
    opened.close()


def test_an_ipv6_address_keeps_its_brackets_in_messages() -> None:
    port = free_port()
    message = refused(f"[::1]:{port}", ":secret@")
    assert message.startswith(f"no server of valkey://:***@[::1]:{port}/n answers ([::1]:{port}: ")
    assert f"valkey-cli -h ::1 -p {port}" in message


def test_an_unknown_host_is_named() -> None:
    message = refused("no-such-host.invalid:7000")
    assert message.startswith("no server of valkey://no-such-host.invalid:7000/n answers")


def test_a_single_server_is_no_cluster(single: Node) -> None:
    message = refused(single.address)
    assert f"{single.address} is a single server" in message
    assert "valkey-cli --cluster create" in message


def test_servers_that_were_not_joined_are_no_cluster_yet(tmp_path: Path) -> None:
    node = Node(tmp_path / "0", "--cluster-enabled yes")
    try:
        message = refused(node.address)
    finally:
        node.kill()
    assert "16384 of 16384 slots have no server" in message


def test_a_missing_wrong_or_needless_password_is_told_apart(single: Node) -> None:
    assert f"{single.address} wants no password" in refused(single.address, ":secret@")
    single.ask("CONFIG", "SET", "requirepass", "right")
    try:
        assert f"{single.address} wants a password; give it as" in refused(single.address)
        wrong = refused(single.address, ":secret@")
        assert f"{single.address} refuses the login" in wrong
        assert "secret" not in wrong
        assert "is a single server" in refused(single.address, ":right@")
    finally:
        single.client.execute_command("AUTH", "right")
        single.ask("CONFIG", "SET", "requirepass", "")


def test_tls_asked_of_a_plain_server_is_explained(single: Node) -> None:
    message = refused(single.address, ":secret@", "valkeys")
    assert "if it does not speak TLS write valkey:// instead of valkeys://" in message
    assert "secret" not in message


def answering(handle: Callable[[bytes], bytes]) -> tuple[int, socket.socket]:
    """A port that answers what it receives with `handle`, or hangs up on an empty answer."""
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        try:
            while True:
                peer, _ = listener.accept()
                with peer:
                    while (data := peer.recv(65536)) and (answer := handle(data)):
                        peer.sendall(answer)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1]), listener


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (b"redis_version:6.0.16\r\ncluster_enabled:1\r\n", "runs redis 6.0.16; a gallery needs"),
        (b"redis_version:7.2.4\r\nvalkey_version:7.1.0\r\n", "runs valkey 7.1.0; a gallery needs"),
        (b"redis_version:6.2.0\r\ncluster_enabled:0\r\n", "is a single server"),
        (b"nothing:known\r\n", "runs redis of an unknown version"),
    ],
)
def test_too_old_a_server_is_refused_with_both_versions(info: bytes, message: str) -> None:
    port, listener = answering(lambda _: b"$%d\r\n%b\r\n" % (len(info), info))
    with listener:
        assert f"127.0.0.1:{port} {message}" in refused(f"{HOST}:{port}")


def test_a_server_that_speaks_something_else_is_an_error() -> None:
    port, listener = answering(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with listener:
        assert f"127.0.0.1:{port}: Protocol error" in refused(f"{HOST}:{port}")


def test_a_server_that_hangs_up_may_want_tls() -> None:
    port, listener = answering(lambda _: b"")
    with listener:
        assert "if it speaks TLS write valkeys://" in refused(f"{HOST}:{port}")


def test_primaries_that_cannot_be_reached_where_they_say_are_named(single: Node) -> None:
    elsewhere = free_port()
    info = b"redis_version:7.2.4\r\nvalkey_version:9.1.0\r\ncluster_enabled:1\r\n"
    slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % elsewhere
    port, listener = answering(
        lambda data: slots if b"SLOTS" in data else b"$%d\r\n%b\r\n" % (len(info), info)
    )
    with listener:
        message = refused(f"{HOST}:{port}")
    assert f"127.0.0.1:{elsewhere}: Error 111" in message
    assert "cluster-announce-ip" in message
