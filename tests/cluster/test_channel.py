"""Calls between a client and a server on this machine, and what either does if the other fails."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing

import pytest
from rays import NETWORK, wait_until

from lookalike.cluster import channel as module
from lookalike.cluster.channel import KEPT, Address, Channel, Pool, Server, ready

HOST = f"{NETWORK}.8"
PATIENT = 30.0


@pytest.fixture
def server() -> Server:
    """Answers with the message, backwards."""
    return Server(HOST, lambda message: bytes(message[::-1]))


def threads(server: Server) -> int:
    """Those in which this server answers; others may be ending what an earlier test began."""
    name = f"lookalike-call-{server.address[1]}"
    return sum(thread.name == name for thread in threading.enumerate())


@pytest.mark.parametrize("size", [0, 1, 100, 5_000_000])
def test_messages_of_any_size_come_back_whole(server: Server, size: int) -> None:
    message = os.urandom(size)
    with closing(Channel.open(server.address, PATIENT)) as channel:
        for _ in range(2):
            channel.send(message)
            assert ready([channel], PATIENT) == [channel]
            assert channel.receive() == message[::-1]
        assert ready([channel], 0.0) == []


def test_many_threads_each_get_their_own_answers(server: Server) -> None:
    pool, wrong = Pool(), list[bytes]()

    def call(number: int) -> None:
        for turn in range(50):
            channel = pool.take("one") or Channel.open(server.address, PATIENT)
            message = b"%d of %d" % (turn, number)
            channel.send(message)
            if channel.receive() != message[::-1]:
                wrong.append(message)
            pool.put("one", channel)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
    pool.drop()


def test_a_client_with_another_key_is_not_answered_and_a_server_with_another_not_believed(
    server: Server,
) -> None:
    other = server.address._replace(key=bytes(32))
    with pytest.raises(ConnectionError, match="closed the connection"):
        Channel.open(other, PATIENT)
    with closing(socket.create_server((HOST, 0))) as listener:
        port = listener.getsockname()[1]

        def pretend() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(bytes(64))
                peer.recv(64)

        thread = threading.Thread(target=pretend)
        thread.start()
        with pytest.raises(ConnectionError, match="does not know the key"):
            Channel.open(Address(HOST, port, server.address.key), PATIENT)
        thread.join()
    with closing(Channel.open(server.address, PATIENT)) as channel:  # still served
        channel.send(b"ab")
        assert channel.receive() == b"ba"


def test_a_client_that_does_not_prove_its_key_in_time_loses_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.05)
    server = Server(HOST, bytes)
    with closing(socket.create_connection(server.address[:2])) as peer:
        assert len(peer.recv(64)) == 32
        assert peer.recv(64) == b""
    wait_until(lambda: threads(server) == 0, 60, "its thread to end")


def test_connections_that_a_client_lets_go_of_are_closed_at_both_ends(server: Server) -> None:
    pool = Pool()
    channels = [Channel.open(server.address, PATIENT) for _ in range(KEPT + 3)]
    for channel in channels:
        pool.put("one", channel)
    kept = [channel.fileno() >= 0 for channel in channels]
    assert kept == [False] * 3 + [True] * KEPT
    wait_until(lambda: threads(server) == KEPT, 60, "those that are too many to end")
    assert pool.take("one") is channels[-1] and pool.take("two") is None
    pool.drop("one")
    assert pool.take("one") is None
    del pool, channel, channels  # also the one that was taken
    wait_until(lambda: threads(server) == 0, 60, "the others to end")
