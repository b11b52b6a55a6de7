"""Commands sent to many servers at once: all are written before the first reply is read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import libvalkey
from valkey.exceptions import ResponseError, ValkeyError

from lookalike.cluster.wire.pools import Pools
from lookalike.cluster.wire.topology import Address, Command

__all__ = ["ASKING", "Piece", "exchange", "pack", "pieces"]

_PIECE_COMMANDS = 512
_PIECE_BYTES = 1 << 18
_LEAST_SECONDS = 0.1
ASKING = libvalkey.pack_command((b"ASKING",))


class Piece(NamedTuple):
    """Commands for one server, few enough that their replies need little memory on either side."""

    address: Address
    numbers: list[int]
    """Positions of the commands in the caller's list."""
    packed: list[bytes]
    """The same commands as the server wants them."""
    asking: bool = False
    """Each goes with ASKING: its slot is on the way to this server."""


def pack(command: Command) -> bytes:
    """A command as the server wants it. TypeError for arguments but bytes, str and int."""
    return bytes(libvalkey.pack_command(command))


def pieces(
    address: Address, numbers: Sequence[int], commands: Sequence[Command], asking: bool
) -> Iterator[Piece]:
    """Cut the commands that `numbers` name into pieces for one server, in order."""
    taken: list[int] = []
    packed: list[bytes] = []
    size = 0
    for number in numbers:
        data = libvalkey.pack_command(commands[number])
        if taken and (len(taken) == _PIECE_COMMANDS or size + len(data) > _PIECE_BYTES):
            yield Piece(address, taken, packed, asking)
            taken, packed, size = [], [], 0
        taken.append(number)
        packed.append(data)
        size += len(data)
    if taken:
        yield Piece(address, taken, packed, asking)


def exchange(
    pools: Pools, requests: Sequence[tuple[Piece, list[bytes]]], end: float
) -> list[list[Any] | Exception]:
    """Send pieces, each followed by more commands on the same connection, and read all replies.

    `end` is in the time of `time.monotonic`. For each piece the result is a list of replies, those
    to its commands first, where a reply may be an exception that the server answered with; or one
    exception, if the connection failed and nothing is known. A connection that was not read to its
    end is closed, so that no later call reads replies that are not its own.
    """
    flights = [_Flight(pools.of(piece.address), piece, more) for piece, more in requests]
    try:
        for flight in flights:
            flight.send(end)
        return [flight.read(end) for flight in flights]
    finally:
        for flight in flights:
            flight.finish()


class _Flight:
    """One piece on its way over one connection."""

    def __init__(self, pool: Any, piece: Piece, more: list[bytes]) -> None:
        self._pool, self._piece, self._more = pool, piece, more
        self._connection: Any = None
        self._failure: Exception | None = None
        self._complete = False

    def send(self, end: float) -> None:
        try:
            self._connection = self._pool.get_connection("")
            self._limit(end)
            # A string that joins all is sent by one system call.
            before = ASKING if self._piece.asking else b""
            data = before + before.join(self._piece.packed) + b"".join(self._more)
            self._connection.send_packed_command([data], check_health=False)
        except (ValkeyError, OSError) as error:
            self._failure = error

    def read(self, end: float) -> list[Any] | Exception:
        if self._failure is not None:
            return self._failure
        asking = self._piece.asking
        count = len(self._piece.packed) * (1 + asking) + len(self._more)
        replies: list[Any] = []
        read = self._connection.read_response
        try:
            self._limit(end)
            for _ in range(count):
                try:
                    replies.append(read())
                except ResponseError as error:
                    replies.append(error)
        except (ValkeyError, OSError) as error:
            return error
        self._complete = True
        if asking:
            del replies[: 2 * len(self._piece.packed) : 2]
        return replies

    def finish(self) -> None:
        if self._connection is not None:
            if not self._complete:
                self._connection.disconnect()
            self._pool.release(self._connection)

    def _limit(self, end: float) -> None:
        """Let no system call on the connection last beyond `end`, or no longer than a moment."""
        self._connection._sock.settimeout(max(end - time.monotonic(), _LEAST_SECONDS))
