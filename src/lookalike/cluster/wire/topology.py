"""Which server owns which slot, and how a key is given a slot."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from valkey.crc import VALKEY_CLUSTER_HASH_SLOTS, key_slot

__all__ = ["SLOTS", "Address", "Argument", "Command", "Topology", "key_in", "slot_of"]

SLOTS = VALKEY_CLUSTER_HASH_SLOTS
Address = tuple[str, int]
Argument = bytes | str | int
Command = tuple[Argument, ...]


def slot_of(command: Command) -> int:
    """The slot of the key at position 1, but at 2 of MEMORY USAGE."""
    key = command[2 if command[0] == "MEMORY" else 1]
    if not isinstance(key, bytes):
        key = str(key).encode()
    return int(key_slot(key))


def key_in(wanted: Callable[[int], bool]) -> bytes:
    """A key of no collection, any whose slot is `wanted`; there must be such a slot."""
    start = random.randrange(1_000_000)
    return next(
        key for key in (b"lookalike-fence:%d" % i for i in count(start)) if wanted(key_slot(key))
    )


@dataclass(frozen=True)
class Topology:
    """One server's view of the cluster; immutable."""

    owners: tuple[Address | None, ...]
    """(16384) the primary of each slot, None where nobody has it."""
    nodes: frozenset[Address]
    """All servers, replicas too."""

    @classmethod
    def parse(cls, reply: Sequence[Any], asked: Address) -> Topology:
        """From the reply to CLUSTER SLOTS of the server `asked`, which may leave its host out."""
        owners: list[Address | None] = [None] * SLOTS
        nodes: set[Address] = {asked}
        for first, last, *servers in reply:
            addresses = [
                ((host or b"").decode() or asked[0], int(port)) for host, port, *_ in servers
            ]
            nodes.update(addresses)
            owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
        return cls(tuple(owners), frozenset(nodes))

    @property
    def primaries(self) -> list[Address]:
        """The servers that own slots, sorted."""
        return sorted({owner for owner in self.owners if owner is not None})

    @property
    def unowned(self) -> int:
        """How many slots nobody owns."""
        return self.owners.count(None)

    def moved(self, slots: dict[int, Address]) -> Topology:
        """The same with other owners of some slots."""
        owners = list(self.owners)
        for slot, owner in slots.items():
            owners[slot] = owner
        return replace(self, owners=tuple(owners), nodes=self.nodes.union(slots.values()))
