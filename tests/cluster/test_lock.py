"""One writer of a collection at a time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from servers import Servers

from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import GalleryLockedError


@pytest.fixture
def connection(servers: Servers, name: str) -> Iterator[Connection]:
    opened = Connection.open(ClusterURI.parse(servers.uri(name)))
    yield opened
    opened.close()


def test_a_second_writer_is_told_who_the_first_is(connection: Connection, name: str) -> None:
    with WriterLock(connection, name), pytest.raises(GalleryLockedError) as caught:
        WriterLock(connection, name).__enter__()
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)
    with WriterLock(connection, name):
        pass  # it was given back


def test_a_writer_can_wait_for_another(connection: Connection, name: str) -> None:
    first = WriterLock(connection, name)
    first.__enter__()
    timer = threading.Timer(0.3, first.__exit__, (None, None, None))
    timer.start()
    with WriterLock(connection, name, wait=20):
        timer.join(5)
        assert not timer.is_alive()


def test_the_lock_of_a_process_that_is_gone_is_taken_over(
    connection: Connection, name: str
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    connection.write([("SET", f"w:{name}", f"{socket.gethostname()}:{gone.pid}:x", "PX", 60_000)])
    with WriterLock(connection, name):
        pass
    connection.write([("SET", f"w:{name}", f"elsewhere:{gone.pid}:x", "PX", 60_000)])
    with pytest.raises(GalleryLockedError, match=f"process {gone.pid} on elsewhere"):
        WriterLock(connection, name).__enter__()
    connection.run([("DEL", f"w:{name}")])


def test_a_writer_whose_lock_was_taken_is_told(
    connection: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.cluster.collection.lock.LEASE", 0.4)
    with WriterLock(connection, name) as lock:
        connection.write([("SET", f"w:{name}", "elsewhere:1:x", "PX", 60_000)])
        with pytest.raises(GalleryLockedError, match="process 1 on elsewhere writes"):
            for _ in range(100):
                threading.Event().wait(0.05)
                lock.renew()
    connection.run([("DEL", f"w:{name}")])


def test_a_lock_is_held_for_longer_than_its_lease(
    connection: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.cluster.collection.lock.LEASE", 0.8)
    with WriterLock(connection, name) as lock:
        threading.Event().wait(1.6)
        with pytest.raises(GalleryLockedError):
            WriterLock(connection, name).__enter__()
        lock.renew()
