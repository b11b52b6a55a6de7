"""Shards in this process: what `lookalike.cluster.client.Shards` asks of actors, without Ray."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lookalike.cluster.deployment import Deployment
from lookalike.cluster.parts import Parts
from lookalike.cluster.shard import Place, Shard

__all__ = ["InProcess"]


class InProcess:
    """All shards of the parts in ``where``, built now."""

    name = "inprocess"

    def __init__(self, where: str, shards: int, cache: Path) -> None:
        job = Parts.open(where).job
        self.deployment = Deployment(
            id="inprocess",
            where=where,
            shards=shards,
            replicas=1,
            cpus=1,
            memory=0,
            threads=1,
            cache=str(cache),
            model=job.model.as_dict(),
            root=job.root,
        )
        places = (Place(where, number, shards, 0, str(cache)) for number in range(shards))
        self.shards = [Shard(place) for place in places]
        for shard in self.shards:
            shard.catch_up()

    def ask(
        self,
        question: str,
        *arguments: Any,
        of: Iterable[int] | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> list[Any]:
        asked = range(len(self.shards)) if of is None else of
        return [self.shards[n].ask(question, *arguments, **options)[1] for n in asked]

    def announce(self, version: int, seconds: float) -> list[str]:
        """At once where actors would do it beside."""
        for shard in self.shards:
            assert shard.catch_up() >= version
        return []

    def close(self) -> None:
        for shard in self.shards:
            shard.close()
