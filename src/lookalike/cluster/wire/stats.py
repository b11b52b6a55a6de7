"""What a connection to a cluster has been through."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass
class Stats:
    """Counts since the connection was opened. Under many threads they may miss a few."""

    retries: int = 0
    """Commands that were sent again."""
    moved: int = 0
    """Replies that named another server for a key (MOVED, ASK)."""
    reconnects: int = 0
    """Exchanges that ended with a broken or silent connection."""
    unreplicated: int = 0
    """Written commands that no replica has, because their primary has none."""
    slowest_recovery_seconds: float = 0.0
    """The longest time from sending a command that failed until it succeeded."""
