"""Whether replicas have what a connection wrote."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any

from lookalike.cluster.uri import joined
from lookalike.cluster.wire.pipeline import ASKING, Piece, pack
from lookalike.cluster.wire.stats import Stats
from lookalike.cluster.wire.topology import Address, Topology, key_in

__all__ = ["Replication"]

log = logging.getLogger("lookalike.cluster")

_WAIT_SECONDS = 1.0
_ROLE = pack((b"ROLE",))


class Replication:
    """Asks for the acknowledgement of replicas, and judges it.

    WAIT speaks of what its own connection wrote last. A command that is repeated after a failure
    and finds its work done writes nothing; WAIT alone would then vouch for what no replica has.
    So a key is written and deleted before it (the fence), which replicas hear of in any case.

    Where a primary has no replica, WAIT would take its full time. It is left out there as long as
    ROLE, asked after each write, names none.
    """

    def __init__(self, replicas: int, stats: Stats) -> None:
        self._replicas = replicas
        self._stats = stats
        self._alone: set[Address] = set()
        self._warned = False

    def questions(
        self, piece: Piece, slots: Sequence[int], topology: Topology, patience: float
    ) -> list[bytes]:
        """What to send after `piece`, each one packed command.

        `slots` are those of all commands that the piece's numbers refer to; WAIT takes at most half
        of `patience` seconds.
        """
        if self._replicas == 0:
            return []
        if piece.address in self._alone:
            return [_ROLE]
        if piece.asking:
            slot = slots[random.choice(piece.numbers)]
            key = key_in(lambda other: other == slot)
        else:
            key = key_in(lambda slot: topology.owners[slot] == piece.address)
        fence = [pack((b"SET", key, b"")), pack((b"UNLINK", key))]
        if piece.asking:
            fence = [ASKING, fence[0], ASKING, fence[1]]
        milliseconds = max(1, int(min(_WAIT_SECONDS, patience / 2) * 1000))
        return [*fence, pack((b"WAIT", self._replicas, milliseconds)), _ROLE]

    def doubt(self, piece: Piece, answers: Sequence[Any]) -> str | None:
        """Why the piece does not count as written, from the answers to `questions`, or None."""
        if self._replicas == 0:
            return None
        for answer in answers:
            if isinstance(answer, Exception):
                return str(answer)
        role = answers[-1]
        if role[0] != b"master":
            return "it is no primary any more"
        acknowledged = int(answers[-2]) if len(answers) > 1 else 0
        if acknowledged >= self._replicas:
            return None
        if role[2]:
            self._alone.discard(piece.address)
            return f"{acknowledged} of {self._replicas} replicas acknowledged a write in time"
        self._alone.add(piece.address)
        self._stats.unreplicated += len(piece.numbers)
        if not self._warned:
            self._warned = True
            log.warning(
                "%s has no replica: what is written there is lost if the server is. Add one "
                "(valkey-cli --cluster add-node ... --cluster-slave), or be ready to load the "
                "collection again",
                joined(*piece.address),
            )
        return None
