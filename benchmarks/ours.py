"""The index of this project behind the interface of the peers."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product

import numpy as np
from deep216k import Floats, Ids
from memory import index_bytes
from peers import Peer, Setting

from lookalike.lsh import LSHIndex, LSHSettings

__all__ = ["OURS", "Ours", "Tuned"]

CANDIDATES = (500, 1000, 2000, 3000, 4500, 6000, 8000, 10_000, 12_000, 15_000, 20_000, 40_000)
RERANK = (15, 20, 30, 50, 80, 100, 120, 160, 250, 400)
BEAMS = (12, 16, 20, 24, 26, 28, 32, 40, 48, 64, 96)
PAPER_CANDIDATES = (1000, 4000, 15_000, 60_000)
PAPER_RERANK = (100, 400)
Make = Callable[[int], LSHSettings]


class Ours(Peer):
    """Settings are (candidates, re-rank); zero stands for the default."""

    knobs: tuple[str, ...] = ("candidates", "re-rank")
    cached = False

    def __init__(
        self,
        name: str,
        make: Make,
        grid: list[Setting],
        *,
        limit: int = Peer.limit,
        builds: int = 1,
    ) -> None:
        self.name, self.make, self.grid = name, make, grid
        self.limit, self.builds = limit, builds

    def build(self, items: Floats, threads: int) -> None:
        """Hashing uses every core that the process may run on; one thread means one core."""
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(cores)[:threads])
        try:
            self.index = LSHIndex(settings=self.make(items.shape[1]))
            self.index.add(np.arange(len(items)), items)
        finally:
            os.sched_setaffinity(0, cores)

    def settings(self, items: int) -> list[Setting]:
        return [setting for setting in self.grid if setting[0] <= items]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        candidates, rerank = (value or None for value in setting)
        found = self.index.search(queries, k, candidates=candidates, rerank=rerank, threads=1)
        return found.ids

    def nbytes(self) -> int:
        return index_bytes(self.index)


class Linked(Ours):
    """With links between near items; a setting is how many of them are followed."""

    knobs = ("beam",)

    def build(self, items: Floats, threads: int) -> None:
        super().build(items, threads)
        self.index.link()

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        return self.index.search(queries, k, beam=setting[0], threads=1).ids


class Tuned(Ours):
    """Structure and depth chosen by ``LSHIndex.tune``; searched with no settings at all."""

    def tune(self, target: float, k: int, queries: Floats) -> None:
        self.index.tune(target, k, queries=queries)


def _codes_only(dim: int) -> LSHSettings:
    return LSHSettings(dim, vectors="none")


OURS: tuple[Ours, ...] = (
    Ours("ours, default", LSHSettings, [(0, 0)], builds=3),
    Tuned("ours, tuned", LSHSettings, [(0, 0)]),
    Linked("ours, linked", LSHSettings, [(beam,) for beam in BEAMS]),
    Ours("ours, curve", LSHSettings, list(product(CANDIDATES, RERANK))),
    Ours("ours, codes only", _codes_only, list(product(CANDIDATES, (0,)))),
    Ours(
        "ours, the paper's scheme",
        LSHSettings.paper,
        list(product(PAPER_CANDIDATES, PAPER_RERANK)),
        limit=100,
    ),
)
