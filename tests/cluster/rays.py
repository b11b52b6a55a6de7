"""A real Ray cluster on this machine: nodes at 127.0.W.2, 127.0.W.3 and so on in pytest worker W.

Ray listens on all interfaces, whatever address a node has, so the cluster requires a token that is
drawn for each run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["ENVIRONMENT", "NETWORK", "RayNodes", "free_port", "wait_until"]

# Each worker of pytest has hosts of its own: all of 127.0.0.0/8 is this machine.
NETWORK = f"127.0.{os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')}"
START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
OBJECT_STORE_BYTES = 80_000_000  # Ray refuses less than 75 MB
START_SECONDS = 180.0
STOP_SECONDS = 60.0
GRACE_SECONDS = 6.0
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # else a node takes up to 30 s to end
}
"""Of nodes and of who connects to them. Ray reads it once in a process, when it is imported."""


class RayNodes:
    """The nodes, the first of them the head. Use `start`, and `stop` in the end."""

    def __init__(self) -> None:
        # Not pytest's folder: names of sockets below it have at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="rays-"))
        self.address = f"{NETWORK}.2:{free_port()}"
        self.hosts: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def start(cls, count: int, cpus: int = 1) -> Self:
        """A cluster of ``count`` nodes; takes some seconds for each."""
        nodes = cls()
        try:
            for _ in range(count):
                nodes.add(cpus)
        except BaseException:
            nodes.stop()
            raise
        return nodes

    def add(self, cpus: int = 1) -> str:
        """Start one node more; returns its address, without a port."""
        host = f"{NETWORK}.{2 + len(self._processes)}"
        words = [f"--node-ip-address={host}", f"--num-cpus={cpus}", f"--temp-dir={self.folder}"]
        words += ["--include-log-monitor=false", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        words += ["--min-worker-port=0", "--max-worker-port=0"]  # the system's choice: no clashes
        if self._processes:
            words.append(f"--address={self.address}")
        else:
            port = self.address.partition(":")[2]
            words += ["--head", f"--port={port}", "--include-dashboard=false"]
        log_file = self.folder / f"{host}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [*START, *words],
                env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes[host] = process
        self.hosts.append(host)

        def started() -> bool:
            assert process.poll() is None, log_file.read_text()
            return "Ray runtime started" in log_file.read_text()

        wait_until(started, START_SECONDS, f"Ray starts at {host}")
        return host

    def kill(self, host: str) -> None:
        """SIGKILL the node's raylet with all its workers, as if the machine had gone."""
        process = self._processes[host]
        raylet = next(pid for pid in _children(process.pid) if b"/raylet\0" in _command(pid))
        for pid in (raylet, *_descendants(raylet)):
            _signal(pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)  # it ends the node's other processes when it misses the raylet
        self.hosts.remove(host)

    def at_work(self, host: str | None = None) -> list[int]:
        """Pids of the processes that are embedding a chunk, on one node or on all."""
        hosts = self.hosts if host is None else [host]
        found = [pid for name in hosts for pid in _descendants(self._processes[name].pid)]
        return [pid for pid in found if _command(pid).startswith(b"ray::embed_chunk")]

    def freeze(self, host: str | None = None) -> list[int]:
        """Stop the embedding processes in the middle of it, and return their pids."""
        pids = self.at_work(host)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        still = [pid for pid in pids if _command(pid).startswith(b"ray::embed_chunk")]
        for pid in set(pids) - set(still):
            _signal(pid, signal.SIGCONT)
        return still

    def stop(self) -> None:
        """End all nodes, and whatever they have started."""
        started = [pid for p in self._processes.values() for pid in _descendants(p.pid)]
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + GRACE_SECONDS  # a node without its head does not end by itself
        for process in self._processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in started:
            command = _command(pid)  # not of another one that has its pid now
            if os.fsencode(self.folder) in command or command.startswith(b"ray::"):
                _signal(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port that nothing uses now, below those that the system assigns."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("", port))
            return port


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Raises AssertionError with ``what`` if it does not become true in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(word) for file in listed for word in file.read_text().split()]
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    children = _children(pid)
    return [*children, *(below for child in children for below in _descendants(child))]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
