"""What became of commands that were sent: answered, to be sent again, or refused for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from valkey.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from lookalike.cluster.uri import joined
from lookalike.cluster.wire.pipeline import Piece
from lookalike.cluster.wire.stats import Stats
from lookalike.cluster.wire.topology import Address, Command
from lookalike.errors import ClusterError

__all__ = ["Outcome", "passes", "refusal"]

_PASSING = (ClusterDownError, ReadOnlyError, TryAgainError)  # the first includes MASTERDOWN
_PASSING_WORDS = ("NOREPLICAS", "BUSY")


@dataclass
class Outcome:
    """The result of sending each waiting command once."""

    commands: Sequence[Command]
    slots: Sequence[int]
    replies: list[Any]
    """Filled in where a command was answered."""
    stats: Stats
    again: list[int] = field(default_factory=list)
    """Numbers of the commands that must be sent again."""
    asks: dict[int, Address] = field(default_factory=dict)
    """Where ASK sends some of these, once."""
    moves: dict[int, Address] = field(default_factory=dict)
    """Slots with the owners that MOVED names."""
    down: set[Address] = field(default_factory=set)
    """Servers that broke a connection or kept silent."""
    trouble: dict[Address | None, str] = field(default_factory=dict)
    """The last complaint about or from each server; None for slots without one."""

    def fail(self, numbers: Sequence[int], address: Address | None, why: object) -> None:
        """Note that commands must be sent again, and whose fault that is."""
        self.again.extend(numbers)
        self.trouble[address] = str(why)

    def settle(self, piece: Piece, result: list[Any] | Exception, doubt: str | None) -> None:
        """Take in what `exchange` returned for a piece.

        `doubt` says why its writes do not count. ClusterError for an answer that no repetition
        would change.
        """
        if isinstance(result, Exception):
            if not passes(result):
                raise refusal(None, piece.address, result)
            self.fail(piece.numbers, piece.address, result)
            self.down.add(piece.address)
            self.stats.reconnects += 1
            return
        for number, reply in zip(piece.numbers, result, strict=False):
            if isinstance(reply, Exception):
                self._judge(number, piece.address, reply)
            elif doubt is None:
                self.replies[number] = reply
            else:
                self.fail([number], piece.address, doubt)

    def _judge(self, number: int, address: Address, error: Exception) -> None:
        if isinstance(error, AskError):  # MovedError is one
            target = (error.host or address[0], error.port)
            if isinstance(error, MovedError):
                self.moves[self.slots[number]] = target
            else:
                self.asks[number] = target
            self.stats.moved += 1
            self.again.append(number)
        elif passes(error):
            self.fail([number], address, error)
        else:
            raise refusal(self.commands[number], address, error)


def passes(error: Exception) -> bool:
    """Whether the same command may succeed later."""
    if isinstance(error, ResponseError):
        return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)
    return not isinstance(error, AuthenticationError)


def refusal(command: Command | None, address: Address, error: Exception) -> ClusterError:
    """The error for an answer that is final. Of the command it shows name and key."""
    where = joined(*address)
    if isinstance(error, AuthenticationError):
        return ClusterError(
            f"{where} refuses the login ({error}); give user and password as in "
            "valkey://user:password@host/name, the same for all servers"
        )
    if isinstance(error, OutOfMemoryError):
        return ClusterError(
            f"{where} has no memory left ({error}); raise its maxmemory, add servers and "
            "rebalance, or load the collection in the packed layout and without vectors; then do "
            "the same again"
        )
    shown = " ".join(_text(part) for part in (command or ())[:2])
    return ClusterError(f"{where} refuses {shown}: {error}")


def _text(part: bytes | str | int) -> str:
    text = part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else str(part)
    return text if len(text) <= 80 else f"{text[:80]}..."
