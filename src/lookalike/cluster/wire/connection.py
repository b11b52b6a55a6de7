"""Commands for a Valkey Cluster: each goes to the owner of its key, until it is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from threading import Lock
from typing import Any

from valkey.exceptions import ValkeyError

from lookalike.cluster.uri import ClusterURI, joined
from lookalike.cluster.wire.health import ask, first_view, look_around
from lookalike.cluster.wire.outcome import Outcome, passes, refusal
from lookalike.cluster.wire.pipeline import exchange, pieces
from lookalike.cluster.wire.pools import Pools
from lookalike.cluster.wire.replication import Replication
from lookalike.cluster.wire.stats import Stats
from lookalike.cluster.wire.topology import Address, Command, Topology, slot_of
from lookalike.errors import ClusterError

__all__ = ["Connection", "Stats"]

_ROUND_SECONDS, _LEAST_PATIENCE = 5.0, 0.5
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_HASTY_PASSES = 3


class Connection:
    """Access to a cluster, from `open`. Threads may share it.

    Commands have exactly one key, their first argument, and are idempotent: one may be carried out
    twice when a server does it and fails before it can say so.
    """

    def __init__(
        self, uri: ClusterURI, pools: Pools, topology: Topology, deadline: float, replicas: int
    ) -> None:
        self.uri = uri
        self.stats = Stats()
        self._pools = pools
        self._topology = topology
        self._deadline = deadline
        self._replication = Replication(replicas, self.stats)
        self._lock = Lock()
        self._closed = False

    @classmethod
    def open(cls, uri: ClusterURI, *, deadline: float = 30.0, replicas: int = 1) -> Connection:
        """Connect to the cluster that one of the hosts in `uri` belongs to.

        `deadline`: seconds without any progress after which a call gives up. `replicas`: how many
        must have what `write` wrote before it returns.

        ClusterError when no host answers, or one is no cluster, too old, refuses the login, or
        does not speak TLS as `uri` says; GalleryError is its base. The message names the remedy.
        """
        pools = Pools(uri)
        try:
            topology = first_view(uri, pools, time.monotonic() + deadline)
        except BaseException:
            pools.close()
            raise
        return cls(uri, pools, topology, deadline, replicas)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Carry out commands and return their replies in order.

        Each server gets all of its commands at once. What fails for a reason that passes (a server
        dies, slots move) is sent again, to whoever owns the key by then. ClusterError if that does
        not help within the deadline, or at once for an answer that would not change.
        """
        return self._carry_out(commands, writing=False)

    def write(self, commands: Sequence[Command]) -> list[Any]:
        """As `run`; returns when replicas have it all.

        Where a primary has no replica at all, its commands are counted in `stats.unreplicated`, and
        the first time is logged.
        """
        return self._carry_out(commands, writing=True)

    def primaries(self) -> list[str]:
        """host:port of the servers that own slots, as last heard."""
        return [joined(*address) for address in self._topology.primaries]

    def scan(self, pattern: bytes | str) -> Iterator[bytes]:
        """All keys that match a glob pattern, from all primaries, in no order.

        A key may come twice. Keys that are there from beginning to end are not missed, unless
        their slots move to another server meanwhile.
        """
        done: set[Address] = set()
        failures = 0
        end = time.monotonic() + self._deadline
        while rest := [owner for owner in self._topology.primaries if owner not in done]:
            self._check_open()
            topology, address, cursor = self._topology, rest[0], b"0"
            try:
                while address not in done:
                    command = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", 1000)
                    limit = min(end, time.monotonic() + _ROUND_SECONDS)
                    cursor, keys = ask(self._pools, address, command, limit)
                    yield from keys
                    end = time.monotonic() + self._deadline
                    if cursor == b"0":
                        done.add(address)
            except (ValkeyError, OSError) as error:
                if not passes(error):
                    raise refusal(None, address, error) from error
                failures += 1
                self._pause(failures, end)
                if time.monotonic() >= end:
                    raise self._late({address: str(error)}, "the list of keys") from error
                self._refresh(topology, {address}, end)

    def close(self) -> None:
        """Close the connections. Calls that other threads have begun are finished."""
        self._closed = True
        self._pools.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterError(f"the connection to {self.uri} has been closed; open it again")

    def _carry_out(self, commands: Sequence[Command], *, writing: bool) -> list[Any]:
        self._check_open()
        slots = [slot_of(command) for command in commands]
        replies: list[Any] = [None] * len(commands)
        waiting: Sequence[int] = range(len(commands))
        asks: Mapping[int, Address] = {}
        failed_at: dict[int, float] = {}
        end = time.monotonic() + self._deadline
        failures = 0
        while True:
            topology = self._topology
            outcome = Outcome(commands, slots, replies, self.stats)
            begun = time.monotonic()
            patience = min(_ROUND_SECONDS, max(end - begun, _LEAST_PATIENCE))
            self._send_once(topology, outcome, waiting, asks, writing, patience)
            now = time.monotonic()
            if failed_at:
                self._note_recoveries(failed_at, outcome.again, now)
            if not outcome.again:
                return replies
            failures += 1
            if len(outcome.again) < len(waiting):
                end = now + self._deadline
            elif now >= end:
                raise self._late(
                    outcome.trouble, f"{len(outcome.again)} of {len(commands)} commands"
                )
            waiting, asks = sorted(outcome.again), outcome.asks
            failed_at.update((n, begun) for n in waiting if n not in failed_at)
            self.stats.retries += len(waiting)
            if outcome.trouble or failures > _HASTY_PASSES:
                self._pause(failures, end)
                self._refresh(topology, outcome.down, end)
            elif outcome.moves:
                self._apply(outcome.moves)

    def _send_once(
        self,
        topology: Topology,
        outcome: Outcome,
        waiting: Sequence[int],
        asks: Mapping[int, Address],
        writing: bool,
        patience: float,
    ) -> None:
        """Send every waiting command once, piece by piece, to all servers at a time."""
        shares: dict[tuple[Address, bool], list[int]] = {}
        for number in waiting:
            asked = asks.get(number)
            owner = asked or topology.owners[outcome.slots[number]]
            if owner is None:
                outcome.fail([number], None, f"no server owns slot {outcome.slots[number]}")
            else:
                shares.setdefault((owner, asked is not None), []).append(number)
        queues = [
            pieces(address, numbers, outcome.commands, asking)
            for (address, asking), numbers in shares.items()
        ]
        questions = self._replication.questions
        for row in zip_longest(*queues):
            sent = [piece for piece in row if piece and piece.address not in outcome.down]
            more = [
                questions(piece, outcome.slots, topology, patience) if writing else []
                for piece in sent
            ]
            end = time.monotonic() + patience
            results = exchange(self._pools, list(zip(sent, more, strict=True)), end)
            for piece, result in zip(sent, results, strict=True):
                doubt = None
                if writing and not isinstance(result, Exception):
                    doubt = self._replication.doubt(piece, result[len(piece.numbers) :])
                outcome.settle(piece, result, doubt)
            for piece in row:
                if piece and piece not in sent:  # its server would cost the same wait once more
                    outcome.again.extend(piece.numbers)

    def _note_recoveries(
        self, failed_at: dict[int, float], again: Sequence[int], now: float
    ) -> None:
        for number in set(failed_at).difference(again):
            took = now - failed_at.pop(number)
            self.stats.slowest_recovery_seconds = max(self.stats.slowest_recovery_seconds, took)

    def _pause(self, failures: int, end: float) -> None:
        seconds = min(_SHORTEST_PAUSE * 2 ** min(failures, 10), _LONGEST_PAUSE)
        time.sleep(max(0.0, min(seconds, end - time.monotonic())))

    def _apply(self, moves: dict[int, Address]) -> None:
        with self._lock:
            self._topology = self._topology.moved(moves)

    def _refresh(self, seen: Topology, down: set[Address], end: float) -> None:
        """Ask a server for its view, unless another thread has since `seen` was current."""
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            return
        try:
            if self._topology is seen:
                view = look_around(self.uri, self._pools, seen.nodes, down, end)
                self._topology = view or seen
        finally:
            self._lock.release()

    def _late(self, trouble: Mapping[Address | None, str], what: str) -> ClusterError:
        complaints = "; ".join(
            f"{joined(*address)}: {why}" if address else why for address, why in trouble.items()
        )
        complaints = complaints or "each server names another as the owner"
        host, port = self._topology.primaries[0] if self._topology.primaries else self.uri.hosts[0]
        return ClusterError(
            f"{what} got no answer within {self._deadline:g} s ({complaints}). See which servers "
            f"fail with `valkey-cli -h {host} -p {port} cluster nodes`, start them or let replicas "
            "take over, then try again"
        )
